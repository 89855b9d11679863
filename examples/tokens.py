"""A token classifier with attention, on synthetic tokens.

Shows integer inputs, `Embedding`, `MultiHeadAttention`, and data that the worker makes from a
seed: no file, no download.

    fmnist-bench run --models examples/tokens.py:tokens --loops fit,multistep,compiled \
        --optimizers adam
"""

import keras

from fmnist_models import Synthetic, Workload

LENGTH, VOCABULARY, CLASSES, WIDTH = 32, 500, 4, 32


def tokens():
    words = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, WIDTH)(words)
    attended = keras.layers.MultiHeadAttention(num_heads=2, key_dim=WIDTH // 2)(x, x)
    x = keras.layers.LayerNormalization()(x + attended)
    x = keras.layers.GlobalAveragePooling1D()(x)
    x = keras.layers.Dropout(0.1)(x)
    classes = keras.layers.Dense(CLASSES, activation="softmax")(x)
    return Workload(
        model=keras.Model(words, classes, name="tokens"),
        train=Synthetic(
            shapes=(LENGTH,), dtypes="int32", classes=CLASSES, rows=2048, vocabulary=VOCABULARY
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        batch_size=32,
    )
