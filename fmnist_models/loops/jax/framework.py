"""JAX, as the loops need it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import keras
from numpy.typing import NDArray

from fmnist_models.loops.base import Work
from fmnist_models.loops.framework import Framework
from fmnist_models.loops.jax.compiled import JaxCompiledLoop
from fmnist_models.loops.jax.replicas import evaluating
from fmnist_models.loops.jax.watch import JaxWatch
from fmnist_models.replicas import Replicas
from fmnist_models.stream import Stream, last_of


class Jax(Framework):
    """What the loops need of JAX."""

    compiled = JaxCompiledLoop
    compiler = "XLA"
    # Keras calls the compiled step once for each, in Python.
    joins_steps = False

    def watch(
        self, model: keras.Model, device: str | None, first: Sequence[NDArray[Any]]
    ) -> JaxWatch:
        """Observe the step of a model, whose first batch has these arrays."""
        return JaxWatch(model, first)

    def compiler_names(self, error: Exception) -> str | None:
        """The first line of an error of XLA's, of at most 120 characters."""
        if not isinstance(error, jax.errors.JaxRuntimeError) or "UNIMPLEMENTED" not in str(error):
            return None
        return str(error).splitlines()[0][:120]

    def runs_eagerly(self) -> bool:
        """Whether `jax_disable_jit` is set."""
        return bool(jax.config.jax_disable_jit)

    def own_variables(self, layer: keras.layers.Layer) -> list[Any]:
        """None: JAX has no variables of its own."""
        return []

    def last_batch(self, stream: Any, most: int) -> Any:
        """The last batch of an opened stream, as a `PyDataset` of one batch."""
        return last_of(stream, most)

    def refuses_spread(self, work: Work) -> str | None:
        """Why `Model.fit` cannot train a work on its replicas, and the remedy; None where it can.

        Keras divides each batch by the number of replicas, and nothing shares a stream.
        """
        count, data = work.replicas.count, work.data
        if isinstance(data, Stream):
            if work.replicas.processes > 1:
                return (
                    f"{data.name} is a stream, of which each of {work.replicas.processes} "
                    "processes would read all: add --cache-stream, or name --processes one"
                )
            return None
        # A batch divides, so this is what the last one leaves.
        rest = data.rows % count
        if not rest:
            return None
        return (
            f"replicas {count}: the last batch has {data.rows % work.batch_size} rows, and Keras's "
            f"fit on JAX divides each batch by {count}: choose --loops compiled, or leave out "
            f"{rest} of {data.rows} rows"
        )

    def cannot_divide(self, error: Exception) -> bool:
        """Whether an error of `Model.fit` means that a batch does not divide by the replicas."""
        return type(error).__name__ == "IndivisibleError"

    def evaluating(
        self, replicas: Replicas, sizes: Collection[int]
    ) -> AbstractContextManager[None]:
        """The context of an evaluation with batches of these sizes; empty where not known."""
        return evaluating(replicas, sizes)


FRAMEWORK = Jax()
