"""The products and passes whose best rates are measured, with TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray

from bench.worker.ceilings import Call, Layers, Peaks, kernels_of

_JIT = {"plain": False, "xla": True}


class TensorFlowPeaks(Peaks):
    """What is timed, on TensorFlow's present device.

    Args:
        images: the training images, one flat row each.
        dtype: of the products.
    """

    paths: Sequence[str] = tuple(_JIT)

    def __init__(self, images: NDArray[Any], dtype: str) -> None:
        self._dtype = tf.as_dtype(dtype)
        self._images = tf.cast(tf.constant(images), self._dtype)

    def product(self, size: int, path: str) -> Call:
        """A product of two square matrices of `size` rows."""
        product = _function(tf.matmul, path)
        a = tf.cast(tf.random.uniform((size, size)), self._dtype)
        return partial(product, a, a)

    def triad(self, numbers: int, passes: int, path: str) -> Call:
        """So many passes of b = b + s c over two float32 arrays of so many numbers."""
        b = tf.random.uniform((numbers,))
        c = b + 1.0

        def triad(b: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
            """All passes of one call."""

            def turn(number: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                """One pass over the arrays."""
                return number + 1, b + 1e-9 * c

            return tf.while_loop(lambda number, _: number < passes, turn, (tf.constant(0), b))[1]

        return partial(_function(triad, path), b, c)

    def epoch(self, layers: Layers, batch_size: int, path: str) -> Call:
        """Every matrix product of the steps of an epoch over the images, and nothing else."""
        kernels = [tf.cast(tf.constant(kernel), self._dtype) for kernel in kernels_of(layers)]
        return partial(_function(products_epoch(batch_size), path), self._images, kernels)


def _function(function: Callable[..., Any], path: str) -> Any:
    return tf.function(function, jit_compile=_JIT[path], autograph=False)


def products_epoch(batch_size: int) -> Callable[[tf.Tensor, list[tf.Tensor]], list[tf.Tensor]]:
    """A function that computes all products of an epoch from the images, in order, and kernels.

    The loop carries each step's weight gradients, so that XLA cannot leave them out.
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
