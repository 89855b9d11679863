"""Observes a training step that PyTorch runs operation by operation, or traces.

Keras's own step tells its rows by its mean loss and is not touched. A step of the model's own is
observed each time that Python runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import keras
import torch
from numpy.typing import NDArray
from torch._dynamo.utils import counters
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from fmnist_models.loops.watch import StepWatch, standing_in


class TorchWatch(StepWatch):
    """Observes the training step of one model.

    Args:
        model: a compiled model.
        first: the arrays of the first batch, in Keras's order.

    Attributes:
        seen: a batch of each number of rows that the step was given, in Keras's form.
    """

    traced_again: ClassVar[str] = "compiled something with torch.compile"

    def __init__(self, model: keras.Model, first: Sequence[NDArray[Any]]) -> None:
        super().__init__(model, first)
        self.seen: dict[int, Any] = {}
        # Keras's own step scales its loss with the optimizer.
        self.scales = self.plain
        self._depth = 0
        self._layer_rows: dict[int, int | None] = {}
        # The rows that a traced step trains of so many that it is given.
        self._trains: dict[int, int | None] = {}
        self.count_from_here()

    @property
    def traces(self) -> int:
        """How many graphs were compiled in this process."""
        return int(counters["stats"]["unique_graphs"])

    def watched_step(self) -> Callable[..., Any]:
        """The model's step, observed by this watch."""

        def watched(data: Any) -> Any:
            """One step."""
            if torch.compiler.is_compiling():
                return self.step(data)
            rows = _rows(data)
            if rows not in self.seen:
                self.seen[rows] = data
            if self.plain:
                return self.step(data)
            self._layer_rows = {}
            with self._watching():
                told = self.step(data)
            self._note(rows, traced=get_proxy_mode() is not None)
            return told

        watched.watched = self.step  # type: ignore[attr-defined]
        return watched

    def _note(self, rows: int, *, traced: bool) -> None:
        """Note the most rows that one layer was given in a step on so many rows."""
        found = list(self._layer_rows.values())
        known = [number for number in found if number is not None]
        most = max(known, default=0) if len(known) == len(found) else None
        if traced:
            self._trains[rows] = most
        else:
            self._trained.append((1, most))

    def batches(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """The batch of one call of Keras's train function, which is counted."""
        for batch in given[0]:
            leaves = [leaf for leaf in keras.tree.flatten(batch) if leaf is not None]
            self._calls += 1
            self._given += int(leaves[0].shape[0])
            shapes = zip(leaves, self._shapes, strict=False)
            self._reshaped += any(leaf.shape[1:] != shape for leaf, shape in shapes)
        return given

    def count(self, calls: int, rows: int) -> None:
        """Count so many calls of a traced step with so many rows each."""
        if calls:
            self._calls += calls
            self._given += calls * rows
            # The first call with so many rows traces the step after this.
            self._trained_of.append((calls, rows))

    def count_from_here(self) -> None:
        """Count calls and rows from now on."""
        self._calls = self._given = self._reshaped = 0
        self._trained: list[tuple[int, int | None]] = []
        self._trained_of: list[tuple[int, int]] = []

    def rows(self) -> int | None:
        """Rows that the step trained since `count_from_here`."""
        if self.plain:
            return self._plain_rows()
        traced = [(calls, self._trains.get(rows)) for calls, rows in self._trained_of]
        found = [*self._trained, *traced]
        if any(rows is None for _, rows in found):
            return None
        return sum(calls * (rows or 0) for calls, rows in found) or None

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
            if self._depth == 0 and (layer.trainable_variables or not layer.built):
                given = (
                    x
                    for x in keras.tree.flatten((args, kwargs))
                    if isinstance(x, torch.Tensor) and x.dim()
                )
                if (first := next(given, None)) is not None:
                    before = self._layer_rows.get(id(layer), 0)
                    known = before is not None and not torch._C._functorch.is_batchedtensor(first)
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


def _rows(data: Any) -> int:
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    return int(leaves[0].shape[0])
