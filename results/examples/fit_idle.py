"""Shows what `Model.fit` idles between epochs, with tf.data's autotuner on and off.

    python results/examples/fit_idle.py auto
    python results/examples/fit_idle.py off

Prints the seconds of each of ten epochs, from its first step to its last, and of the gaps
before, between and after them. The images are noise of the size of Fashion-MNIST.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

EPOCHS, SAMPLES, BATCH = 10, 48_000, 32

if sys.argv[1:] == ["off"]:
    plain = tf.data.Dataset.__iter__

    def untuned(dataset):
        """Iterate over the dataset with the autotuner off."""
        options = tf.data.Options()
        options.autotune.enabled = False
        return plain(dataset.with_options(options))

    tf.data.Dataset.__iter__ = untuned

draw = np.random.default_rng(0)
x = draw.random((SAMPLES, 784), dtype=np.float32)
y = draw.integers(0, 10, SAMPLES)
model = keras.Sequential(
    [keras.Input((784,)), keras.layers.Dense(100, "relu"), keras.layers.Dense(10, "softmax")]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x[: 2 * BATCH], y[: 2 * BATCH], verbose=0)
train, marks, done = model.train_function, [], 0


def marked(iterator):
    """One step, with a mark before the first and after the last of an epoch."""
    global done
    if done % (SAMPLES // BATCH) == 0:
        marks.append(time.perf_counter())
    logs = train(iterator)
    done += 1
    if done % (SAMPLES // BATCH) == 0:
        marks.append(time.perf_counter())
    return logs


model.train_function = marked
begin = time.perf_counter()
model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
edges = [begin, *marks, time.perf_counter()]
gaps, epochs = np.diff(edges)[::2], np.diff(edges)[1::2]
print("epochs", np.round(epochs, 2).tolist())  # noqa: T201
print("gaps  ", np.round(gaps, 2).tolist())  # noqa: T201
