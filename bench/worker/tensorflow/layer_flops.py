"""FLOPs of a training step from the settings of its layers, to check those of the lowered step.

A layer's forward products are 2mkn, or 2 for each multiply-add of a convolution, without those of
its padding's zeros. A product is needed once more for each of its two sides that has a gradient:
the weights where they are trained, the input where something that is trained stands before it.
Biases, activations, normalization, gathers of an embedding, loss and optimizer count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bench.worker.tensorflow.products import einsum_terms, functions_of, is_product
from fmnist_models.loops.watch import standing_in

layers = keras.layers
_Shape = Sequence[int]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a layer.

    Attributes:
        given: the call's tensors by the name of their argument, the first one first.
        result: dimensions of the first tensor that the layer returned.
        shapes: dimensions of `given`.
    """

    layer: Any
    given: Mapping[str, Any]
    result: _Shape

    @property
    def shapes(self) -> list[_Shape]:
        """The shapes of the tensors that the call was given."""
        return [tuple(tensor.shape) for tensor in self.given.values()]


@dataclass(frozen=True, slots=True)
class _Product:
    """A product of a layer: FLOPs of one run, and how many of its sides have a gradient."""

    flops: int
    gradients: int


# The products of a call, whether its weights are trained, and the names of those of its tensors
# that have a gradient.
_Names = Collection[str]
_Rule = Callable[[_Call, bool, _Names], list[_Product]]


class LayerCalls:
    """The calls of layers in the last trace of a step."""

    def __init__(self) -> None:
        self._graph: Any = None
        # What was called, given and returned, and the operations of each call.
        self._known: list[tuple[Any, Any, Any, Any]] = []
        self._within: list[range] = []
        self._outermost: list[range] = []
        self._depth = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the calls that are made in this context, which is inside a function's trace."""
        call = layers.Layer.__call__
        # TensorFlow traces a function again that made variables in its first trace.
        self._graph = tf.compat.v1.get_default_graph()
        self._known, self._within, self._outermost = [], [], []

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            """Call a layer, and note the call where it belongs to the step's own graph."""
            if tf.compat.v1.get_default_graph() is not self._graph:
                return call(layer, *args, **kwargs)
            first = len(self._graph.get_operations())
            self._depth += 1
            try:
                result = call(layer, *args, **kwargs)
            finally:
                self._depth -= 1
            own = range(first, len(self._graph.get_operations()))
            if self._depth == 0:
                self._outermost.append(own)
            if _rule(layer):
                self._known.append((layer, args, kwargs, result))
                self._within.append(own)
            return result

        with standing_in(layers.Layer, "__call__", called):
            yield

    def flops(self, trained: Sequence[Any]) -> int | None:
        """FLOPs of the step, where these variables are trained.

        None where a product is made by something else than a layer of which the rule is known.
        """
        if self._other_products():
            return None
        reached = _reached(self._graph, trained)
        try:
            return sum(_flops(*called, reached) for called in self._known)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            # A user's layer takes or returns something else than the layer that it extends.
            return None

    def _other_products(self) -> bool:
        """Whether a call makes a product outside the calls of layers whose rule is known."""
        known = {number for own in self._within for number in own}
        operations = self._graph.get_operations()
        return any(
            _has_product(self._graph, operations[number])
            for own in self._outermost
            for number in own
            if number not in known
        )


def _flops(layer: Any, args: Any, kwargs: Any, result: Any, reached: Collection[str]) -> int:
    """FLOPs of a call and of its gradients, where the results of `reached` have one."""
    given = _tensors(layer, args, kwargs)
    rule = _rule(layer)
    assert rule is not None
    depends = {name for name, tensor in given.items() if tensor.op.name in reached}
    call = _Call(layer, given, tuple(tf.nest.flatten(result)[0].shape))
    products = rule(call, bool(layer.trainable_variables), depends)
    return sum(one.flops * (1 + one.gradients) for one in products)


def _has_product(graph: Any, operation: Any) -> bool:
    return is_product(operation.type) or any(
        _has_product(inner, one)
        for inner in functions_of(graph, operation)
        for one in inner.get_operations()
    )


def _reached(graph: Any, trained: Sequence[Any]) -> set[str]:
    """The names of the operations whose results depend on a variable that is trained."""
    handles = {id(variable.handle) for variable in trained}
    reached = {inner.op.name for outer, inner in graph.captures if id(outer) in handles}
    for operation in graph.get_operations():
        if any(tensor.op.name in reached for tensor in operation.inputs):
            reached.add(operation.name)
    return reached


def _tensors(layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a call, by the name or number of the argument."""
    if isinstance(layer, layers.Attention):
        args = [*args[0], *args[1:]]
    names = ("query", "value", "key") if isinstance(layer, _ATTENTION) else ()
    numbered = ((names[n] if n < len(names) else str(n), each) for n, each in enumerate(args))
    found: dict[str, Any] = {}
    for name, value in [*numbered, *kwargs.items()]:
        tensors = [each for each in tf.nest.flatten(value) if tf.is_tensor(each)]
        found |= {f"{name}{number or ''}": each for number, each in enumerate(tensors)}
    return found


def _dense(call: _Call, trains: bool, depends: _Names) -> list[_Product]:
    flops = 2 * math.prod(call.result) * call.shapes[0][-1]
    return [_Product(flops, trains + bool(depends))]


def _einsum(call: _Call, trains: bool, depends: _Names) -> list[_Product]:
    shapes = [list(call.shapes[0]), list(call.layer.kernel.shape)]
    return [_Product(2 * einsum_terms(call.layer.equation, shapes), trains + bool(depends))]


def _convolution(call: _Call, trains: bool, depends: _Names) -> list[_Product]:
    flops = _convolution_flops(call.layer, call.layer.kernel.shape, call.shapes[0], call.result)
    return [_Product(flops, trains + bool(depends))]


def _transposed(call: _Call, trains: bool, depends: _Names) -> list[_Product]:
    # It is the gradient of a convolution that takes its result to its input.
    flops = _convolution_flops(call.layer, call.layer.kernel.shape, call.result, call.shapes[0])
    return [_Product(flops, trains + bool(depends))]


def _separable(call: _Call, trains: bool, depends: _Names) -> list[_Product]:
    layer = call.layer
    depthwise, pointwise = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
    first = _convolution_flops(layer, depthwise, call.shapes[0], call.result)
    second = 2 * math.prod(call.result) * pointwise[-2]
    return [
        _Product(first, trains + bool(depends)),
        _Product(second, trains + (trains or bool(depends))),
    ]


def _convolution_flops(layer: Any, kernel: _Shape, given: _Shape, result: _Shape) -> int:
    """FLOPs of a convolution without the products of its padding."""
    axes = slice(1, -1) if layer.data_format == "channels_last" else slice(2, None)
    terms = given[0] * kernel[-2] * kernel[-1]
    for side, places, taps, stride, gap in zip(
        given[axes], result[axes], kernel[:-2], layer.strides, layer.dilation_rate, strict=True
    ):
        low = 0
        if layer.padding == "same":
            low = max((places - 1) * stride + (taps - 1) * gap + 1 - side, 0) // 2
        met = np.add.outer(np.arange(places) * stride, np.arange(taps) * gap - low)
        # `causal` is padded before the convolution, which takes the zeros for an input.
        inside = (met >= 0) & (met < side)
        terms *= met.size if layer.padding == "causal" else int(inside.sum())
    return int(2 * terms)


def _recurrent(gates: int) -> _Rule:
    def rule(call: _Call, trains: bool, depends: _Names) -> list[_Product]:
        """The products with the inputs and with the state, of all steps in time."""
        batch, steps, features = call.shapes[0]
        units = call.layer.units
        a_step = 2 * batch * gates * units
        # A loop computes the gradient of its first state too; steps in a row do without.
        first = int(call.layer.unroll)
        return [
            _Product(steps * a_step * features, trains + bool(depends)),
            _Product((steps - first) * a_step * units, trains + (trains or bool(depends))),
            _Product(first * a_step * units, trains),
        ]

    return rule


def _attention(call: _Call, trains: bool, depends: _Names) -> list[_Product]:
    """The two products between query, key and value; the projections are layers of their own."""
    layer, heads = call.layer, 1
    of_key = "key" if "key" in call.given else "value"
    query, key, value = (tuple(call.given[name].shape) for name in ("query", of_key, "value"))
    sizes, axes = (key[-1], value[-1]), range(1, len(query) - 1)
    projected = not isinstance(layer, layers.Attention)
    if projected:
        settings = layer.get_config()
        heads = settings.get("num_heads") or settings["num_query_heads"]
        size = settings.get("key_dim") or settings["head_dim"]
        sizes = size, settings.get("value_dim") or size
        axes = settings.get("attention_axes") or axes
    pairs = 2 * heads * math.prod(query[:-1]) * math.prod(key[axis] for axis in axes)
    by_query, by_key, by_value = (
        (projected and trains) or name in depends for name in ("query", of_key, "value")
    )
    weighed = trains or by_query or by_key
    # These scores are sums of tanh, which count nothing.
    additive = isinstance(layer, layers.AdditiveAttention)
    summed = additive or getattr(layer, "score_mode", "dot") == "concat"
    scores = _Product(0 if summed else pairs * sizes[0], by_query + by_key)
    return [scores, _Product(pairs * sizes[1], weighed + by_value)]


def _each_step(call: _Call, trains: bool, depends: _Names) -> list[_Product]:
    """The layer inside `TimeDistributed`: all steps together are as many samples more."""
    inner = call.layer.layer
    (batch, steps, *sides), result = call.shapes[0], call.result
    together = tf.TensorSpec([batch * steps, *sides])
    joined = (result[0] * result[1], *result[2:])
    rule = _plain_rule(inner)
    assert rule is not None
    return rule(_Call(inner, {"0": together}, joined), trains, depends)


def _rule(layer: Any) -> _Rule | None:
    """The rule of a layer; None where there is none."""
    if isinstance(layer, _ATTENTION):
        return _attention
    if isinstance(layer, layers.TimeDistributed):
        return _each_step if _plain_rule(layer.layer) else None
    return _plain_rule(layer)


def _plain_rule(layer: Any) -> _Rule | None:
    return next((rule for kinds, rule in _RULES if isinstance(layer, kinds)), None)


_ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention, layers.Attention)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
# A layer of a class of the user's own is held to the rule of the class that it extends.
_RULES: tuple[tuple[Any, _Rule], ...] = (
    (layers.Dense, _dense),
    (layers.EinsumDense, _einsum),
    ((*_CONVOLUTIONS, *_DEPTHWISE), _convolution),
    (_SEPARABLE, _separable),
    (_TRANSPOSED, _transposed),
    (layers.SimpleRNN, _recurrent(1)),
    (layers.GRU, _recurrent(3)),
    (layers.LSTM, _recurrent(4)),
)
