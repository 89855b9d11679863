"""FLOPs of a training step from the settings of its layers, to check those that were counted.

A layer's forward products are 2mkn, or 2 for each multiply-add of a convolution, without those of
its padding's zeros. A product is needed once more for each of its two sides that has a gradient:
the weights where they are trained, the input where something that is trained stands before it.
Biases, activations, normalization, gathers of an embedding, loss and optimizer count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from bench.worker.counting import einsum_terms, met_within

layers = keras.layers
_Shape = Sequence[int]
_Names = Collection[str]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a layer that has a rule.

    Attributes:
        given: the shapes of the call's tensors by the name of their argument, the first one first.
        result: dimensions of the first tensor that the layer returned.
        depends: the names of those of its tensors that have a gradient.
        in_a_row: the framework runs the steps of a recurrent layer in a row, not in a loop.
    """

    layer: Any
    given: Mapping[str, _Shape]
    result: _Shape
    depends: _Names
    in_a_row: bool = False

    @property
    def shapes(self) -> list[_Shape]:
        """The shapes of the tensors that the call was given."""
        return list(self.given.values())


@dataclass(frozen=True, slots=True)
class _Product:
    """A product of a layer: FLOPs of one run, and how many of its sides have a gradient."""

    flops: int
    gradients: int


# The products of a call, whether its weights are trained, and which of its tensors have a gradient.
_Rule = Callable[[Call, bool, _Names], list[_Product]]


def has_rule(layer: Any) -> bool:
    """Whether the FLOPs of a layer follow from its settings."""
    return _rule(layer) is not None


def flops_of(calls: Iterable[Call]) -> int | None:
    """FLOPs of a step that makes these calls; None where one is not as its rule expects it."""
    try:
        return sum(one.flops * (1 + one.gradients) for call in calls for one in _products(call))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # A user's layer takes or returns something else than the layer that it extends.
        return None


def tensors_of(
    layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any], is_tensor: Callable[[Any], bool]
) -> dict[str, Any]:
    """The tensors of a call, by the name or number of the argument."""
    if isinstance(layer, layers.Attention):
        args = [*args[0], *args[1:]]
    names = ("query", "value", "key") if isinstance(layer, _ATTENTION) else ()
    numbered = ((names[n] if n < len(names) else str(n), each) for n, each in enumerate(args))
    found: dict[str, Any] = {}
    for name, value in [*numbered, *kwargs.items()]:
        tensors = [each for each in keras.tree.flatten(value) if is_tensor(each)]
        found |= {f"{name}{number or ''}": each for number, each in enumerate(tensors)}
    return found


def _products(call: Call) -> Iterator[_Product]:
    rule = _rule(call.layer)
    assert rule is not None
    yield from rule(call, bool(call.layer.trainable_variables), call.depends)


def _dense(call: Call, trains: bool, depends: _Names) -> list[_Product]:
    flops = 2 * math.prod(call.result) * call.shapes[0][-1]
    return [_Product(flops, trains + bool(depends))]


def _einsum(call: Call, trains: bool, depends: _Names) -> list[_Product]:
    shapes = [list(call.shapes[0]), list(call.layer.kernel.shape)]
    return [_Product(2 * einsum_terms(call.layer.equation, shapes), trains + bool(depends))]


def _convolution(call: Call, trains: bool, depends: _Names) -> list[_Product]:
    flops = _convolution_flops(call.layer, call.layer.kernel.shape, call.shapes[0], call.result)
    return [_Product(flops, trains + bool(depends))]


def _transposed(call: Call, trains: bool, depends: _Names) -> list[_Product]:
    # It is the gradient of a convolution that takes its result to its input.
    flops = _convolution_flops(call.layer, call.layer.kernel.shape, call.result, call.shapes[0])
    return [_Product(flops, trains + bool(depends))]


def _separable(call: Call, trains: bool, depends: _Names) -> list[_Product]:
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
        # `causal` is padded before the convolution, which takes the zeros for an input.
        causal = layer.padding == "causal"
        terms *= places * taps if causal else met_within(places, taps, side, stride, gap, low)
    return int(2 * terms)


def _recurrent(gates: int) -> _Rule:
    def rule(call: Call, trains: bool, depends: _Names) -> list[_Product]:
        """The products with the inputs and with the state, of all steps in time."""
        batch, steps, features = call.shapes[0]
        units = call.layer.units
        a_step = 2 * batch * gates * units
        # A loop computes the gradient of its first state too; steps in a row do without.
        first = int(call.layer.unroll or call.in_a_row)
        return [
            _Product(steps * a_step * features, trains + bool(depends)),
            _Product((steps - first) * a_step * units, trains + (trains or bool(depends))),
            _Product(first * a_step * units, trains),
        ]

    return rule


def _attention(call: Call, trains: bool, depends: _Names) -> list[_Product]:
    """The two products between query, key and value; the projections are layers of their own."""
    layer, heads = call.layer, 1
    of_key = "key" if "key" in call.given else "value"
    query, key, value = (call.given[name] for name in ("query", of_key, "value"))
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


def _each_step(call: Call, trains: bool, depends: _Names) -> list[_Product]:
    """The layer inside `TimeDistributed`: all steps together are as many samples more."""
    inner = call.layer.layer
    (batch, steps, *sides), result = call.shapes[0], call.result
    together = {"0": (batch * steps, *sides)}
    joined = (result[0] * result[1], *result[2:])
    rule = _plain_rule(inner)
    assert rule is not None
    return rule(Call(inner, together, joined, depends), trains, depends)


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
