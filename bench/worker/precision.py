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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.schema.cells import few_of
from bench.schema.errors import Invalid

LEAST_SHARE = 0.5
_GRADIENT = "gradient_tape/"
_MOST_NAMES = 4
_CONVOLUTIONS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative")
_INTEGERS = ("int32", "int64", "uint32", "uint64", "bool")


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


def products_of(traced: Any) -> Iterator[Product]:
    """The products of one trace of a step, including those inside functions that it calls.

    Args:
        traced: a `fmnist_models.loops.watch.Traced`.
    """
    makers: dict[tuple[int, int], str] = {}
    # Inner calls come first, so an operation belongs to the innermost layer.
    for call in traced.calls:
        for number in range(call.first, call.last):
            makers.setdefault((id(call.graph), number), call.layer)
    names: dict[str, str] = {}

    def walk(graph: Any, first: int, last: int | None, within: str | None) -> Iterator[Product]:
        """The products of a part of one graph."""
        for number, operation in enumerate(graph.get_operations()[first:last], start=first):
            layer = makers.get((id(graph), number), within)
            forward = _GRADIENT not in f"{operation.name}/"
            if forward and layer is not None:
                names[operation.name] = layer
            if is_product(operation.type):
                dtype = operation.inputs[-1].dtype.name
                if dtype not in _INTEGERS:
                    maker = layer or _maker_of(operation.name, names)
                    yield Product(maker, dtype, _flops(operation), forward)
            else:
                for inner in functions_of(graph, operation):
                    yield from walk(inner, 0, None, layer or _maker_of(operation.name, names))

    yield from walk(traced.graph, traced.first, traced.last, None)


def _before_the_last_weights(layers: Sequence[Declared]) -> Sequence[Declared]:
    """The layers before the last one with weights; the others belong to the output."""
    with_weights = [number for number, layer in enumerate(layers) if layer.parameters]
    return layers[: with_weights[-1] if with_weights else 0]


def _maker_of(name: str, names: Mapping[str, str]) -> str:
    """The layer whose gradient an operation computes, by the path shared with a forward one.

    The operation's own name where there is no such path.
    """
    path = name.removeprefix(_GRADIENT)
    while path:
        if path in names:
            return names[path]
        path = path.rpartition("/")[0]
    return name


def functions_of(graph: Any, operation: Any) -> Iterator[Any]:
    """The graphs of the functions that a loop, branch or call runs."""
    if not operation.type.endswith(("While", "If", "Case", "PartitionedCall")):
        return
    for value in operation.node_def.attr.values():
        called = [value.func.name] if value.HasField("func") else [f.name for f in value.list.func]
        for name in called:
            function = graph._get_function(name)
            inner = getattr(function, "graph", None)
            if inner is not None:
                yield inner


def is_product(kind: str) -> bool:
    """Whether operations of this type are matrix products or convolutions."""
    return kind in ("MatMul", "Einsum", "SparseMatMul") or kind.startswith(
        ("BatchMatMul", *_CONVOLUTIONS)
    )


def _flops(operation: Any) -> int:
    """FLOPs of one run of a product: 2 per multiply-add."""
    shapes = [_sides(tensor) for tensor in operation.inputs]
    result = _sides(operation.outputs[0])
    if operation.type == "Einsum":
        return 2 * einsum_terms(operation.get_attr("equation").decode(), shapes)
    if operation.type.startswith(_CONVOLUTIONS):
        return 2 * _convolution_terms(operation, shapes, result)
    transposed = next(
        (operation.get_attr(a) for a in ("transpose_a", "adj_x") if a in operation.node_def.attr),
        False,
    )
    contracted = shapes[0][-2 if transposed else -1] if len(shapes[0]) > 1 else 1
    return 2 * math.prod(result) * contracted


def _convolution_terms(
    operation: Any, shapes: Sequence[Sequence[int]], result: Sequence[int]
) -> int:
    """Multiply-adds of a convolution: elements of the filter times its positions.

    A gradient has as many as its forward convolution.
    """
    if "BackpropFilter" in operation.type:
        kernel, laid = result, shapes[2]
    elif "BackpropInput" in operation.type:
        kernel, laid = shapes[1], shapes[2]
    else:
        kernel, laid = shapes[1], result
    channels = max(1, kernel[-1] if not operation.type.startswith("Depthwise") else kernel[-2])
    if operation.type.startswith("Depthwise"):
        channels *= kernel[-1]
    return math.prod(kernel) * max(1, math.prod(laid) // channels)


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


def _sides(tensor: Any) -> list[int]:
    """The dimensions of a tensor; unknown ones count as 1."""
    return [] if tensor.shape.rank is None else [side or 1 for side in tensor.shape.as_list()]


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
