"""Leaves parts out of a step of PyTorch, inside the worker's process.

What PyTorch runs operation by operation is computed whether anything needs it or not. What it
compiles must be kept, in buffers of the model, which its graph has for arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import torch

from bench.schema.profile import Variant
from bench.worker.ready import Ready
from bench.worker.variants import PartialStep, Replaced, sizes_of
from fmnist_models.loops.base import Work

_LOSS = "_kept_loss"


class TorchParts(PartialStep):
    """The replacements for parts of a model's step.

    Args:
        work: model and data.
    """

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        weights = work.model.trainable_variables
        device = torch.get_default_device()
        self._buffers = {_LOSS: torch.zeros((), device=device)}
        # Of the loop that runs operation by operation, nothing is kept.
        self._kept: dict[str, torch.Tensor] = {}
        for number, weight in enumerate(weights):
            self._buffers[_gradient(number)] = torch.zeros_like(weight.value.detach())
        for rows in sizes_of(work):
            for number, leaf in enumerate(work.batch.leaves):
                shape = (rows, *leaf.shape[1:])
                self._buffers[_leaf(number, rows)] = torch.zeros(shape, device=device)

    @contextmanager
    def only(self, variant: Variant, loop: str) -> Iterator[None]:
        """Within the context, leave in the step only the parts of `variant`."""
        kept = loop == "compiled" and bool(self._left_out(variant, loop))
        own = self._model._buffers
        with ExitStack() as stack:
            stack.enter_context(super().only(variant, loop))
            if kept:
                own.update(self._buffers)
                self._kept = own
                stack.callback(self._give_back)
            yield

    def ready(self, work: Work) -> Ready:
        """Batches on the device."""
        return Ready(work)

    def _give_back(self) -> None:
        self._kept = {}
        for name in self._buffers:
            del self._model._buffers[name]

    def _keep(self, name: str, value: Any) -> None:
        if name in self._kept:
            with torch.no_grad():
                self._kept[name].copy_(value)

    def _nothing(self, *given: Any) -> dict[str, Any]:
        self._keep_loss(1.0)
        return self._no_metrics()

    def _keep_batch(self, *given: Any) -> dict[str, Any]:
        leaves = keras.tree.flatten(given)
        for number, leaf in enumerate(leaves):
            self._keep(_leaf(number, len(leaves[0])), leaf)
        return self._nothing()

    def _keep_loss(self, loss: Any, sample_weight: Any = None) -> None:
        if _LOSS in self._kept:
            with torch.no_grad():
                self._kept[_LOSS].add_(loss)

    def _no_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        return dict.fromkeys(self._names, 0.0)

    def _without_gradients(self) -> list[Replaced]:
        # `Tensor.backward` calls it too.
        return [
            (torch.autograd, "backward", self._drop),
            (self._model.optimizer, "apply", self._drop),
        ]

    def _without_update(self) -> list[Replaced]:
        return [(self._model.optimizer, "apply", self._keep_gradients)]

    def _drop(self, *_: Any, **__: Any) -> None:
        """Compute nothing."""

    def _keep_gradients(self, grads: Any, trainable_variables: Any = None) -> None:
        """Keep the gradients; a model's own step may pass only some of the weights."""
        weights = self._model.trainable_variables
        numbers = {id(weight): number for number, weight in enumerate(weights)}
        for weight, gradient in zip(trainable_variables or weights, grads, strict=True):
            if gradient is not None and id(weight) in numbers:
                self._keep(_gradient(numbers[id(weight)]), gradient)


def _gradient(number: int) -> str:
    return f"_kept_gradient_{number}"


def _leaf(number: int, rows: int) -> str:
    return f"_kept_batch_{number}_{rows}"
