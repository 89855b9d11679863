"""Measures the best rates of this machine with TensorFlow, inside the worker's process.

Only `bench.worker.serve` imports this module, because it imports TensorFlow.
`bench.analysis.roofline` defines the numbers and makes limits of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bench.schema.ceilings import Ceilings, products_key
from bench.schema.requests import CeilingsRequest
from bench.worker.counting import dense_layers
from bench.worker.tensorflow.device import TensorFlowDevice
from bench.worker.training import keras_policy
from fmnist_models.dataset import TrainingData
from fmnist_models.errors import UserError
from fmnist_models.task import task_of

# A reading is the best of WINDOWS windows of at least WINDOW_S: a peak, not an average. Calls that
# are longer than a window are measured LONG_WINDOWS times.
WINDOWS, LONG_WINDOWS = 5, 3
WINDOW_S = 0.02
PRODUCT_SIZES = (256, 512, 1024, 2048, 4096)
# Working sets of the triad, from one that fits a core's own cache to one that fits hardly any.
TRIAD_BYTES = tuple(2**power for power in (18, 20, 22, 24, 26, 29))
TRIAD_CALL_BYTES = 2**30
PATHS = {"plain": False, "xla": True}

Layers = Sequence[tuple[int, int]]


def measure_ceilings(request: CeilingsRequest, data: TrainingData) -> Ceilings:
    """The peaks of one setting of this machine, and the products-only epochs of its cases.

    Raises:
        Unavailable: the device is missing or does not support the precision.
    """
    device = TensorFlowDevice(tf, request.device, request.precision)
    device.configure()
    keras.config.set_dtype_policy(keras_policy(request.precision))
    dtype = tf.as_dtype(keras.config.dtype_policy().compute_dtype)
    epochs: dict[str, tuple[Layers, int]] = {}
    for name, batch_size in request.cases:
        try:
            task = task_of(name)
            layers = dense_layers(task.model) if task.images else None
        except UserError:
            # The row of that case reports the error; the other cases keep their ceilings.
            continue
        if layers is not None:
            epochs[products_key(layers, batch_size)] = (layers, batch_size)
    with tf.device(device.name):
        x = tf.cast(tf.constant(data.train_x.reshape(len(data.train_x), -1)), dtype)
        return Ceilings(
            request.device,
            request.precision,
            request.threads,
            request.moment,
            {path: _product_rate(jit, dtype, device) for path, jit in PATHS.items()},
            {str(size): _triad_rate(size, device) for size in TRIAD_BYTES},
            {key: _products_epoch_s(x, *epoch, device) for key, epoch in epochs.items()},
        )


def _product_rate(jit: bool, dtype: tf.DType, device: TensorFlowDevice) -> float:
    """FLOP/s of square products: the best of all sizes that fit into a window."""
    product = tf.function(tf.matmul, jit_compile=jit, autograph=False)
    best = 0.0
    for size in PRODUCT_SIZES:
        a = tf.cast(tf.random.uniform((size, size)), dtype)
        seconds = _seconds(partial(product, a, a), device)
        best = max(best, 2 * size**3 / seconds)
        if seconds > WINDOW_S:
            break
    return best


def _triad_rate(working_set_bytes: int, device: TensorFlowDevice) -> float:
    """Bytes/s of b = b + s c over two float32 arrays that take `working_set_bytes` together.

    Each element is read twice and written once, in place, like an optimizer's slots. One call makes
    many passes, because a pass over a small array takes less time than its dispatch.
    """
    b = tf.random.uniform((working_set_bytes // 8,))
    c = b + 1.0
    moved = 3 * working_set_bytes // 2
    passes = max(1, TRIAD_CALL_BYTES // moved)

    def triad(b: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
        """All passes of one call."""

        def turn(number: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """One pass over the arrays."""
            return number + 1, b + 1e-9 * c

        return tf.while_loop(lambda number, _: number < passes, turn, (tf.constant(0), b))[1]

    best = 0.0
    for jit in PATHS.values():
        call = tf.function(triad, jit_compile=jit, autograph=False)
        best = max(best, passes * moved / _seconds(partial(call, b, c), device))
    return best


def _products_epoch_s(
    x: tf.Tensor, layers: Layers, batch_size: int, device: TensorFlowDevice
) -> float:
    """Seconds of an epoch that computes every matrix product of its steps and nothing else."""
    random = np.random.default_rng(0)
    kernels = [
        tf.cast(tf.constant(random.normal(size=shape) / shape[0] ** 0.5), x.dtype)
        for shape in layers
    ]
    best = float("inf")
    for jit in PATHS.values():
        epoch = tf.function(products_epoch(batch_size), jit_compile=jit, autograph=False)
        best = min(best, _seconds(partial(epoch, x, kernels), device))
    return best


def products_epoch(batch_size: int) -> Callable[[tf.Tensor, list[tf.Tensor]], list[tf.Tensor]]:
    """A function that computes all products of an epoch from the images, in order, and kernels.

    Each product takes the result of the one before, without bias, activation or loss. The loop
    carries each step's weight gradients, so XLA cannot leave them out. Every step reads other
    images, so no step can be computed once for all.
    """

    def epoch(x: tf.Tensor, kernels: list[tf.Tensor]) -> list[tf.Tensor]:
        """Compute all products of the epoch; returns the last step's weight gradients."""
        samples, width = x.shape
        full, rest = divmod(samples, batch_size)

        def turn(step: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            """The products of one step."""
            batch = tf.slice(x, [step * batch_size, 0], [batch_size, width])
            return (step + 1, *_step_products(batch, kernels))

        start = (tf.constant(0), *map(tf.zeros_like, kernels))
        gradients = list(tf.while_loop(lambda step, *_: step < full, turn, start)[1:])
        if rest:
            gradients += _step_products(x[full * batch_size :], kernels)
        return gradients

    return epoch


def _step_products(batch: tf.Tensor, kernels: list[tf.Tensor]) -> list[tf.Tensor]:
    """Compute forward, weight- and input-gradient products; returns the weight gradients."""
    inputs = [batch]
    for kernel in kernels:
        inputs.append(tf.matmul(inputs[-1], kernel))
    error = inputs.pop()
    gradients = []
    for number in reversed(range(len(kernels))):
        gradients.append(tf.matmul(inputs[number], error, transpose_a=True))
        if number > 0:
            error = tf.matmul(error, kernels[number], transpose_b=True)
    return gradients[::-1]


def _seconds(call: Callable[[], Any], device: TensorFlowDevice) -> float:
    """Seconds of one call after a warm-up: the best of several windows filled with calls."""
    call()
    best = _window_s(call, 1, device)
    for _ in range(WINDOWS if best < WINDOW_S else LONG_WINDOWS):
        best = min(best, _window_s(call, max(1, round(WINDOW_S / best)), device))
    return best


def _window_s(call: Callable[[], Any], calls: int, device: TensorFlowDevice) -> float:
    """Mean seconds of a call over `calls` calls."""
    device.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        call()
    device.synchronize()
    return (time.perf_counter() - started) / calls
