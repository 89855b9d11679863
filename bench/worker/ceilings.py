"""Measures the best rates of this machine through its framework, inside the worker's process.

`bench.analysis.roofline` defines the numbers and makes limits of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from bench.schema.ceilings import Ceilings, products_key
from bench.schema.requests import CeilingsRequest
from bench.worker.counting import dense_layers
from bench.worker.framework import framework
from bench.worker.precision import keras_policy
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

Layers = Sequence[tuple[int, int]]
Call = Callable[[], Any]


class Synchronized(Protocol):
    """A device that can be waited for."""

    def synchronize(self) -> None:
        """Return once everything that was dispatched has been computed."""


class Peaks(Protocol):
    """What is timed, on one device in one dtype. A call dispatches it and returns its result.

    Attributes:
        paths: the ways through the framework, `plain` (operation by operation) and `xla`.
    """

    paths: Sequence[str]

    def product(self, size: int, path: str) -> Call:
        """A product of two square matrices of `size` rows."""

    def triad(self, numbers: int, passes: int, path: str) -> Call:
        """So many passes of b = b + s c over two float32 arrays of so many numbers."""

    def epoch(self, layers: Layers, batch_size: int, path: str) -> Call:
        """Every matrix product of the steps of an epoch over the images, and nothing else.

        A step has forward, weight- and input-gradient products; each takes the result of the one
        before, without bias, activation or loss. The weight gradients are kept, so that the
        compiler cannot leave them out. Every step reads other images, so that no step can be
        computed once for all.
        """


def measure_ceilings(request: CeilingsRequest, data: TrainingData) -> Ceilings:
    """The peaks of one setting of this machine, and the products-only epochs of its cases.

    Raises:
        Unavailable: the device is missing or does not support the precision.
    """
    device = framework().device(request.device, request.precision)
    device.configure()
    keras.config.set_dtype_policy(keras_policy(request.precision))
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
    images = data.train_x.reshape(len(data.train_x), -1)
    dtype = keras.config.dtype_policy().compute_dtype
    with device.scope():
        peaks = framework().peaks(images, dtype)
        return Ceilings(
            request.device,
            request.precision,
            request.threads,
            request.moment,
            {path: _product_rate(peaks, path, device) for path in peaks.paths},
            {str(size): _triad_rate(peaks, size, device) for size in TRIAD_BYTES},
            {key: _products_epoch_s(peaks, *epoch, device) for key, epoch in epochs.items()},
            keras.backend.backend(),
        )


def _product_rate(peaks: Peaks, path: str, device: Synchronized) -> float:
    """FLOP/s of square products: the best of all sizes that fit into a window."""
    best = 0.0
    for size in PRODUCT_SIZES:
        seconds = _seconds(peaks.product(size, path), device)
        best = max(best, 2 * size**3 / seconds)
        if seconds > WINDOW_S:
            break
    return best


def _triad_rate(peaks: Peaks, working_set_bytes: int, device: Synchronized) -> float:
    """Bytes/s of b = b + s c over two float32 arrays that take `working_set_bytes` together.

    Each element is read twice and written once, in place, like an optimizer's slots. One call makes
    many passes, because a pass over a small array takes less time than its dispatch.
    """
    moved = 3 * working_set_bytes // 2
    passes = max(1, TRIAD_CALL_BYTES // moved)
    calls = (peaks.triad(working_set_bytes // 8, passes, path) for path in peaks.paths)
    return max(passes * moved / _seconds(call, device) for call in calls)


def _products_epoch_s(peaks: Peaks, layers: Layers, batch_size: int, device: Synchronized) -> float:
    """Seconds of an epoch that computes every matrix product of its steps and nothing else."""
    return min(_seconds(peaks.epoch(layers, batch_size, path), device) for path in peaks.paths)


def kernels_of(layers: Layers) -> list[NDArray[Any]]:
    """Matrices for a products-only epoch, whose products neither grow nor vanish."""
    random = np.random.default_rng(0)
    return [random.normal(size=shape) / shape[0] ** 0.5 for shape in layers]


def step_products(batch: Any, kernels: Sequence[Any]) -> list[Any]:
    """Forward, weight- and input-gradient products of a step; returns the weight gradients.

    For arrays with the operator `@` and the transpose `T`.
    """
    inputs = [batch]
    for kernel in kernels:
        inputs.append(inputs[-1] @ kernel)
    error = inputs.pop()
    gradients = []
    for number in reversed(range(len(kernels))):
        gradients.append(inputs[number].T @ error)
        if number > 0:
            error = error @ kernels[number].T
    return gradients[::-1]


def _seconds(call: Call, device: Synchronized) -> float:
    """Seconds of one call after a warm-up: the best of several windows filled with calls."""
    call()
    best = _window_s(call, 1, device)
    for _ in range(WINDOWS if best < WINDOW_S else LONG_WINDOWS):
        best = min(best, _window_s(call, max(1, round(WINDOW_S / best)), device))
    return best


def _window_s(call: Call, calls: int, device: Synchronized) -> float:
    """Mean seconds of a call over `calls` calls."""
    device.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        # Kept, so that a device which waits for the arrays that there are waits for it.
        result = call()
    device.synchronize()
    del result
    return (time.perf_counter() - started) / calls
