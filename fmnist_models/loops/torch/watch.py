"""Observes a training step that PyTorch runs operation by operation, or traces.

Keras's own step tells its rows by its mean loss and is not touched. A step of the model's own is
observed each time that Python runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import torch
from numpy.typing import NDArray
from torch._dynamo.utils import counters
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from fmnist_models.loops.watch import CountingWatch


class TorchWatch(CountingWatch):
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
            self._calls += 1
            self._given += self._note_shapes(batch)
        return given

    def count_from_here(self) -> None:
        """Count calls and rows from now on."""
        super().count_from_here()
        self._trained: list[tuple[int, int | None]] = []

    def rows(self) -> int | None:
        """Rows that the step trained since `count_from_here`."""
        if self.plain:
            return self._plain_rows()
        traced = [(calls, self._trains.get(rows)) for calls, rows in self._trained_of]
        found = [*self._trained, *traced]
        if any(rows is None for _, rows in found):
            return None
        return sum(calls * (rows or 0) for calls, rows in found) or None

    def _array(self, given: Any) -> Any:
        tensors = (x for x in keras.tree.flatten(given) if isinstance(x, torch.Tensor) and x.dim())
        return next(tensors, None)

    def _counts(self, array: Any) -> bool:
        """Whether an array's first dimension is that of the batch: no `torch.vmap` hides it."""
        return not torch._C._functorch.is_batchedtensor(array)


def _rows(data: Any) -> int:
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    return int(leaves[0].shape[0])
