"""Leaves parts out of a step of TensorFlow, inside the worker's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from bench.worker.variants import PartialStep, Replaced, batches_of, packed_batch, sizes_of
from fmnist_models.loops.base import Work


class TensorFlowParts(PartialStep):
    """The replacements for parts of a model's step.

    Args:
        work: model and data.
    """

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        weights = work.model.trainable_variables
        sizes = sizes_of(work)
        leaves = work.batch.leaves
        # Results are stored in these variables, so that XLA cannot leave their computation out.
        self._loss = tf.Variable(0.0)
        # One set for each batch size: if the last, smaller batch overwrote the gradients of
        # the full batches, XLA would not compute those.
        self._gradients = {
            n: [tf.Variable(tf.zeros(w.shape, w.dtype)) for w in weights] for n in sizes
        }
        self._batch = {
            n: [tf.Variable(tf.zeros((n, *leaf.shape[1:]))) for leaf in leaves] for n in sizes
        }
        self._full = max(sizes)
        self._rows = self._full

    def ready(self, work: Work) -> tf.data.Dataset:
        """An input pipeline that repeats one batch, cached in memory."""
        full, rest = batches_of(work)
        batches = _cached(work, work.batch_size).repeat(full) if full else None
        if rest:
            last = _cached(work, rest)
            batches = last if batches is None else batches.concatenate(last)
        return batches

    def _nothing(self, *given: Any) -> dict[str, tf.Tensor]:
        self._loss.assign_add(1.0)
        return self._no_metrics()

    def _keep_batch(self, *given: Any) -> dict[str, tf.Tensor]:
        leaves = keras.tree.flatten(given)
        # Weights of classes, which `compiled` adds, have no variable.
        for variable, leaf in zip(self._batch[leaves[0].shape[0]], leaves, strict=False):
            variable.assign(tf.cast(leaf, tf.float32))
        return self._nothing()

    def _keep_loss(self, loss: tf.Tensor, sample_weight: Any = None) -> None:
        self._loss.assign_add(tf.cast(loss, tf.float32))

    def _no_metrics(self, *_: Any, **__: Any) -> dict[str, tf.Tensor]:
        return {name: tf.zeros(()) for name in self._names}

    def _without_gradients(self) -> list[Replaced]:
        return [(self._model.optimizer, "apply", self._drop_gradients)]

    def _without_update(self) -> list[Replaced]:
        model = self._model
        return [
            (model, "train_step", self._with_rows(model.train_step)),
            (model.optimizer, "apply", self._keep_gradients),
        ]

    def _with_rows(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The step, which first notes the number of rows of its batch, where it is known."""

        def told(data: Any) -> Any:
            """One step."""
            self._rows = keras.tree.flatten(data)[0].shape[0] or self._full
            return step(data)

        return told

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


def _cached(work: Work, rows: int) -> tf.data.Dataset:
    """One batch, cached in memory, with the element type that Keras makes of arrays."""
    made = tf.data.Dataset.from_tensor_slices(packed_batch(work, rows))
    return made.batch(work.batch_size).cache()
