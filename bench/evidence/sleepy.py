"""A network whose input pipeline sleeps for a known time before every batch.

It records how long each sleep took, because the system wakes a thread late, on busy cores by much.

Only a worker imports this module, as the builder `bench.evidence.sleepy:relu_mlp`, or as the
workload `bench.evidence.sleepy:stream`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import keras
import numpy as np
import tensorflow as tf

from fmnist_models import Workload
from fmnist_models.architectures import NETWORKS

# Variables with the seconds of a sleep, and with the file for the measured seconds of each sleep.
SLEEP, SLEPT = "FMNIST_SLEEP_S", "FMNIST_SLEPT_FILE"
# Variable with the number of batches that `stream` prepares in advance.
AHEAD = "FMNIST_SLEEP_AHEAD"
_FEATURES, _UNITS, _CLASSES = 784, 1024, 10


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
    def sleep(labels: tf.Tensor) -> tf.Tensor:
        """Return the labels after a sleep."""
        _sleep()
        return labels

    late = tf.py_function(sleep, [y], y.dtype)
    late.set_shape(y.shape)
    return x, late


def stream() -> Workload:
    """A dense network on an endless stream whose batches take a known time to make."""
    model = keras.Sequential(
        [
            keras.Input((_FEATURES,)),
            keras.layers.Dense(_UNITS, activation="relu"),
            keras.layers.Dense(_CLASSES, activation="softmax"),
        ]
    )

    def batches(batch_size: int) -> tf.data.Dataset:
        """One batch again and again, each after a sleep."""
        x = np.random.default_rng(0).random((batch_size, _FEATURES), np.float32)
        y = np.arange(batch_size) % _CLASSES

        def late() -> Iterator[tuple[Any, Any]]:
            """The batch, after a sleep."""
            while True:
                _sleep()
                yield x, y

        kinds = tf.TensorSpec(x.shape, tf.float32), tf.TensorSpec(y.shape, tf.int64)
        made = tf.data.Dataset.from_generator(late, output_signature=kinds)
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        ahead = int(os.environ.get(AHEAD, "0"))
        return (made.prefetch(ahead) if ahead else made).with_options(options)

    return Workload(model=model, train=batches, loss="sparse_categorical_crossentropy")


def _sleep() -> None:
    """Sleep, and note for how long."""
    began = time.perf_counter()
    time.sleep(float(os.environ.get(SLEEP, "0")))
    _notes().write(f"{time.perf_counter() - began}\n")


@cache
def _notes() -> TextIO:
    """The file for the sleeps; it is line-buffered, so that a kill loses no line."""
    return Path(os.environ.get(SLEPT, os.devnull)).open("a", buffering=1)


def relu_mlp() -> keras.Model:
    """The documented ReLU network with a slow pipeline."""
    layers = NETWORKS["relu_mlp"].builder().layers
    return Sleepy([keras.Input(shape=(28, 28)), *layers], name="relu_mlp")
