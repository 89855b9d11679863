"""The compiled steps of a model, which Python calls one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray

from fmnist_models.loops.torch.replay import replayed
from fmnist_models.loops.torch.tracing import State, TracedStep

# A call of a step, and the names of the numbers that it returns.
Call = tuple[Callable[[], Any], Sequence[str]]


class Program:
    """The compiled steps of a model, one for each number of rows.

    Args:
        train: trains on a batch.
    """

    def __init__(self, train: Callable[[list[torch.Tensor]], Any]) -> None:
        self._train = train
        self._steps: dict[int, Call] = {}

    def run(
        self,
        model: keras.Model,
        data: tuple[torch.Tensor, ...],
        order: NDArray[np.int32],
        full: int,
        rows: int,
    ) -> dict[str, torch.Tensor]:
        """Dispatch all steps of an epoch; returns the numbers of the last one.

        Args:
            model: the model.
            data: its training data.
            order: the rows of the epoch.
            full: full steps.
            rows: rows of a full step; those that are left are one step more.
        """
        rest = len(order) % rows
        given = torch.from_numpy(order.astype(np.int64))
        if not self._steps:
            self._order = given.to(data[0].device)
            self._place = torch.zeros((), dtype=torch.int64, device=self._order.device)
            self._model = model
            self._state = State(model)
        self._order.copy_(given)
        self._place.zero_()
        told: Any = []
        with torch.no_grad():
            if full:
                call, names = self._made(rows, data)
                for _ in range(full):
                    told = call()
            if rest:
                call, names = self._made(rest, data, first=len(order) - rest)
                self._place.fill_(len(order) - rest)
                told = call()
        return dict(zip(names, told, strict=True))

    def _made(self, rows: int, data: tuple[torch.Tensor, ...], first: int = 0) -> Call:
        """The compiled step on so many rows; it is traced at its first use.

        The step is run to trace, to compile and to capture it. The state is restored.
        """
        if rows not in self._steps:
            before = [tensor.clone() for tensor in self._state.tensors]
            begin = partial(self._place.fill_, first)
            found = self._compiled(rows, data, begin)
            for tensor, value in zip(self._state.tensors, before, strict=True):
                tensor.copy_(value)
            begin()
            self._steps[rows] = found
        return self._steps[rows]

    def _compiled(
        self, rows: int, data: tuple[torch.Tensor, ...], begin: Callable[[], Any]
    ) -> Call:
        """The step on so many rows, compiled and captured; it has been run."""
        step = TracedStep(self._train, self._state, rows)
        graph = step.graph(self._place, self._order, data)
        compiled = torch.compile(graph)
        call = partial(compiled, self._place, self._order, list(data), self._state.tensors)
        begin()
        call()
        return (replayed(call, begin) if self._place.is_cuda else call), step.names
