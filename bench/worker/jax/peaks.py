"""The products and passes whose best rates are measured, with JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from bench.worker.ceilings import Call, Layers, Peaks, kernels_of, step_products


class JaxPeaks(Peaks):
    """What is timed, on JAX's default device.

    JAX compiles each single operation through XLA too, so that there is one path.

    Args:
        images: the training images, one flat row each.
        dtype: of the products.
    """

    paths: Sequence[str] = ("xla",)

    def __init__(self, images: NDArray[Any], dtype: str) -> None:
        self._dtype = jnp.dtype(dtype)
        self._images = jnp.asarray(images, self._dtype)

    def product(self, size: int, path: str) -> Call:
        """A product of two square matrices of `size` rows."""
        a = self._uniform((size, size), self._dtype)
        return partial(jax.jit(jnp.matmul), a, a)

    def triad(self, numbers: int, passes: int, path: str) -> Call:
        """So many passes of b = b + s c over two float32 arrays of so many numbers."""
        b = self._uniform((numbers,), jnp.dtype("float32"))
        c = b + 1.0

        def triad(b: jax.Array, c: jax.Array) -> jax.Array:
            """All passes of one call."""
            return lax.fori_loop(0, passes, lambda _, b: b + 1e-9 * c, b)

        return partial(jax.jit(triad), b, c)

    def epoch(self, layers: Layers, batch_size: int, path: str) -> Call:
        """Every matrix product of the steps of an epoch over the images, and nothing else."""
        kernels = [jnp.asarray(kernel, self._dtype) for kernel in kernels_of(layers)]
        return partial(jax.jit(_products_epoch(batch_size)), self._images, kernels)

    def _uniform(self, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jnp.asarray(np.random.default_rng(0).random(shape, np.float32), dtype)


def _products_epoch(batch_size: int) -> Callable[[jax.Array, list[jax.Array]], list[jax.Array]]:
    """A function that computes all products of an epoch from the images, in order, and kernels."""

    def epoch(x: jax.Array, kernels: list[jax.Array]) -> list[jax.Array]:
        """Compute all products of the epoch; returns the last step's weight gradients."""
        full, rest = divmod(len(x), batch_size)

        def turn(step: Any, _: list[jax.Array]) -> list[jax.Array]:
            """The products of one step."""
            batch = lax.dynamic_slice_in_dim(x, step * batch_size, batch_size)
            return step_products(batch, kernels)

        gradients = [jnp.zeros_like(kernel) for kernel in kernels]
        if full:
            # A loop that is never run is traced all the same, with a batch that is not there.
            gradients = lax.fori_loop(0, full, turn, gradients)
        return [*gradients, *(step_products(x[full * batch_size :], kernels) if rest else [])]

    return epoch
