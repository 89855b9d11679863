"""Counts the matrix products and the memory traffic of a model's step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from bench.schema.ceilings import Traffic
from fmnist_models.loops.base import Work, state_variables

_WEIGHTLESS = (
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.Softmax,
    keras.layers.Dropout,
)


@dataclass(frozen=True, slots=True)
class Counted:
    """The FLOPs of a step.

    Attributes:
        flops_per_sample: those of the lowered step; None where it was not or cannot be counted.
        warnings: why it cannot, or by how much the layers' own count differs.
    """

    flops_per_sample: float | None = None
    warnings: tuple[str, ...] = ()


def dense_layers(model: keras.Model) -> list[tuple[int, int]] | None:
    """(inputs, units) of each layer of a plain chain of Dense layers; None for other models.

    Layers without weights may be between them. None where the model has branches, shared or
    frozen layers, a Dense layer over more than one axis, or its own `train_step`, because their
    matrix products differ.
    """
    # A sub-classed model has no `inputs`, or a user's own attribute of that name.
    inputs = getattr(model, "inputs", None)
    if type(model).train_step is not keras.Model.train_step or not isinstance(inputs, list):
        return None
    if len(inputs) != 1 or not isinstance(inputs[0], keras.KerasTensor):
        return None
    shapes = []
    tensor = inputs[0]
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        try:
            chained = layer.input is tensor
        except (AttributeError, ValueError):
            return None
        if not chained:
            return None
        if type(layer) is keras.layers.Dense and layer.trainable and len(tensor.shape) == 2:
            shapes.append((int(layer.kernel.shape[0]), int(layer.kernel.shape[1])))
        elif not isinstance(layer, _WEIGHTLESS):
            return None
        tensor = layer.output
    return shapes or None


def traffic(work: Work) -> list[Traffic]:
    """The memory traffic of a step of `work`, by the counting rule of `bench.analysis.roofline`."""
    model = work.model
    weights = {id(variable) for variable in model.variables}
    slots = [v for v in state_variables(model) if id(v) not in weights and len(v.shape) > 0]
    batch = work.batch
    told = [part for part in (batch.y, batch.sample_weight) if part is not None]
    labels = sum(leaf.nbytes for leaf in keras.tree.flatten(told))
    return [
        Traffic("weights", sum(map(size_bytes, model.trainable_variables)), 2),
        Traffic("optimizer slots", sum(map(size_bytes, slots)), 2),
        Traffic("inputs" if batch.pixels is None else "images", batch.nbytes - labels, 1),
        Traffic("labels", labels, 1),
    ]


def size_bytes(variable: Any) -> int:
    """Bytes of a variable or a tensor."""
    bits = re.search(r"\d+$", keras.backend.standardize_dtype(variable.dtype))
    return int(np.prod(variable.shape)) * (int(bits[0]) // 8 if bits else 1)
