"""A network whose input pipeline sleeps for a known time before every batch.

It notes how long each sleep took, for a system wakes a thread late, on busy cores by much.

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

# How long to sleep, and the file that takes a line a sleep, in seconds.
SLEEP, SLEPT = "FMNIST_SLEEP_S", "FMNIST_SLEPT_FILE"


@keras.saving.register_keras_serializable("fmnist_bench")
class Sleepy(keras.Sequential):
    """Trains on arrays through a pipeline that makes no batch ahead, and sleeps for each."""

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, **settings: Any
    ) -> keras.callbacks.History:
        """Keras's own, on the slow pipeline."""
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size).map(_slowly)
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        settings["shuffle"] = False
        return super().fit(batches.with_options(options), **settings)


def _slowly(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    seconds, noted = float(os.environ.get(SLEEP, "0")), _notes()

    def sleep(labels: tf.Tensor) -> tf.Tensor:
        """Hand the labels on, late."""
        began = time.perf_counter()
        time.sleep(seconds)
        noted.write(f"{time.perf_counter() - began}\n")
        return labels

    late = tf.py_function(sleep, [y], y.dtype)
    late.set_shape(y.shape)
    return x, late


@cache
def _notes() -> TextIO:
    """Where sleeps are noted, a line a write, which a process that is killed does not lose."""
    return Path(os.environ.get(SLEPT, os.devnull)).open("a", buffering=1)


def relu_mlp() -> keras.Model:
    """The documented ReLU network with a slow pipeline."""
    layers = NETWORKS["relu_mlp"].builder().layers
    return Sleepy([keras.Input(shape=(28, 28)), *layers], name="relu_mlp")
