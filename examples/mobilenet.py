"""`keras.applications.MobileNet` without its weights, on 256 synthetic images of 32 pixels.

Shows a model of Keras's own, with batch normalization, compiled with the optimizer that it needs.

    fmnist-bench run --models examples/mobilenet.py:mobilenet --loops fit,multistep,compiled
"""

import keras

from fmnist_models import Synthetic, Workload

SHAPE, CLASSES = (32, 32, 3), 4


def mobilenet():
    model = keras.applications.MobileNet(
        weights=None, alpha=0.25, input_shape=SHAPE, classes=CLASSES
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # The default of 0.99 averages over hundreds of steps, and an epoch has eight.
            layer.momentum = 0.9
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return Workload(
        model=model,
        train=Synthetic(shapes=SHAPE, classes=CLASSES, rows=256),
        batch_size=32,
        epochs=20,
    )
