"""A network whose steps take longer by a known time, which a duel must find.

Only a worker imports this module, as the builder `bench.evidence.burn:relu_mlp`.
"""

from __future__ import annotations

import os
import time
from statistics import median
from typing import Any

import keras
import tensorflow as tf

from fmnist_models.architectures import NETWORKS

TURNS = "FMNIST_BURN_TURNS"


@keras.saving.register_keras_serializable("fmnist_bench")
class Burn(keras.layers.Layer):
    """Returns its input unchanged, after `turns` iterations of a loop over one number.

    XLA compiles the loop in every training loop in the same way. The loop starts with a pixel, and
    its result times 0 is added to the input. So XLA can neither leave it out nor run it in parallel
    to the products. The environment sets the iterations, and the layer's configuration does not
    hold them: a duel refuses sides that train another model.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.turns = int(os.environ.get(TURNS, "0"))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The inputs, unchanged."""
        start = tf.cast(tf.reshape(inputs, [-1])[0], tf.float32)
        return inputs + tf.cast(0.0 * burned(start, self.turns), inputs.dtype)


@tf.function(jit_compile=True)
def burned(start: tf.Tensor, turns: int) -> tf.Tensor:
    """A finite number that needs `turns` dependent multiplications."""

    def turn(done: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One multiplication and addition."""
        return done + 1, value * 0.999 + 0.001

    return tf.while_loop(lambda done, _: done < turns, turn, (tf.constant(0), start))[1]


def turn_s() -> float:
    """Seconds of one iteration: the median difference between two lengths, measured in turns."""
    few, many, differences = 10_000, 110_000, []
    with tf.device("/CPU:0"):
        start = tf.constant(0.5)
        for number in range(51):
            took = []
            for turns in (few, many):
                began = time.perf_counter()
                burned(start, turns).numpy()
                took.append(time.perf_counter() - began)
            # The first reading compiles.
            differences += [took[1] - took[0]] * bool(number)
    return median(differences) / (many - few)


def relu_mlp() -> keras.Model:
    """The documented ReLU network after a `Burn` layer."""
    layers = NETWORKS["relu_mlp"].builder().layers
    return keras.Sequential([keras.Input(shape=(28, 28)), Burn(), *layers], name="relu_mlp")


if __name__ == "__main__":
    print(turn_s())  # noqa: T201 - the parent reads it
