"""What `bench.worker.probe` needs of JAX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import keras

from bench.worker.jax.device import JaxDevice
from bench.worker.probe import Probed


class JaxProbed(Probed):
    """JAX on one device.

    Args:
        device: the device, as a case spells it.
    """

    def __init__(self, device: str) -> None:
        self.device = JaxDevice(jax, device, "float32")
        self._chain: Any = jax.jit(jnp.matmul)

    def versions(self) -> Mapping[str, Any]:
        """The versions of JAX and Keras; JAX brings its CUDA as packages of their own."""
        return {
            "jax": jax.__version__,
            "keras": keras.__version__,
            "cuda": None,
            "others": _others(),
        }

    def placed(self) -> list[Any]:
        """A variable, and the result of a compiled product with it."""
        variable = keras.Variable(jnp.ones((8, 8)))
        return [variable, jax.jit(jnp.matmul)(variable.value, variable.value)]

    def square(self, size: int) -> jax.Array:
        """A matrix with as many rows, whose powers neither grow nor vanish."""
        return jax.random.normal(jax.random.key(0), (size, size)) / size**0.5

    def chain(self, factor: jax.Array, length: int) -> jax.Array:
        """Dispatch so many products, each of the one before, and their sum."""
        product = factor
        for _ in range(length):
            product = self._chain(product, factor)
        return product.sum()

    def largest(self, size: int, value: float) -> Iterator[tuple[str, str, float]]:
        """(way, `off` or `on`, largest number) of a product of `value` with ones."""
        left, right = jnp.full((size, size), value), jnp.ones((size, size))
        for state, precision in (("off", "highest"), ("on", "tensorfloat32")):
            with jax.default_matmul_precision(precision):
                result = jax.jit(lambda x, y: jnp.matmul(x, y))(left, right)
                yield "compiled", state, float(result.max())

    def compute_capability(self) -> tuple[int, int] | None:
        """That of the GPU; None where it is not known."""
        return self.device.compute_capability

    def ones(self, numbers: int) -> jax.Array:
        """An array of so many float32 numbers."""
        return jnp.ones((numbers,))


def _others() -> list[str]:
    """Accelerators that are no NVIDIA GPU, for which JAX has a plug-in here.

    JAX is not asked for its devices: JAX_PLATFORMS leaves it only those of the case.
    """
    plugins = {plugin.name for plugin in entry_points(group="jax_plugins")}
    found = {f"plug-in {name}" for name in plugins if "cuda" not in name}
    return sorted(found | ({"TPU"} if find_spec("libtpu") else set()))


PROBED = JaxProbed
