"""A stream that augments images while the model trains: scikit-learn's digits, moved at random.

Shows a function that returns a `tf.data.Dataset`. `compiled` skips it, because its data must lie
in memory: `--cache-stream` reads the stream once, with the moves of that one pass.

    fmnist-bench run --models examples/augmented.py:digits --loops fit,multistep --optimizers adam
"""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from fmnist_models import Workload

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
labels = labels.astype("int32")
order = np.random.default_rng(0).permutation(len(images))
train, validation, test = np.split(order, [1280, 1536])


def moved(sample, number):
    """A digit moved by at most one pixel each way."""
    image, label = sample
    padded = tf.pad(image, [[1, 1], [1, 1], [0, 0]])
    return tf.image.stateless_random_crop(padded, (8, 8, 1), seed=[0, number]), label


def stream(batch_size):
    samples = tf.data.Dataset.from_tensor_slices((images[train], labels[train]))
    numbers = tf.data.Dataset.random(seed=0, rerandomize_each_iteration=True)
    pairs = tf.data.Dataset.zip(samples.shuffle(len(train), seed=0), numbers)
    return pairs.map(moved).batch(batch_size).prefetch(2)


def digits():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )
    return Workload(
        model=model,
        train=stream,
        validation=(images[validation], labels[validation]),
        test=(images[test], labels[test]),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        batch_size=32,
        epochs=10,
    )
