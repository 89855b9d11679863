"""In which precision a launch computed: read from the step that was traced, and judged.

A layer says in what it computes (`compute_dtype`), but its `call` may cast as it likes, and a
builder may forget the policy that the case is named for. So the products (matrix products and
convolutions) of the traced step are counted, each with the type of number that goes into it: they
are nearly all of a network's multiply-adds. What comes after the trace, XLA's own choice of
instructions, is the machine's affair.

The rule. Of a `float32` or `tf32` case every product is in float32. Of a mixed case each is in its
16 bits or in float32, as Keras advises for the last layer, and at least half of the multiply-adds
are in the 16 bits: below that the row would carry the name of a precision in which the smaller
part of it was computed. Float32 anywhere but in the output is a warning.
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
        layer: in whose call it was made, or its operation's name where no layer made it.
        dtype: of what goes into it.
        flops: of one run of it, 2 a multiply-add; sides that the trace does not know, as that of
            the batch, count as 1. What a loop inside the step repeats counts once.
        forward: it is none of a gradient.
    """

    layer: str
    dtype: str
    flops: int
    forward: bool = True


@dataclass(frozen=True, slots=True)
class Declared:
    """A layer by its own account.

    Attributes:
        dtype: in what it computes.
        parameters: numbers that training changes, those of layers inside it left out.
        variables: name and type of each array of them.
    """

    layer: str
    dtype: str
    parameters: int
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Computed:
    """What a launch computed in.

    Attributes:
        share: of the multiply-adds of the traced step that were in the case's precision; where it
            holds no product, or was not traced, of the weights whose layers say so.
        warnings: what a reader of the row must know.
    """

    share: float
    warnings: tuple[str, ...] = ()


def declared(layers: Iterable[Any]) -> list[Declared]:
    """What Keras's layers say of themselves, in their order; inputs, and layers that only hold
    others, are left out."""
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
    """Nothing, where each layer keeps its weights and computes as the precision allows.

    Args:
        layers: of the model.
        compute: in what the precision computes.
        variables: in what it keeps weights.
        precision: of the case.

    Raises:
        Invalid: one does not; the message names it.
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
    """What a launch computed in.

    Args:
        products: of every trace of its step; none where it was not traced.
        layers: of its model.
        compute: in what the precision computes.
        precision: of the case.

    Raises:
        Invalid: not as the case says, by the rule above; the message names layers and types.
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
    """The products of one trace of a step, those inside functions that it calls included.

    Args:
        traced: a `fmnist_models.loops.watch.Traced`.
    """
    makers: dict[tuple[int, int], str] = {}
    # Inner calls come first, and keep what is theirs.
    for call in traced.calls:
        for number in range(call.first, call.last):
            makers.setdefault((id(call.graph), number), call.layer)
    names: dict[str, str] = {}

    def walk(graph: Any, first: int, last: int | None, within: str | None) -> Iterator[Product]:
        """Those of a part of one graph."""
        for number, operation in enumerate(graph.get_operations()[first:last], start=first):
            layer = makers.get((id(graph), number), within)
            forward = _GRADIENT not in f"{operation.name}/"
            if forward and layer is not None:
                names[operation.name] = layer
            if _is_product(operation.type):
                dtype = operation.inputs[-1].dtype.name
                if dtype not in _INTEGERS:
                    maker = layer or _maker_of(operation.name, names)
                    yield Product(maker, dtype, _flops(operation), forward)
            else:
                for inner in _functions(graph, operation):
                    yield from walk(inner, 0, None, layer or _maker_of(operation.name, names))

    yield from walk(traced.graph, traced.first, traced.last, None)


def _before_the_last_weights(layers: Sequence[Declared]) -> Sequence[Declared]:
    """Layers that come before the last one with weights; what follows belongs to the output."""
    with_weights = [number for number, layer in enumerate(layers) if layer.parameters]
    return layers[: with_weights[-1] if with_weights else 0]


def _maker_of(name: str, names: Mapping[str, str]) -> str:
    """Whose gradient an operation computes, told by the path that it shares with a forward one."""
    path = name.removeprefix(_GRADIENT)
    while path:
        if path in names:
            return names[path]
        path = path.rpartition("/")[0]
    return name


def _functions(graph: Any, operation: Any) -> Iterator[Any]:
    """The graphs of the functions that an operation runs: loops, branches, calls."""
    if not operation.type.endswith(("While", "If", "Case", "PartitionedCall")):
        return
    for value in operation.node_def.attr.values():
        called = [value.func.name] if value.HasField("func") else [f.name for f in value.list.func]
        for name in called:
            function = graph._get_function(name)
            inner = getattr(function, "graph", None)
            if inner is not None:
                yield inner


def _is_product(kind: str) -> bool:
    return kind in ("MatMul", "Einsum", "SparseMatMul") or kind.startswith(
        ("BatchMatMul", *_CONVOLUTIONS)
    )


def _flops(operation: Any) -> int:
    """2 for each multiply-add of one run."""
    shapes = [_sides(tensor) for tensor in operation.inputs]
    result = _sides(operation.outputs[0])
    if operation.type == "Einsum":
        return 2 * _einsum_terms(operation.get_attr("equation").decode(), shapes)
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
    """Numbers of the filter times places where it is laid; of gradients as of the product
    that they belong to."""
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


def _einsum_terms(equation: str, shapes: Sequence[Sequence[int]]) -> int:
    """The product of every side that the equation names, each once."""
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
    """The sides of a tensor; those that are not known count as 1."""
    return [] if tensor.shape.rank is None else [side or 1 for side in tensor.shape.as_list()]


def _named(products: Sequence[Product]) -> str:
    """Layers and the types that they compute in, the first few."""
    by_dtype: dict[str, dict[str, None]] = {}
    for product in products:
        by_dtype.setdefault(product.dtype, {})[product.layer] = None
    parts = []
    for dtype, names in by_dtype.items():
        few = few_of(list(names), _MOST_NAMES)
        parts.append(f"{few} compute{'s' if len(names) == 1 else ''} in {dtype}")
    return "; ".join(parts)


def _percent(share: float) -> str:
    """A share in percent, so that only nothing is 0% and only all is 100%."""
    percent = 100 * share
    digits = 0 if percent in (0, 100) or 1 <= percent <= 99 else 2
    return f"{percent:.{digits}f}%"
