"""The matrix products and convolutions of a step that JAX traced."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params

from bench.worker.precision import Product

_GRADIENT = "transpose("
# The wrappers of JAX around the scopes that Keras names after its layers: `transpose(jvp(dense))`.
_WRAPPED = re.compile(r"(?:transpose|jvp|vmap|jit)\((.*)\)$")


def products_of(step: Any, state: Any, data: Any) -> list[Product]:
    """The products of one trace of a step, including those inside functions that it calls.

    Args:
        step: Keras's stateless step.
        state: shapes and dtypes of the state that it takes.
        data: those of its batch.
    """
    return [product for _, product in walk(jax.make_jaxpr(step)(state, data).jaxpr)]


def walk(jaxpr: Any, within: str = "") -> Iterator[tuple[set[str], Product]]:
    """Each product of a trace with the names of the scopes that it is in."""
    for equation in jaxpr.eqns:
        place = "/".join(filter(None, (within, str(equation.source_info.name_stack))))
        kind = equation.primitive.name
        if kind in ("dot_general", "conv_general_dilated"):
            dtype = equation.invars[1].aval.dtype
            if jax.numpy.issubdtype(dtype, jax.numpy.inexact):
                flops = _dot_flops(equation) if kind == "dot_general" else _conv_flops(equation)
                forward = _GRADIENT not in place
                scopes = [name for part in place.split("/") if (name := _scope(part))]
                layer = scopes[-1] if scopes else kind
                yield set(scopes), Product(layer, str(dtype), flops, forward)
            continue
        for inner in jaxprs_in_params(equation.params):
            yield from walk(inner, place)


def _scope(part: str) -> str:
    """The scope that a part of a place names, which is a layer's name."""
    name = part
    while found := _WRAPPED.match(name):
        name = found[1]
    return name.rstrip(")")


def _dot_flops(equation: Any) -> int:
    """2 for each multiply-add."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    result = equation.outvars[0].aval.shape
    return int(2 * math.prod(result) * math.prod(left[axis] for axis in contracted))


def _conv_flops(equation: Any) -> int:
    """2 for each multiply-add: for each result, as many as one place of the filter has numbers."""
    kernel = equation.invars[1].aval.shape
    _, inputs, *sides = equation.params["dimension_numbers"].rhs_spec
    result = equation.outvars[0].aval.shape
    return int(2 * math.prod(result) * kernel[inputs] * math.prod(kernel[side] for side in sides))
