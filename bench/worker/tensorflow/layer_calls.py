"""The calls of layers in the trace of a step that TensorFlow made, for the rules of the layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from bench.worker.layer_rules import Call, flops_of, has_rule, tensors_of
from bench.worker.tensorflow.products import functions_of, is_product
from fmnist_models.loops.watch import standing_in

layers = keras.layers


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
            if has_rule(layer):
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
            calls = [_call(*called, reached) for called in self._known]
        except (AttributeError, IndexError, TypeError):
            # A user's layer takes or returns something else than the layer that it extends.
            return None
        return flops_of(calls)

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


def _call(layer: Any, args: Any, kwargs: Any, result: Any, reached: Collection[str]) -> Call:
    """A call of a layer, where the results of `reached` have a gradient."""
    given = tensors_of(layer, args, kwargs, tf.is_tensor)
    depends = {name for name, tensor in given.items() if tensor.op.name in reached}
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    return Call(layer, shapes, tuple(tf.nest.flatten(result)[0].shape), depends)


def _has_product(graph: Any, operation: Any) -> bool:
    return is_product(operation.type) or any(
        _has_product(inner, one)
        for inner in functions_of(graph, operation)
        for one in inner.get_operations()
    )


def _reached(graph: Any, trained: Sequence[Any]) -> set[str]:
    """The names of the operations whose results depend on a variable that is trained."""
    handles = {id(copy.handle) for variable in trained for copy in _copies_of(variable)}
    reached = {inner.op.name for outer, inner in graph.captures if id(outer) in handles}
    for operation in graph.get_operations():
        if any(tensor.op.name in reached for tensor in operation.inputs):
            reached.add(operation.name)
    return reached


def _copies_of(variable: Any) -> Sequence[Any]:
    """TensorFlow's variables of a Keras variable: one, or that of each replica."""
    copies: Sequence[Any] = getattr(variable.value, "values", (variable,))
    return copies
