"""Keras with a naive whole-epoch function: what `compiled` began as.

One `tf.function(jit_compile=True)` around the model's own `train_step`, which gathers each
batch by itself from float32 images.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bench.peers.launch import Epoch
from fmnist_models import architectures, optimizers
from fmnist_models.dataset import TrainingData
from fmnist_models.loops import compile_model


def build(data: TrainingData, batch: int, seed: int) -> Epoch:
    """The epoch of `relu_mlp` with Adam."""
    keras.utils.set_random_seed(seed)
    model = architectures.build("relu_mlp")
    compile_model(model, optimizers.create("adam"), "compiled")
    model.optimizer.build(model.trainable_variables)
    images = tf.constant(data.train_x.reshape(-1, 28, 28))
    labels = tf.constant(data.train_y)
    full = len(data.train_x) // batch

    def whole_epoch(order: tf.Tensor) -> dict[str, tf.Tensor]:
        def train_on(rows: tf.Tensor) -> None:
            model.train_step((tf.gather(images, rows), tf.gather(labels, rows)))

        def body(step: tf.Tensor) -> tuple[tf.Tensor]:
            train_on(tf.slice(order, [step * batch], [batch]))
            return (step + 1,)

        tf.while_loop(lambda step: step < full, body, (tf.constant(0),))
        if full * batch < len(data.train_x):
            train_on(order[full * batch :])
        metrics: dict[str, tf.Tensor] = model.get_metrics_result()
        return metrics

    run = tf.function(whole_epoch, jit_compile=True, autograph=False)

    def epoch(order: NDArray[np.int32]) -> tuple[float, float]:
        """Mean loss and accuracy of an epoch in this order."""
        model.reset_metrics()
        metrics = run(tf.constant(order))
        return float(metrics["loss"]), float(metrics["accuracy"])

    return epoch
