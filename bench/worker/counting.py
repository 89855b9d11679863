"""Counts the matrix products and the memory traffic of a model's step."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from bench.schema.ceilings import Traffic
from bench.schema.warnings import CaseWarning, Kind
from fmnist_models.loops.base import Work, state_variables

# More than this between two counts, as a share of the layers', and one of them is wrong.
LARGEST_DIFFERENCE = 0.02
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
        flops_per_sample: those of the step; None where it was not or cannot be counted.
        warnings: why it cannot, or by how much the layers' own count differs.
    """

    flops_per_sample: float | None = None
    warnings: tuple[str, ...] = ()


def uncounted(reason: str) -> Counted:
    """No count, with a warning that says why."""
    return Counted(None, (_no_roofline(f"the step's FLOPs are not known: {reason}"),))


def checked(flops: int, expected: int | None, samples: int, counted_in: str) -> Counted:
    """The FLOPs of a step of so many samples, with a warning where its layers' own differ.

    Args:
        flops: those that were counted in `counted_in`.
        expected: those of the layers' settings; None where they tell nothing.
        samples: of the batch.
        counted_in: what was counted, as a warning names it.
    """
    per_sample = flops / samples
    if expected is None or abs(flops - expected) <= LARGEST_DIFFERENCE * expected:
        return Counted(per_sample)
    own = expected / samples
    told = f"{per_sample:,.0f} FLOPs a sample in {counted_in}, {own:,.0f} by its layers"
    return Counted(per_sample, (_no_roofline(told),))


def _no_roofline(words: str) -> str:
    return str(CaseWarning(Kind.NO_ROOFLINE, words=words))


def einsum_terms(equation: str, shapes: Sequence[Sequence[int]]) -> int:
    """Multiply-adds of an einsum: the product of all dimensions in the equation, each once."""
    sides: dict[str, int] = {}
    others = 1
    for term, shape in zip(equation.split("->")[0].split(","), shapes, strict=False):
        before, dots, after = term.partition("...")
        spare = len(shape) - len(before) - len(after)
        sides |= dict(zip(before, shape, strict=False))
        sides |= dict(zip(after, shape[len(shape) - len(after) :], strict=False))
        if dots:
            others = max(others, math.prod(shape[len(before) : len(before) + spare]))
    return others * math.prod(sides.values())


def met_within(places: int, taps: int, side: int, stride: int, gap: int, low: int) -> int:
    """How many multiply-adds of a convolution along one axis meet its input, not its padding.

    Args:
        places: results along the axis.
        taps: elements of the filter.
        side: elements of the input.
        stride: between two results.
        gap: between two taps.
        low: elements of padding before the input.
    """
    met = np.add.outer(np.arange(places) * stride, np.arange(taps) * gap - low)
    return int(((met >= 0) & (met < side)).sum())


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
