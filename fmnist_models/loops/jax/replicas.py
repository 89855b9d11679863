"""How arrays lie on the devices of the replicas, with JAX.

Keras's distribution says which devices these are. It is set while a model is built and trained.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import keras
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from fmnist_models.loops.jax.state import variables_of
from fmnist_models.replicas import Replicas


class Spread:
    """The devices of Keras's present distribution.

    Attributes:
        everywhere: where a whole array is on each device.
    """

    def __init__(self) -> None:
        distribution = keras.distribution.distribution()
        self._mesh = distribution.device_mesh.backend_mesh
        self._axis = distribution.batch_dim_name
        self.everywhere = NamedSharding(self._mesh, PartitionSpec())

    def put(self, array: NDArray[Any]) -> jax.Array:
        """An array, which each process has, whole on each device."""
        return jax.make_array_from_process_local_data(self.everywhere, array, array.shape)

    def after(self, model: keras.Model) -> Any:
        """The places of what an epoch returns: those from which it took them, of its logs all.

        So no epoch is compiled, or looked up, for other places than the first one.
        """
        own = tuple([v.value.sharding for v in part] for part in variables_of(model))
        return self.everywhere, own

    def gather(
        self, data: Sequence[jax.Array], chosen: jax.Array, steps: int = 1
    ) -> list[jax.Array]:
        """The chosen rows of so many steps, as (steps, rows of a step, ...); traced.

        Each device has its share of the rows of each step, or all rows where they do not divide.
        """
        places = self._shared(chosen.reshape(steps, -1), 1)
        return [self._shared(leaf.at[places].get(mode="promise_in_bounds"), 1) for leaf in data]

    def step_of(self, gathered: Sequence[jax.Array], place: Any) -> list[jax.Array]:
        """The batch of one of the gathered steps; traced."""
        chosen = (lax.dynamic_index_in_dim(leaf, place, keepdims=False) for leaf in gathered)
        return [self._shared(leaf, 0) for leaf in chosen]

    def kept(self, state: Any) -> Any:
        """A state whose arrays are whole on each device; traced."""
        return lax.with_sharding_constraint(state, self.everywhere)

    def _shared(self, array: jax.Array, axis: int) -> jax.Array:
        """An array of which each device has a part along an axis."""
        if array.shape[axis] % self._mesh.size:
            return self.kept(array)
        spec = PartitionSpec(*[None] * axis, self._axis)
        return lax.with_sharding_constraint(array, NamedSharding(self._mesh, spec))


class _Everywhere(keras.distribution.DataParallel):
    """A distribution in which each device has all rows of each batch."""

    def get_data_layout(self, data_shape: Sequence[int]) -> Any:
        """The layout of a batch."""
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


def evaluating(replicas: Replicas, sizes: Collection[int]) -> AbstractContextManager[None]:
    """The context of an evaluation with batches of these sizes; empty where they are not known.

    In one process, Keras gives each device its share of batches that divide. Otherwise each
    evaluates all rows, which any number of rows allows, and so does any number of processes.
    """
    if not replicas.spread:
        return nullcontext()
    divide = sizes and all(size % replicas.count == 0 for size in sizes)
    if divide and replicas.processes == 1:
        return nullcontext()
    present = keras.distribution.distribution()
    whole = _Everywhere(present.device_mesh, auto_shard_dataset=False)
    found: AbstractContextManager[None] = whole.scope()
    return found
