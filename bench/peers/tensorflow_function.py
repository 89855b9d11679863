"""TensorFlow without Keras: a whole epoch in one `tf.function`, with the images on the device.

The update is TensorFlow's own kernel for Adam. `tensorflow_xla` is the same program compiled.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bench.peers.training import (
    BETA_1,
    BETA_2,
    EPSILON,
    LEARNING_RATE,
    ByHand,
    Training,
    initial_weights,
)
from fmnist_models.dataset import TrainingData


def build(data: TrainingData, training: Training) -> ByHand:
    """The training by TensorFlow's own kernels, operation by operation."""
    return by_hand(data, training, jit_compile=False)


def set_products(training: Training) -> None:
    """Compute products in the training's precision; TensorFlow by itself takes TF32 on a GPU."""
    tf.config.experimental.enable_tensor_float_32_execution(training.precision == "tf32")


def by_hand(data: TrainingData, training: Training, *, jit_compile: bool) -> ByHand:
    """The training of 784-100-10 with a ReLU and Adam; an epoch is one call.

    Without XLA too: a call of a `tf.function` for each step would add Python's time to it.
    """
    set_products(training)
    images, labels = tf.constant(data.train_x), tf.constant(data.train_y)
    network = _Network(training)
    batch, samples = training.batch_size, len(data.train_x)
    full = samples // batch

    def whole_epoch(order: tf.Tensor, before: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Train on every full batch, then on the rest; returns sums of losses and of hits."""

        def train_on(rows: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """One update on the rows of a batch."""
            return network.step(tf.gather(images, rows), tf.gather(labels, rows), before + step)

        def body(step: tf.Tensor, losses: tf.Tensor, hits: tf.Tensor) -> tuple[tf.Tensor, ...]:
            """One iteration of the loop: one step."""
            loss, right = train_on(tf.slice(order, [step * batch], [batch]), step)
            return step + 1, losses + loss, hits + right

        losses, hits = tf.constant(0.0), tf.constant(0)
        # XLA refuses a slice of more samples than there are, in a loop without turns too.
        if full:
            start = (tf.constant(0), losses, hits)
            _, losses, hits = tf.while_loop(lambda step, *_: step < full, body, start)
        if full * batch < samples:
            loss, right = train_on(order[full * batch :], tf.constant(full))
            losses, hits = losses + loss, hits + right
        return losses, hits

    run = tf.function(whole_epoch, jit_compile=jit_compile, autograph=False)
    steps = -(-samples // batch)
    epochs = count()

    def epoch(order: NDArray[np.int32]) -> tuple[float, float | None]:
        """Train an epoch in this order; returns its mean loss and accuracy."""
        losses, hits = run(tf.constant(order), tf.constant(next(epochs) * steps))
        return float(losses) / samples, int(hits) / samples if training.accuracy else None

    return ByHand(epoch, lambda: [variable.numpy() for variable in network.weights])


class _Network:
    """The variables of the network and of Adam."""

    def __init__(self, training: Training) -> None:
        self.weights = [tf.Variable(value) for value in initial_weights(training.seed)]
        self._first, self._second = (
            [tf.Variable(tf.zeros_like(weight)) for weight in self.weights] for _ in range(2)
        )
        self._accuracy = training.accuracy

    def step(
        self, x: tf.Tensor, y: tf.Tensor, steps_before: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One update; returns the sum of a batch's losses, and its right answers (0 without)."""
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(tf.matmul(x, self.weights[0]) + self.weights[1])
            logits = tf.matmul(hidden, self.weights[2]) + self.weights[3]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, self.weights)
        number = tf.cast(steps_before + 1, tf.float32)
        powers = tf.pow(BETA_1, number), tf.pow(BETA_2, number)
        for weight, first, second, gradient in zip(
            self.weights, self._first, self._second, gradients, strict=True
        ):
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=LEARNING_RATE,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )
        if not self._accuracy:
            return tf.reduce_sum(losses), tf.constant(0)
        right = tf.argmax(logits, axis=-1, output_type=y.dtype) == y
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.int32))
