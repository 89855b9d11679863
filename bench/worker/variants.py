"""Variants of a loop's step that leave parts out, inside the worker's process.

`bench.analysis.phases` describes the variants. How a part is left out depends on the framework:
the module `variants` of each package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters import data_adapter_utils

from bench.schema.profile import CHAINS, Variant
from bench.worker.framework import Device, Parts
from bench.worker.window import Window
from fmnist_models.loops import LOOPS
from fmnist_models.loops.base import Loop, Snapshot, Work
from fmnist_models.loops.fit import FitLoop
from fmnist_models.loops.watch import standing_in

# What stands in for an attribute: its owner, its name, and the value.
Replaced = tuple[Any, str, Any]
_WITHOUT_METRICS = (Variant.FORWARD, Variant.BACKWARD, Variant.OPTIMIZER)


class PartialStep(ABC):
    """The replacements for parts of a model's step.

    Parts are left out by replacing what the model's `train_step` calls: the optimizer, the loss
    tracker and `compute_metrics`. A step that calls none of them cannot be split; all of it is
    `forward`. Results are kept, so that no compiler can leave their computation out.

    Args:
        work: model and data.
    """

    def __init__(self, work: Work) -> None:
        self._model = work.model
        self._names = list(work.model.get_metrics_result())

    @contextmanager
    def only(self, variant: Variant, loop: str) -> Iterator[None]:
        """Within the context, leave in the step only the parts of `variant`."""
        with ExitStack() as stack:
            for owner, name, stand_in in self._left_out(variant, loop):
                stack.enter_context(standing_in(owner, name, stand_in))
            yield

    @abstractmethod
    def ready(self, work: Work) -> Any:
        """Data for `Model.fit` with the batches of `work`, each of which is there already."""

    def _left_out(self, variant: Variant, loop: str) -> list[Replaced]:
        model = self._model
        if variant is Variant.DISPATCH:
            return [(model, "train_step", self._nothing)]
        if variant is Variant.INPUT and loop == "compiled":
            return [(model, "train_step", self._keep_batch)]
        if variant not in _WITHOUT_METRICS:
            return []
        found: list[Replaced] = [
            (model, "compute_metrics", self._no_metrics),
            (model._loss_tracker, "update_state", self._keep_loss),
        ]
        if variant is Variant.FORWARD:
            found += self._without_gradients()
        elif variant is Variant.BACKWARD:
            found += self._without_update()
        return found

    @abstractmethod
    def _nothing(self, *given: Any) -> Any:
        """A step that computes nothing."""

    @abstractmethod
    def _keep_batch(self, *given: Any) -> Any:
        """A step that keeps its batch."""

    @abstractmethod
    def _keep_loss(self, loss: Any, sample_weight: Any = None) -> None:
        """Keep a loss in place of the running one."""

    @abstractmethod
    def _no_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Zeros in place of the metrics."""

    @abstractmethod
    def _without_gradients(self) -> list[Replaced]:
        """What leaves out the gradients, and the update."""

    @abstractmethod
    def _without_update(self) -> list[Replaced]:
        """What keeps the gradients in place of the update."""


class Variants(Parts):
    """The variants of one case, ready to be read in any order.

    Args:
        work: model and data; the model is compiled for `name`.
        name: name of the loop.
        device: the device that everything must be on.
        kind: what leaves parts of the step out; it is made after the loop's warm-up.
    """

    def __init__(self, work: Work, name: str, device: Device, kind: type[PartialStep]) -> None:
        self._work = work
        self._device = device
        self._loop = LOOPS[name](work)
        self._loop.warm_up()
        self._snapshot = Snapshot(work.model)
        with device.scope():
            self._parts = kind(work)
        self.names: Sequence[Variant] = CHAINS[name]
        ahead: Loop = self._loop
        if name != "compiled":
            settings = {
                "name": name,
                "compile_arguments": LOOPS[name].compile_arguments,
                "ready": self._parts.ready(work),
            }
            ahead = type("_Ahead", (_Ahead,), settings)(work)
        self._programs: dict[Variant, tuple[Loop, Any]] = {
            Variant.STEP: (self._loop, self._loop.program)
        }
        for variant in self.names:
            loop = self._loop if variant is Variant.INPUT else ahead
            with self._parts.only(variant, name):
                self._programs[variant] = (loop, loop.new_program())
        self._chain = name

    def warm_up(self) -> None:
        """Trace, compile and run every variant once."""
        for variant in self.names:
            self.read(variant)

    def read(self, variant: Variant) -> tuple[float, float]:
        """(seconds, CPU seconds) of a step of one variant; the model is restored afterwards."""
        loop, program = self._programs[variant]
        present, loop.program = loop.program, program
        window = Window(self._device)
        try:
            with self._parts.only(variant, self._chain):
                loop.train(window, 1)
        finally:
            loop.program = present
            self._snapshot.restore()
        full, rest = batches_of(self._work)
        steps = full + (rest > 0)
        return window.wall_s / steps, window.cpu_s / steps


class _Ahead(FitLoop):
    """`fit` with batches that are all there already: one batch, again and again."""

    ready: Any

    def _fit(self, **settings: Any) -> None:
        # The weights of classes are in these batches.
        settings |= {"class_weight": None}
        keras.Model.fit(self.work.model, self.ready, shuffle=False, **settings)


def batches_of(work: Work) -> tuple[int, int]:
    """(full batches, rows of the last partial one) of an epoch or round."""
    if work.samples is None:
        assert work.steps is not None
        return work.steps, 0
    return divmod(work.samples, work.batch_size)


def sizes_of(work: Work) -> set[int]:
    """The numbers of rows of the batches of an epoch."""
    full, rest = batches_of(work)
    return {work.batch_size if full else 0, rest} - {0}


def packed_batch(work: Work, rows: int) -> Any:
    """The first rows, as `Model.fit` gives them to a step, with the weights of classes."""
    packed = work.batch.first(rows).packed
    if work.class_weight is None:
        return packed
    weights = data_adapter_utils.class_weight_to_sample_weights(packed[1], dict(work.class_weight))
    return (*packed[:2], np.asarray(weights, keras.config.floatx()))
