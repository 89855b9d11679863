"""`compiled` with PyTorch: each step as one graph, through `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, cast

import keras
import numpy as np
import torch
from numpy.typing import NDArray

from fmnist_models.dataset import PIXEL_SCALE
from fmnist_models.loops.base import Work, read_logs
from fmnist_models.loops.compiled import CompiledLoop, build_metrics_and_losses
from fmnist_models.loops.torch.replay import replayed
from fmnist_models.loops.torch.tracing import State, TracedStep
from fmnist_models.loops.torch.watch import TorchWatch


class TorchCompiledLoop(CompiledLoop):
    """Trains each step in one call of a function that `torch.compile` made.

    PyTorch has no loop whose body it compiles, so a call holds one step, and Python makes the
    calls of an epoch. On a GPU a step is captured as a CUDA graph, and a call replays it.
    """

    # Keras's own setting stays off: it is for `Model.fit`, and would compile the evaluation.
    compile_arguments: ClassVar[Mapping[str, Any]] = {"jit_compile": False}

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        build_metrics_and_losses(work, self.watch.plain)
        self._watch = cast("TorchWatch", self.watch)

    @property
    def steps_a_call(self) -> int:
        """One."""
        return 1

    def new_program(self) -> _Program:
        """A new program, with the model's step of its first call."""
        return _Program(self._step)

    def _put(self, array: NDArray[Any]) -> torch.Tensor:
        # Keras copies it, so that PyTorch may write into what it is given.
        tensor: torch.Tensor = keras.ops.convert_to_tensor(array)
        return tensor

    def _step(self, batch: list[torch.Tensor]) -> Any:
        leaves = list(batch)
        if self.work.arrays.pixels is not None:
            leaves[0] = _scaled(leaves[0])
        leaves = [x.reshape(-1, *shape) for x, shape in zip(leaves, self._shapes, strict=True)]
        logs = self.work.model.train_step(self._packed(leaves))
        # Keras's own are in its metrics.
        return None if self.watch.plain else logs

    def _call(self, order: NDArray[np.int32]) -> Any:
        full, _, rest = self._steps()
        self._watch.count(full, self.work.batch_size)
        self._watch.count(bool(rest), rest)
        model = self.work.model
        model.train()
        told = self._epoch.run(model, self._data, order, full, self.work.batch_size)
        model.eval()
        return told

    def _logs(self, told: Any) -> Any:
        metrics = dict(self.work.model.get_metrics_result())
        numbers = read_logs(told)
        return numbers if numbers and set(numbers) != set(metrics) else metrics


class _Program:
    """The compiled steps of a model, one for each number of rows.

    Args:
        train: trains on a batch.
    """

    def __init__(self, train: Callable[[list[torch.Tensor]], Any]) -> None:
        self._train = train
        self._steps: dict[int, tuple[Callable[[], Any], TracedStep]] = {}

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
            self._state = State(model)
        self._order.copy_(given)
        self._place.zero_()
        told: Any = []
        with torch.no_grad():
            if full:
                call, step = self._made(rows, data)
                for _ in range(full):
                    told = call()
            if rest:
                call, step = self._made(rest, data, first=len(order) - rest)
                self._place.fill_(len(order) - rest)
                told = call()
        return dict(zip(step.names, told, strict=True))

    def _made(
        self, rows: int, data: tuple[torch.Tensor, ...], first: int = 0
    ) -> tuple[Callable[[], Any], TracedStep]:
        """The compiled step on so many rows; it is traced at its first use.

        The step is run to trace, to compile and to capture it. The state is restored.
        """
        if rows not in self._steps:
            before = [tensor.clone() for tensor in self._state.tensors]
            step = TracedStep(self._train, self._state, rows)
            begin = partial(self._place.fill_, first)
            graph = step.graph(self._place, self._order, data)
            compiled = torch.compile(graph)
            call = partial(compiled, self._place, self._order, list(data), self._state.tensors)
            begin()
            call()
            if self._place.is_cuda:
                call = replayed(call, begin)
            for tensor, value in zip(self._state.tensors, before, strict=True):
                tensor.copy_(value)
            begin()
            self._steps[rows] = call, step
        return self._steps[rows]


def _scaled(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes divided by 255.0, equal to that division bit for bit.

    With the two parts of `PIXEL_SCALE` the result does not depend on how a compiler divides,
    because the product with the first part is exact.
    """
    values = pixels.to(torch.float32)
    high, low = PIXEL_SCALE
    return values * high + values * low
