"""A network whose input pipeline sleeps for a known time before every batch.

It records how long each sleep took, because the system wakes a thread late, on busy cores by much.

Only a worker imports this module, as the builder `bench.evidence.sleepy:relu_mlp`.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import keras
import tensorflow as tf

from fmnist_models.architectures import NETWORKS

# Variables with the seconds of a sleep, and with the file for the measured seconds of each sleep.
SLEEP, SLEPT = "FMNIST_SLEEP_S", "FMNIST_SLEPT_FILE"


@keras.saving.register_keras_serializable("fmnist_bench")
class Sleepy(keras.Sequential):
    """Trains through a pipeline that prepares no batch in advance, and sleeps before each."""

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, **settings: Any
    ) -> keras.callbacks.History:
        """Call Keras's `fit` with the slow pipeline."""
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size).map(_slowly)
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        settings["shuffle"] = False
        return super().fit(batches.with_options(options), **settings)


def _slowly(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    seconds, noted = float(os.environ.get(SLEEP, "0")), _notes()

    def sleep(labels: tf.Tensor) -> tf.Tensor:
        """Return the labels after a sleep."""
        began = time.perf_counter()
        time.sleep(seconds)
        noted.write(f"{time.perf_counter() - began}\n")
        return labels

    late = tf.py_function(sleep, [y], y.dtype)
    late.set_shape(y.shape)
    return x, late


@cache
def _notes() -> TextIO:
    """The file for the sleeps; it is line-buffered, so that a kill loses no line."""
    return Path(os.environ.get(SLEPT, os.devnull)).open("a", buffering=1)


def relu_mlp() -> keras.Model:
    """The documented ReLU network with a slow pipeline."""
    layers = NETWORKS["relu_mlp"].builder().layers
    return Sleepy([keras.Input(shape=(28, 28)), *layers], name="relu_mlp")
