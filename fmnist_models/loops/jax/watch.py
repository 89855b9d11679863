"""Observes a training step while JAX traces it.

Inside `jax.jit`, Python runs only when the step is traced, and every shape is known then. So the
rows that a step trains are noted once for each shape of its data. Only the calls are counted while
it runs, in Python, where Keras takes the next batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import jax
import keras
from numpy.typing import NDArray

from fmnist_models.loops.watch import StepWatch, standing_in

_COMPILED = "/jax/core/compile/backend_compile_duration"
_compilations = 0


def _count_compilation(event: str, _: float, **__: Any) -> None:
    global _compilations
    _compilations += event == _COMPILED


jax.monitoring.register_event_duration_secs_listener(_count_compilation)


class JaxWatch(StepWatch):
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
        self._depth = 0
        # Rows of the batch that is traced, given to layers with weights; None where one of the
        # step's own transformations, such as `jax.vmap` or `lax.scan`, hides how many there are.
        self._layer_rows: dict[int, int | None] = {}
        # The most rows that a layer is given of so many rows of the step's; 0 where none is called.
        self._trains: dict[int, int | None] = {}
        self._own_trace: Any = None
        self.count_from_here()

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
            self._own_trace = getattr(leaves[0], "_trace", None)
            with self._watching():
                told = self.step(state, data)
            self._note(leaves[0].shape[0])
            return told

        watched.watched = self.step  # type: ignore[attr-defined]
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
        trace = getattr(value, "_trace", None)
        while trace is not None and trace is not self._own_trace:
            if type(trace).__name__ in ("BatchTrace", "DynamicJaxprTrace"):
                return False
            trace = getattr(trace, "parent_trace", None)
        return trace is self._own_trace

    def batches(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """State and batches of one call of Keras's train function; the batches are counted."""
        state, batches = given
        return state, self._counted(batches)

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            leaves = [leaf for leaf in keras.tree.flatten(batch) if leaf is not None]
            self.count(1, leaves[0].shape[0])
            shapes = zip(leaves, self._shapes, strict=False)
            self._reshaped += any(leaf.shape[1:] != shape for leaf, shape in shapes)
            yield batch

    def count(self, calls: int, rows: int) -> None:
        """Count so many calls of the step with so many rows each."""
        if not calls:
            return
        self._calls += calls
        self._given += calls * rows
        # The first call with so many rows traces the step after this.
        self._trained_of.append((calls, rows))

    def count_from_here(self) -> None:
        """Count calls and rows from now on."""
        self._calls = self._given = self._reshaped = 0
        self._trained_of: list[tuple[int, int]] = []

    def rows(self) -> int | None:
        """Rows that the step trained since `count_from_here`."""
        if self.plain:
            return self._plain_rows()
        trained = [(calls, self._trains[rows]) for calls, rows in self._trained_of]
        if any(rows is None for _, rows in trained):
            return None
        return sum(calls * (rows or 0) for calls, rows in trained) or None

    def given(self) -> tuple[int, int] | None:
        """(calls, rows in their data) of a step that is not Keras's own, else None."""
        return None if self.plain else (self._calls, self._given)

    def reshaped(self) -> int:
        """Batches since `count_from_here` whose samples have another shape than the first one's."""
        return self._reshaped

    @contextmanager
    def _watching(self) -> Iterator[None]:
        call = keras.layers.Layer.__call__
        optimizer = self.model.optimizer
        scale = optimizer.scale_loss

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            """Call a layer; note the rows where the step itself makes the call."""
            # The model itself is called by Keras's own `compute_loss_and_updates`.
            if self._depth == 0 and (layer.trainable_variables or not layer.built):
                given = (x for x in jax.tree.leaves((args, kwargs)) if getattr(x, "shape", None))
                if (first := next(given, None)) is not None:
                    before = self._layer_rows.get(id(layer), 0)
                    known = before is not None and self._counts(first)
                    self._layer_rows[id(layer)] = before + first.shape[0] if known else None
            self._depth += 1
            try:
                return call(layer, *args, **kwargs)
            finally:
                self._depth -= 1

        def scaled(loss: Any) -> Any:
            """Scale a loss with the optimizer, and note it."""
            self.scales = True
            return scale(loss)

        with ExitStack() as stack:
            stack.enter_context(standing_in(keras.layers.Layer, "__call__", called))
            stack.enter_context(standing_in(optimizer, "scale_loss", scaled))
            yield


def _form(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
