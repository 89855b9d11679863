"""A small convnet for the embedded images: the function returns the model alone, uncompiled.

The suite trains it on Fashion-MNIST, and each case names the optimizer.

    fmnist-bench run --models examples/convnet.py:convnet --loops fit,multistep,compiled \
        --optimizers adam --batch-sizes 32
"""

import keras


def convnet():
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Reshape((28, 28, 1)),
            keras.layers.Conv2D(16, 3, strides=3, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax"),
        ],
        name="convnet",
    )
