"""The matrix products and convolutions of a step that TensorFlow traced."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.worker.counting import einsum_terms
from bench.worker.precision import Product
from fmnist_models.loops.tensorflow.watch import Traced

_GRADIENT = "gradient_tape/"
# What is before it in the names of another replica than the first one.
_REPLICA = re.compile(r"^replica_(\d+)/")
_CONVOLUTIONS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative")
_INTEGERS = ("int32", "int64", "uint32", "uint64", "bool")


def products_of(traced: Traced) -> Iterator[Product]:
    """The products of one trace of a step, including those inside functions that it calls."""
    makers = _makers_of(traced)
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


def _makers_of(traced: Traced) -> dict[tuple[int, int], str]:
    """The layer of each operation, by its graph and number."""
    makers: dict[tuple[int, int], str] = {}
    operations = traced.graph.get_operations()
    several = any(call.replica for call in traced.calls)
    # Inner calls come first, so an operation belongs to the innermost layer.
    for call in traced.calls:
        meets = several and call.graph is traced.graph
        for number in range(call.first, call.last):
            if not meets or _replica_of(operations[number].name) == call.replica:
                makers.setdefault((id(call.graph), number), call.layer)
    return makers


def _replica_of(name: str) -> int:
    """The replica of an operation; the first one's have no prefix."""
    found = _REPLICA.match(name)
    return int(found[1]) if found else 0


def _maker_of(name: str, names: Mapping[str, str]) -> str:
    """The layer whose gradient an operation computes, by the path shared with a forward one.

    The operation's own name where there is no such path.
    """
    path = _REPLICA.sub("", name) if _GRADIENT in name else name
    path = path.removeprefix(_GRADIENT)
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


def _sides(tensor: Any) -> list[int]:
    """The dimensions of a tensor; unknown ones count as 1."""
    return [] if tensor.shape.rank is None else [side or 1 for side in tensor.shape.as_list()]
