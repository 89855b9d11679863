"""A network whose step computes products of known time before its own work, on any backend.

Only a worker imports this module, as the builder `bench.evidence.gpu.products:relu_mlp`.
"""

from __future__ import annotations

import os
from typing import Any

import keras

from fmnist_models.architectures import NETWORKS

TURNS, SIZE = "FMNIST_PRODUCTS_TURNS", "FMNIST_PRODUCTS_SIZE"


@keras.saving.register_keras_serializable("fmnist_bench")
class Products(keras.layers.Layer):
    """Returns its input unchanged, after some dependent products, as the environment has them.

    The first factor holds a pixel, and the result times 0 is added to the input. So a compiler can
    neither leave the products out, nor move them out of the steps, nor run them beside the others.
    The layer's configuration does not hold them: a duel refuses sides that train another model.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.turns = int(os.environ.get(TURNS, "0"))
        self.size = int(os.environ.get(SIZE, "1024"))

    def call(self, inputs: Any) -> Any:
        """The inputs, unchanged."""
        if not self.turns:
            return inputs
        ops = keras.ops
        pixel = ops.cast(ops.reshape(inputs, (-1,))[0], "float32")
        side = ops.arange(self.size, dtype="float32") / self.size
        product = factor = (ops.outer(side, side) + pixel) / self.size
        for _ in range(self.turns):
            product = ops.matmul(product, factor)
        return inputs + ops.cast(0.0 * ops.mean(product), inputs.dtype)


def relu_mlp() -> keras.Model:
    """The documented ReLU network after a `Products` layer."""
    layers = NETWORKS["relu_mlp"].builder().layers
    return keras.Sequential([keras.Input(shape=(28, 28)), Products(), *layers], name="relu_mlp")


def relu_mlp_in_float32() -> keras.Model:
    """The documented ReLU network, whose layers ignore the precision that a case asks for."""
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(100, "relu", dtype="float32"),
            keras.layers.Dense(10, "softmax", dtype="float32"),
        ],
        name="relu_mlp",
    )
