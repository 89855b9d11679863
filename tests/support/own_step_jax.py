"""A training step of one's own for JAX."""

from __future__ import annotations

from typing import Any

import jax
import keras


class OwnStep(keras.Model):
    """A step as Keras's guide for JAX teaches it; it may leave samples out."""

    def __init__(self, rows: int | None = None) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(10)
        self._rows = rows

    def call(self, x: Any) -> Any:
        return self.dense(keras.ops.reshape(x, (-1, 784)))

    def train_step(self, state: Any, data: Any) -> Any:
        trainable, fixed, slots, metrics = state
        x, y = (part[: self._rows] for part in data)

        def loss_of(weights: Any) -> Any:
            logits, updated = self.stateless_call(weights, fixed, x)
            losses = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
            return keras.ops.mean(losses), updated

        (loss, updated), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return {"own": loss}, (trainable, updated, slots, metrics)
