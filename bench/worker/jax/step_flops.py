"""Counts the FLOPs of a training step: lowers it with JAX, runs nothing, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import keras

from bench.analysis.lowered import Uncountable, module_flops
from bench.worker.counting import Counted, checked, uncounted
from bench.worker.jax.products import walk
from bench.worker.layer_rules import Call, flops_of, has_rule, tensors_of
from fmnist_models.loops.jax.watch import in_trace_of
from fmnist_models.loops.watch import layers_of, standing_in


def step_flops(
    model: keras.Model, step: Callable[[Any, Any], Any], state: Any, data: Any
) -> Counted:
    """Count the FLOPs of one step of `model`.

    The step is traced once more and lowered. Nothing is run or compiled. The layers' own count is
    compared where the step is Keras's own.

    Args:
        model: a compiled model whose optimizer is built.
        step: its stateless training step, without the observation of a loop.
        state: shapes and dtypes of the state that it takes.
        data: those of its batch, whose first dimension is the samples.
    """
    samples = int(jax.tree.leaves(data)[0].shape[0])
    calls = _LayerCalls(model)

    def watched(state: Any, data: Any) -> Any:
        """The step, a function of its own, because JAX remembers the traces of others."""
        with calls.watching(jax.tree.leaves(data)[0]):
            return step(state, data)

    try:
        traced = jax.jit(watched).trace(state, data)
        flops = module_flops(traced.lower().compiler_ir("hlo").as_serialized_hlo_module_proto())
    except Uncountable as error:
        return uncounted(str(error))
    plain = getattr(step, "__func__", None) is keras.Model.train_step
    expected = calls.flops(traced.jaxpr.jaxpr) if plain else None
    return checked(flops, expected, samples, "the lowered step")


class _LayerCalls:
    """The calls of layers in the trace of a step."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._calls: list[tuple[Any, dict[str, Any], Any]] = []
        # The calls, by their number, with those of their tensors that have a gradient.
        self._depends: set[tuple[int, str]] = set()
        self._others = False

    @contextmanager
    def watching(self, first: Any) -> Iterator[None]:
        """Within the context, note the calls of layers with a rule.

        Args:
            first: an array of the step's own trace.
        """
        call = keras.layers.Layer.__call__

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            """Call a layer, and note the call."""
            if not has_rule(layer):
                return call(layer, *args, **kwargs)
            number = len(self._calls)
            given = tensors_of(layer, args, kwargs, _is_array)
            # A loop's body is traced for one turn, and perhaps twice.
            self._others |= not all(in_trace_of(first, array) for array in given.values())
            self._calls.append((layer, {name: x.shape for name, x in given.items()}, None))
            for name, array in given.items():
                if jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
                    self._note_gradient(number, name, array)
            result = call(layer, *args, **kwargs)
            shape = keras.tree.flatten(result)[0].shape
            self._calls[number] = (layer, self._calls[number][1], shape)
            return result

        with standing_in(keras.layers.Layer, "__call__", called):
            yield

    def _note_gradient(self, number: int, name: str, array: Any) -> None:
        """Note whether JAX differentiates with respect to an array: it asks for a derivative."""
        same = jax.custom_jvp(lambda x: x)

        def derivative(primals: Any, tangents: Any) -> Any:
            """The tangent, which is noted where it is not zero by construction."""
            (tangent,) = tangents
            if type(tangent) is not jax.custom_derivatives.SymbolicZero:
                self._depends.add((number, name))
            return primals[0], tangent

        same.defjvp(derivative, symbolic_zeros=True)
        same(array)

    def flops(self, jaxpr: Any) -> int | None:
        """FLOPs of the step by the settings of its layers.

        None where a product of the trace is made by something else than a layer with a rule, or
        where such a layer is called within a loop or `jax.vmap`.
        """
        if self._others:
            return None
        known = {layer.name for layer, _, _ in self._calls}
        every = {layer.name for layer in layers_of(self._model)}
        for scopes, product in walk(jaxpr):
            if product.forward and every & scopes and not known & scopes:
                return None
        calls = [
            Call(layer, given, result, {n for n in given if (number, n) in self._depends})
            for number, (layer, given, result) in enumerate(self._calls)
        ]
        return flops_of(calls)


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array)
