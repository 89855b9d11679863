"""Observes a training step while JAX traces it.

Inside `jax.jit`, Python runs only when the step is traced, and every shape is known then. So the
rows that a step trains are noted once for each shape of its data. Only the calls are counted while
it runs, in Python, where Keras takes the next batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, ClassVar

import jax
import keras
from numpy.typing import NDArray

from fmnist_models.loops.watch import CountingWatch

_COMPILED = "/jax/core/compile/backend_compile_duration"
_compilations = 0
_numbers = count(1)


def _count_compilation(event: str, _: float, **__: Any) -> None:
    global _compilations
    _compilations += event == _COMPILED


jax.monitoring.register_event_duration_secs_listener(_count_compilation)


class JaxWatch(CountingWatch):
    """Observes the training step of one model.

    Args:
        model: a compiled model.
        first: the arrays of the first batch, in Keras's order.

    Attributes:
        traced: (state, data) of each trace of the step, as shapes and dtypes.
    """

    traced_again: ClassVar[str] = (
        "traced the training step again, or a callback of a batch compiled something"
    )

    arguments: ClassVar[tuple[str, ...]] = ("state", "data")

    def __init__(self, model: keras.Model, first: Sequence[NDArray[Any]]) -> None:
        super().__init__(model, first)
        self.traced: list[tuple[Any, Any]] = []
        self._first: Any = None

    @property
    def traces(self) -> int:
        """How often the step was traced, or anything compiled in this process."""
        return self._traces + _compilations

    def watched_step(self) -> Callable[..., Any]:
        """The model's step, observed by this watch."""

        def watched(state: Any, data: Any) -> Any:
            """One step."""
            leaves = jax.tree.leaves(data)
            if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
                self._traces += 1
                self.traced.append(jax.tree.map(_form, (state, data)))
            else:
                self.eager = True
            self._layer_rows = {}
            self._first = leaves[0]
            with self._watching():
                told = self.step(state, data)
            self._note(leaves[0].shape[0])
            return told

        watched.watched = self.step  # type: ignore[attr-defined]
        # A trace tells programs apart by their names.
        watched.__name__ = f"step_{next(_numbers)}"
        return watched

    def _note(self, rows: int) -> None:
        """Note what a trace with so many rows gave to the layers.

        A later trace may see less: JAX remembers functions that were compiled within the step.
        """
        found = [self._trains.get(rows, 0), *self._layer_rows.values()]
        known = [number for number in found if number is not None]
        self._trains[rows] = max(known) if len(known) == len(found) else None

    def _counts(self, value: Any) -> bool:
        """Whether a value's first dimension is that of the step's own trace.

        Between the two there may be traces of gradients, but no other function and no `jax.vmap`.
        """
        return in_trace_of(self._first, value)

    def batches(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """State and batches of one call of Keras's train function; the batches are counted."""
        state, batches = given
        return state, self._counted(batches)

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self.count(1, self._note_shapes(batch))
            yield batch

    def rows(self) -> int | None:
        """Rows that the step trained since `count_from_here`."""
        if self.plain:
            return self._plain_rows()
        trained = [(calls, self._trains[rows]) for calls, rows in self._trained_of]
        if any(rows is None for _, rows in trained):
            return None
        return sum(calls * (rows or 0) for calls, rows in trained) or None

    def _array(self, given: Any) -> Any:
        arrays = (leaf for leaf in jax.tree.leaves(given) if getattr(leaf, "shape", None))
        return next(arrays, None)


def in_trace_of(first: Any, value: Any) -> bool:
    """Whether a value is of the trace of another, or of one of gradients within it."""
    own, trace = getattr(first, "_trace", None), getattr(value, "_trace", None)
    while trace is not None and trace is not own:
        if type(trace).__name__ in ("BatchTrace", "DynamicJaxprTrace"):
            return False
        trace = getattr(trace, "parent_trace", None)
    return trace is own


def _form(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
