"""A `train_step` of its own, as Keras's guide teaches it: a net that takes noise out of signals.

Shows a sub-classed model that draws new noise in each step, with its own loss tracker.

    fmnist-bench run --models examples/own_step.py:denoiser --loops fit,multistep,compiled
"""

import keras
import numpy as np
import tensorflow as tf

from fmnist_models import Workload


class Denoiser(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.mae = keras.metrics.MeanAbsoluteError(name="mae")
        self.noise = keras.layers.GaussianNoise(0.3, seed=0)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            made = self(self.noise(x, training=True), training=True)
            loss = keras.ops.mean(keras.losses.mean_squared_error(y, made))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.told(y, made, loss)

    def test_step(self, data):
        x, y = data
        made = self(x, training=False)
        return self.told(y, made, keras.ops.mean(keras.losses.mean_squared_error(y, made)))

    def told(self, y, made, loss):
        self.loss_tracker.update_state(loss)
        self.mae.update_state(y, made)
        return {"loss": self.loss_tracker.result(), "mae": self.mae.result()}

    @property
    def metrics(self):
        return [self.loss_tracker, self.mae]


def denoiser():
    waves = np.sin(np.outer([1, 2, 3], np.linspace(0, 2 * np.pi, 32)))
    rng = np.random.default_rng(1)
    clean = (rng.normal(size=(5120, 3)) @ waves).astype("float32")
    noisy = clean + rng.normal(0, 0.3, clean.shape).astype("float32")
    signal = keras.Input((32,))
    hidden = keras.layers.Dense(16, activation="relu")(signal)
    model = Denoiser(signal, keras.layers.Dense(32)(hidden), name="denoiser")
    model.compile(optimizer="adam")
    train, held_out = (clean[:4096], clean[:4096]), (noisy[4096:], clean[4096:])
    return Workload(model=model, train=train, validation=held_out, score="mae", better="min")
