"""Tensors of PyTorch in a layer that Keras does not know, in the form of its variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray


class HeldTensor:
    """A buffer of a module, such as the running mean of `torch.nn.BatchNorm1d`.

    Args:
        value: the tensor.
        path: its name.
    """

    def __init__(self, value: torch.Tensor, path: str) -> None:
        self.value = value
        self.path = path
        self.shape = tuple(value.shape)
        self.dtype = value.dtype

    def assign(self, value: Any) -> None:
        """Put a value into the tensor."""
        with torch.no_grad():
            self.value.copy_(torch.as_tensor(value))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(keras.ops.convert_to_numpy(self.value), dtype)


def held_by(layer: keras.layers.Layer) -> Iterator[HeldTensor]:
    """The buffers of a layer, and of those modules in it that are no layers of Keras."""
    for name, module in [("", layer), *layer.named_children()]:
        if module is layer:
            yield from (HeldTensor(t, f"{layer.name}/{n}") for n, t in layer._buffers.items())
        elif not isinstance(module, keras.layers.Layer):
            for inner, tensor in module.named_buffers():
                yield HeldTensor(tensor, f"{layer.name}/{name}.{inner}")
