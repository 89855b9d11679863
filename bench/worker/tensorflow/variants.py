"""Variants of a loop's step that leave parts out, inside the worker's process.

Only `bench.worker.profile` imports this module, because it imports TensorFlow.
`bench.analysis.phases` describes the variants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

from bench.schema.profile import CHAINS, Variant
from bench.worker.framework import Device, Parts
from bench.worker.window import Window
from fmnist_models.loops import LOOPS
from fmnist_models.loops.base import Loop, Snapshot, Work
from fmnist_models.loops.fit import FitLoop
from fmnist_models.loops.watch import standing_in

_ORDER = (Variant.FORWARD, Variant.BACKWARD, Variant.OPTIMIZER, Variant.METRICS)


class Variants(Parts):
    """The variants of one case, ready to be read in any order.

    Parts are left out by replacing what the model's `train_step` calls: the optimizer's `apply`,
    the loss tracker and `compute_metrics`. A step that calls none of them cannot be split; all of
    it is `forward`.

    Args:
        work: model and data; the model is compiled for `name`.
        name: name of the loop.
        device: the device that everything must be on.
    """

    def __init__(self, work: Work, name: str, device: Device) -> None:
        self._work = work
        self._device = device
        self._loop = LOOPS[name](work)
        self._loop.warm_up()
        self._snapshot = Snapshot(work.model)
        self._parts = _Parts(work, device)
        self.names = CHAINS[name]
        ahead: Loop = self._loop
        if name != "compiled":
            arguments = LOOPS[name].compile_arguments
            ahead = type("_Ahead", (_Ahead,), {"name": name, "compile_arguments": arguments})(work)
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
        full, rest = _batches(self._work)
        steps = full + (rest > 0)
        return window.wall_s / steps, window.cpu_s / steps


class _Parts:
    """The replacements for parts of a model's step."""

    def __init__(self, work: Work, device: Device) -> None:
        self._model = work.model
        weights = work.model.trainable_variables
        full, rest = _batches(work)
        batches = {work.batch_size if full else 0, rest} - {0}
        leaves = work.batch.leaves
        with device.scope():
            # Results are stored in these variables, so that XLA cannot leave their computation out.
            self._loss = tf.Variable(0.0)
            # One set for each batch size: if the last, smaller batch overwrote the gradients of
            # the full batches, XLA would not compute those.
            self._gradients = {
                n: [tf.Variable(tf.zeros(w.shape, w.dtype)) for w in weights] for n in batches
            }
            self._batch = {
                n: [tf.Variable(tf.zeros((n, *leaf.shape[1:]))) for leaf in leaves] for n in batches
            }
        self._names = list(work.model.get_metrics_result())
        self._full = max(batches)
        self._rows = self._full

    @contextmanager
    def only(self, variant: Variant, loop: str) -> Iterator[None]:
        """Within the context, leave in the step only the parts of `variant`."""
        model = self._model
        left_out: list[tuple[Any, str, Any]] = []
        if variant is Variant.DISPATCH:
            left_out = [(model, "train_step", self._nothing)]
        elif variant is Variant.INPUT and loop == "compiled":
            left_out = [(model, "train_step", self._keep_batch)]
        elif variant in _ORDER:
            rank = _ORDER.index(variant)
            if rank < _ORDER.index(Variant.METRICS):
                left_out += [
                    (model, "compute_metrics", self._no_metrics),
                    (model._loss_tracker, "update_state", self._keep_loss),
                ]
            if variant is Variant.FORWARD:
                left_out.append((model.optimizer, "apply", self._drop_gradients))
            elif variant is Variant.BACKWARD:
                left_out += [
                    (model, "train_step", self._with_rows(model.train_step)),
                    (model.optimizer, "apply", self._keep_gradients),
                ]
        with ExitStack() as stack:
            for owner, name, stand_in in left_out:
                stack.enter_context(standing_in(owner, name, stand_in))
            yield

    def _nothing(self, data: Any) -> dict[str, tf.Tensor]:
        self._loss.assign_add(1.0)
        return self._no_metrics()

    def _keep_batch(self, data: Any) -> dict[str, tf.Tensor]:
        leaves = keras.tree.flatten(data)
        # Weights of classes, which `compiled` adds, have no variable.
        for variable, leaf in zip(self._batch[leaves[0].shape[0]], leaves, strict=False):
            variable.assign(tf.cast(leaf, tf.float32))
        return self._nothing(data)

    def _with_rows(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The step, which first notes the number of rows of its batch, where it is known."""

        def told(data: Any) -> Any:
            """One step."""
            self._rows = keras.tree.flatten(data)[0].shape[0] or self._full
            return step(data)

        return told

    def _keep_loss(self, loss: tf.Tensor, sample_weight: Any = None) -> None:
        self._loss.assign_add(tf.cast(loss, tf.float32))

    def _no_metrics(self, *_: Any, **__: Any) -> dict[str, tf.Tensor]:
        return {name: tf.zeros(()) for name in self._names}

    def _drop_gradients(self, grads: Any, trainable_variables: Any = None) -> None:
        """Ignore the gradients, so that they are not computed."""

    def _keep_gradients(self, grads: Any, trainable_variables: Any = None) -> None:
        """Store the gradients; a model's own step may pass only some of the weights."""
        weights = self._model.trainable_variables
        kept = dict(zip(map(id, weights), self._gradients[self._rows], strict=True))
        for variable, gradient in zip(trainable_variables or weights, grads, strict=True):
            if gradient is not None and id(variable) in kept:
                place = kept[id(variable)]
                place.assign(tf.cast(tf.convert_to_tensor(gradient), place.dtype))


class _Ahead(FitLoop):
    """`fit` with an input pipeline that repeats one cached batch, so every batch is ready."""

    def _fit(self, **settings: Any) -> None:
        keras.Model.fit(self.work.model, self._batches(), shuffle=False, **settings)

    def _batches(self) -> tf.data.Dataset:
        full, rest = _batches(self.work)
        batches = _cached(self.work, self.work.batch_size).repeat(full) if full else None
        if rest:
            last = _cached(self.work, rest)
            batches = last if batches is None else batches.concatenate(last)
        return batches


def _batches(work: Work) -> tuple[int, int]:
    """(full batches, rows of the last partial one) of an epoch or round."""
    if work.samples is None:
        assert work.steps is not None
        return work.steps, 0
    return divmod(work.samples, work.batch_size)


def _cached(work: Work, rows: int) -> tf.data.Dataset:
    """One batch, cached in memory, with the element type that Keras makes of arrays."""
    made = tf.data.Dataset.from_tensor_slices(work.batch.first(rows).packed)
    return made.batch(work.batch_size).cache()
