"""Keras with a simple whole-epoch function: the first version of `compiled`.

One `tf.function(jit_compile=True)` around the model's own `train_step`; each step gathers its
batch from float32 images.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bench.peers.launch import keras_model
from bench.peers.tensorflow_function import set_products
from bench.peers.training import ByHand, Training
from fmnist_models import optimizers
from fmnist_models.dataset import TrainingData
from fmnist_models.loops import compile_model


def build(data: TrainingData, training: Training) -> ByHand:
    """The training of any of the documented networks."""
    set_products(training)
    model, _ = keras_model(training, data)
    metrics = ("accuracy",) if training.accuracy else ()
    compile_model(model, optimizers.create(training.optimizer), "compiled", metrics=metrics)
    model.optimizer.build(model.trainable_variables)
    batch = training.batch_size
    images = tf.constant(data.train_x.reshape(-1, *model.input_shape[1:]))
    labels = tf.constant(data.train_y)
    full = len(data.train_x) // batch

    def whole_epoch(order: tf.Tensor) -> dict[str, tf.Tensor]:
        """Train on every full batch, then on the rest."""

        def train_on(rows: tf.Tensor) -> None:
            """One update on the rows of a batch."""
            model.train_step((tf.gather(images, rows), tf.gather(labels, rows)))

        def body(step: tf.Tensor) -> tuple[tf.Tensor]:
            """One iteration of the loop: one step."""
            train_on(tf.slice(order, [step * batch], [batch]))
            return (step + 1,)

        # XLA refuses a slice of more samples than there are, in a loop without turns too.
        if full:
            tf.while_loop(lambda step: step < full, body, (tf.constant(0),))
        if full * batch < len(data.train_x):
            train_on(order[full * batch :])
        metrics: dict[str, tf.Tensor] = model.get_metrics_result()
        return metrics

    run = tf.function(whole_epoch, jit_compile=True, autograph=False)

    def epoch(order: NDArray[np.int32]) -> tuple[float, float | None]:
        """Train an epoch in this order; returns its mean loss and accuracy."""
        model.reset_metrics()
        metrics = run(tf.constant(order))
        accuracy = float(metrics["accuracy"]) if training.accuracy else None
        return float(metrics["loss"]), accuracy

    return ByHand(epoch, model.get_weights)
