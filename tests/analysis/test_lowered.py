"""FLOPs of lowered programs, which JAX writes here: XLA's own analysis counts the same products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from bench.analysis import lowered
from bench.analysis.lowered import Uncountable, module_flops

SQUARE = jnp.ones((4, 4))
PRODUCT = 2 * 4 * 4 * 4


def flops_of(function: Callable[..., Any], *given: Any) -> int:
    return module_flops(program(function, *given))


def program(function: Callable[..., Any], *given: Any) -> bytes:
    lowered_function = jax.jit(function, keep_unused=True).lower(*given)
    module: bytes = lowered_function.compiler_ir("hlo").as_serialized_hlo_module_proto()
    return module


def xla_flops(function: Callable[..., Any], *given: Any) -> float:
    told: Any = jax.jit(function).lower(*given).cost_analysis()
    return float(told["flops"])


def test_a_dot_counts_two_for_each_element_and_each_contracted_one() -> None:
    def batched(left: Any, right: Any) -> Any:
        return jnp.einsum("bij,bjk->bik", left, right)

    given = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))
    assert flops_of(batched, *given) == xla_flops(batched, *given) == 2 * 3 * 4 * 5 * 6


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "valid": {"window_strides": (1, 1), "padding": "VALID"},
    "same": {"window_strides": (1, 1), "padding": "SAME"},
    "strides": {"window_strides": (2, 3), "padding": "SAME"},
    "gaps in the window": {
        "window_strides": (1, 2),
        "padding": ((2, 3), (0, 4)),
        "rhs_dilation": (2, 3),
    },
    "gaps in the input": {
        "window_strides": (1, 1),
        "padding": ((2, 2), (1, 2)),
        "lhs_dilation": (2, 3),
    },
    "both": {
        "window_strides": (4, 3),
        "padding": ((2, 2), (1, 2)),
        "lhs_dilation": (6, 2),
        "rhs_dilation": (3, 1),
    },
    "groups": {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_and_its_gradients_count_what_xla_counts(name: str) -> None:
    settings = CONVOLUTIONS[name]
    groups = settings.get("feature_group_count", 1)
    x, kernel = jnp.ones((2, 4, 9, 11)), jnp.ones((6, 4 // groups, 3, 2))

    def forward(x: Any, kernel: Any) -> Any:
        return lax.conv_general_dilated(x, kernel, **settings)

    once = flops_of(forward, x, kernel)
    assert once == xla_flops(forward, x, kernel)
    result, backward = jax.vjp(forward, x, kernel)
    assert flops_of(lambda y: backward(y)[0], result) == once
    assert flops_of(lambda y: backward(y)[1], result) == once


def test_what_the_result_does_not_need_is_not_counted() -> None:
    def step(x: Any) -> Any:
        unused = x @ x
        # The loop's second product is of a value that nobody asks for.
        first, _ = lax.fori_loop(0, 3, lambda _, both: (both[0] @ x, both[1] @ x), (x, unused))
        return first

    assert flops_of(step, SQUARE) == 3 * PRODUCT


def test_a_value_that_steers_another_is_needed() -> None:
    def step(x: Any) -> Any:
        return lax.fori_loop(0, 3, lambda _, both: (both[1], both[1] @ x), (x, x))[0]

    assert flops_of(step, SQUARE) == 3 * PRODUCT


def counting(start: int, goes_on: Callable[[Any], Any], after: Callable[[Any], Any]) -> Any:
    def step(x: Any) -> Any:
        return lax.while_loop(
            lambda state: goes_on(state[0]),
            lambda state: (after(state[0]), state[1] @ x),
            (jnp.int32(start), x),
        )[1]

    return step


TURNS = {
    "up": (counting(2, lambda n: n < 9, lambda n: n + 1), 7),
    "by three": (counting(0, lambda n: n <= 9, lambda n: n + 3), 4),
    "down": (counting(9, lambda n: n > 2, lambda n: n - 2), 4),
    "doubled": (counting(1, lambda n: n != 64, lambda n: n * 2), 6),
    "halved": (counting(-9, lambda n: n < 0, lambda n: lax.div(n, jnp.int32(2))), 4),
    "two tests": (counting(0, lambda n: (n < 9) & ~(n >= 5), lambda n: n + 1), 5),
    "never": (counting(9, lambda n: n < 9, lambda n: n + 1), 0),
}


@pytest.mark.parametrize("name", TURNS)
def test_the_turns_of_a_loop_are_found(name: str) -> None:
    step, turns = TURNS[name]
    assert flops_of(step, SQUARE) == turns * PRODUCT


def test_turns_of_a_loop_may_come_from_another_loop() -> None:
    def step(x: Any) -> Any:
        first = lax.while_loop(
            lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] @ x), (jnp.int32(0), x)
        )
        # As in the gradient of a loop, which turns as often as the loop did.
        return lax.while_loop(
            lambda s: s[0] < s[1],
            lambda s: (s[0] + 1, s[1], s[2] @ x),
            (jnp.int32(0), first[0], first[1]),
        )[2]

    assert flops_of(step, SQUARE) == 10 * PRODUCT


def test_a_loop_in_a_loop_counts_its_turns_in_each_turn() -> None:
    def inner(x: Any, count: Any) -> Any:
        return lax.while_loop(
            lambda s: s[0] < s[1], lambda s: (s[0] + 1, s[1], s[2] @ x), (jnp.int32(0), count, x)
        )[2]

    def step(x: Any) -> Any:
        start = jnp.int32(0), jnp.int32(4), x
        return lax.while_loop(
            lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1], s[2] @ inner(x, s[1])), start
        )[2]

    assert flops_of(step, SQUARE) == 3 * (1 + 4) * PRODUCT


def test_scans_and_their_gradients_are_counted() -> None:
    def loss(x: Any) -> Any:
        return lax.scan(lambda h, _: (jnp.tanh(h @ x), None), SQUARE, length=7)[0].sum()

    assert flops_of(jax.grad(loss), SQUARE) == 3 * 7 * PRODUCT


def test_of_a_conditional_the_larger_branch_counts() -> None:
    def step(x: Any) -> Any:
        return lax.cond(x.sum() > 0, lambda y: y @ y @ y, lambda y: y @ y, x)

    assert flops_of(step, SQUARE) == 2 * PRODUCT


def test_unknown_turns_are_refused_where_the_loop_has_products() -> None:
    def step(x: Any, count: Any) -> Any:
        return lax.fori_loop(0, count, lambda _, y: y @ x, x)

    with pytest.raises(Uncountable, match=r"unknown number of turns: .*while"):
        flops_of(step, SQUARE, 5)

    def sum_only(x: Any, count: Any) -> Any:
        return x @ lax.fori_loop(0, count, lambda _, y: y + x, x)

    assert flops_of(sum_only, SQUARE, 5) == PRODUCT


def test_a_loop_that_does_not_end_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowered, "MOST_TURNS", 50)
    endless = counting(0, lambda n: n >= 0, lambda n: n + 1)
    with pytest.raises(Uncountable):
        flops_of(endless, SQUARE)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match="HloModule"):
        module_flops(b"\xff\xff\xff")
