"""`compiled` with PyTorch: each step as one graph, through `torch.compile`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import keras
import numpy as np
import torch
from numpy.typing import NDArray

from fmnist_models.dataset import PIXEL_SCALE
from fmnist_models.loops.base import Work, read_logs
from fmnist_models.loops.compiled import CompiledLoop, build_metrics_and_losses
from fmnist_models.loops.torch.parallel import ParallelProgram
from fmnist_models.loops.torch.program import Program
from fmnist_models.loops.torch.together import (
    join_epoch,
    refuse_own_step,
    refuse_what_is_no_sum,
    told_of_states,
)
from fmnist_models.loops.torch.watch import TorchWatch

# Between the seeds of two processes, whose launches have seeds that follow each other.
_APART = 1_000_003


class TorchCompiledLoop(CompiledLoop):
    """Trains each step in one call of a function that `torch.compile` made.

    PyTorch has no loop whose body it compiles, so a call holds one step, and Python makes the
    calls of an epoch. On a GPU a step is captured as a CUDA graph, and a call replays it.
    """

    # Keras's own setting stays off: it is for `Model.fit`, and would compile the evaluation.
    compile_arguments: ClassVar[Mapping[str, Any]] = {"jit_compile": False}

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._watch = cast("TorchWatch", self.watch)
        if work.replicas.spread:
            refuse_own_step(work, plain=self.watch.plain)
            refuse_what_is_no_sum(work, self._rows)
            self.notes.update(dict.fromkeys(told_of_states(work, self._rows)))

    def _build(self) -> None:
        """Make metrics and losses, which a step takes along."""
        build_metrics_and_losses(self.work, self.watch.plain)

    @property
    def steps_a_call(self) -> int:
        """One."""
        return 1

    def new_program(self) -> Program:
        """A new program, with the model's step of its first call."""
        replicas = self.work.replicas
        return ParallelProgram(self._step, replicas) if replicas.spread else Program(self._step)

    def _put(self, array: NDArray[Any]) -> torch.Tensor:
        # Keras copies it, so that PyTorch may write into what it is given.
        tensor: torch.Tensor = keras.ops.convert_to_tensor(array)
        return tensor

    def _step(self, batch: list[torch.Tensor]) -> Any:
        logs = self.work.model.train_step(self._batch(batch))
        # Keras's own are in its metrics.
        return None if self.watch.plain else logs

    def _batch(self, leaves: Sequence[torch.Tensor]) -> tuple[Any, ...]:
        """A batch as the step takes it, from the rows of each array on the device."""
        leaves = list(leaves)
        if self.work.arrays.pixels is not None:
            leaves[0] = _scaled(leaves[0])
        leaves = [x.reshape(-1, *shape) for x, shape in zip(leaves, self._shapes, strict=True)]
        return self._packed(leaves)

    def _rows(self, first: int, end: int) -> tuple[Any, ...]:
        """Rows of the training data as a batch."""
        return self._batch([leaf[first:end] for leaf in self._data])

    def _exercise(self) -> None:
        if self.work.replicas.spread:
            # Weights and orders are the same in each process; what a step draws is not.
            torch.manual_seed(self.work.seed + self.work.replicas.rank * _APART)
        super()._exercise()

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
        if self.work.replicas.spread:
            join_epoch(self.work.model)
        metrics = dict(self.work.model.get_metrics_result())
        numbers = read_logs(told)
        return numbers if numbers and set(numbers) != set(metrics) else metrics


def _scaled(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes divided by 255.0, equal to that division bit for bit.

    With the two parts of `PIXEL_SCALE` the result does not depend on how a compiler divides,
    because the product with the first part is exact.
    """
    values = pixels.to(torch.float32)
    high, low = PIXEL_SCALE
    return values * high + values * low
