"""Tests from the traced step in which precision a launch computed.

A layer reports its precision (`compute_dtype`), but its `call` may cast to another, and a builder
may not use the case's dtype policy. So the products (matrix products and convolutions) of the
traced step are counted, each with the dtype of its inputs. They are nearly all of a network's
multiply-adds. The instructions that XLA chooses after the trace are not tested.

The rule: in a `float32` or `tf32` case, every product is in float32. In a mixed case, every product
is in the 16-bit type or in float32, which Keras advises for the last layer. At least half of the
multiply-adds must be in the 16-bit type; with less, the row would name a precision in which only
the smaller part was computed. Float32 in a layer before the output gives a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.schema.cells import few_of
from bench.schema.errors import Invalid

LEAST_SHARE = 0.5
_MOST_NAMES = 4


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product or convolution of a traced step.

    Attributes:
        layer: the layer whose call made it, or its operation's name where no layer made it.
        dtype: dtype of its inputs.
        flops: FLOPs of one run, 2 per multiply-add. Dimensions that the trace does not know, such
            as the batch, count as 1. A product inside a loop of the step counts once.
        forward: it is not part of a gradient.
    """

    layer: str
    dtype: str
    flops: int
    forward: bool = True


@dataclass(frozen=True, slots=True)
class Declared:
    """A layer with the properties that it reports.

    Attributes:
        dtype: its compute dtype.
        parameters: number of its trainable parameters, without those of layers inside it.
        variables: (name, dtype) of its trainable variables.
    """

    layer: str
    dtype: str
    parameters: int
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Computed:
    """The precision in which a launch computed.

    Attributes:
        share: share of the multiply-adds of the traced step that are in the case's precision.
            Where the step has no products or was not traced: share of the weights whose layers
            report that precision.
        warnings: the warnings for the row.
    """

    share: float
    warnings: tuple[str, ...] = ()


def declared(layers: Iterable[Any]) -> list[Declared]:
    """The properties that Keras's layers report, in their order.

    Input layers, and layers that only contain other layers, are left out.
    """
    found = []
    for layer in layers:
        own = list(layer._trainable_variables)
        if own or not (layer._layers or type(layer).__name__ == "InputLayer"):
            found.append(
                Declared(
                    layer.name,
                    str(layer.compute_dtype),
                    sum(math.prod(v.shape) for v in own),
                    tuple((v.name, str(v.dtype)) for v in own),
                )
            )
    return found


def refuse_declared(
    layers: Sequence[Declared], compute: str, variables: str, precision: str
) -> None:
    """Refuse layers whose reported dtypes do not fit the case's precision.

    Args:
        layers: the model's layers.
        compute: compute dtype of the precision.
        variables: dtype of the weights in that precision.
        precision: precision of the case.

    Raises:
        Invalid: a layer has another dtype; the message names the layer.
    """
    for layer in layers:
        for name, dtype in layer.variables:
            if dtype != variables:
                raise Invalid(f"{layer.layer}/{name} is {dtype}, not {variables}")
        if layer.parameters and layer.dtype not in (compute, "float32"):
            raise Invalid(f"{layer.layer} computes in {layer.dtype}, not {precision}")


def computed(
    products: Sequence[Product], layers: Sequence[Declared], compute: str, precision: str
) -> Computed:
    """The precision in which a launch computed.

    Args:
        products: products of every trace of its step; empty where it was not traced.
        layers: layers of its model.
        compute: compute dtype of the precision.
        precision: precision of the case.

    Raises:
        Invalid: the rule of this module is broken; the message names layers and dtypes.
    """
    weighed = products or [Product(d.layer, d.dtype, d.parameters) for d in layers if d.parameters]
    total = sum(p.flops for p in weighed)
    if not total:
        return Computed(1.0)
    share = sum(p.flops for p in weighed if p.dtype == compute) / total
    others = [p for p in weighed if p.dtype != compute]
    told = f"{_percent(share)} of the multiply-adds are in {compute}"
    if not products:
        told = f"{_percent(share)} of the weights are of layers that compute in {compute}"
    wrong = [p for p in others if p.dtype != "float32"]
    if wrong:
        raise Invalid(f"{_named(wrong)}: {told}, and the case is {precision}")
    if share < LEAST_SHARE:
        raise Invalid(
            f"{_named(others)}: {told}, at least {_percent(LEAST_SHARE)} must be for {precision}"
        )
    output = next((p.layer for p in reversed(weighed) if p.forward), None)
    inner = [p for p in others if p.layer != output]
    inner += [
        Product(d.layer, d.dtype, 0)
        for d in _before_the_last_weights(layers)
        if d.dtype == "float32" and d.dtype != compute and d.layer != output
    ]
    if not inner:
        return Computed(share)
    return Computed(share, (f"{_named(inner)}: {told}",))


def _before_the_last_weights(layers: Sequence[Declared]) -> Sequence[Declared]:
    """The layers before the last one with weights; the others belong to the output."""
    with_weights = [number for number, layer in enumerate(layers) if layer.parameters]
    return layers[: with_weights[-1] if with_weights else 0]


def _named(products: Sequence[Product]) -> str:
    """The first layers of each dtype, with that dtype, as text."""
    by_dtype: dict[str, dict[str, None]] = {}
    for product in products:
        by_dtype.setdefault(product.dtype, {})[product.layer] = None
    parts = []
    for dtype, names in by_dtype.items():
        few = few_of(list(names), _MOST_NAMES)
        parts.append(f"{few} compute{'s' if len(names) == 1 else ''} in {dtype}")
    return "; ".join(parts)


def _percent(share: float) -> str:
    """A share in percent, with enough digits that only 0 gives 0% and only 1 gives 100%."""
    percent = 100 * share
    digits = 0 if percent in (0, 100) or 1 <= percent <= 99 else 2
    return f"{percent:.{digits}f}%"


def keras_policy(precision: str) -> str:
    """The Keras dtype policy of a precision; TF32 is float32 to Keras."""
    return "float32" if precision == "tf32" else precision
