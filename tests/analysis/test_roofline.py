"""The roofline's arithmetic, against answers worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.roofline import (
    Bound,
    Limits,
    Product,
    limits,
    standing,
    step_bytes,
    step_flops,
    training_products,
)
from bench.schema.ceilings import Ceilings, Traffic, products_key

MLP = [(784, 100), (100, 10)]
SOFTMAX = [(784, 10)]


def ceilings(moment: str = "before", **changed: Any) -> Ceilings:
    values: dict[str, Any] = {
        "device": "cpu",
        "precision": "float32",
        "threads": None,
        "moment": moment,
        "matmul_flops_per_s": {"plain": 1e11, "xla": 9e10},
        "bandwidth_bytes_per_s": {"1000": 8e10, "1000000": 4e10, "1000000000": 2e10},
        "products_s": {"784x10-b32": 0.5},
    }
    return Ceilings(**{**values, **changed})


def found(*measured: Ceilings) -> Limits:
    told = limits(measured, "cpu", "float32", None)
    assert told is not None
    return told


def test_the_products_of_a_step_in_their_order() -> None:
    assert training_products(MLP, 32) == [
        Product(32, 784, 100),
        Product(32, 100, 10),
        Product(100, 32, 10),
        Product(32, 10, 100),
        Product(784, 32, 100),
    ]


def test_the_first_layer_has_no_input_gradient() -> None:
    # 2 * 784 * 10 forward and as many for the weight gradient.
    assert step_flops(SOFTMAX, 1) == 31_360
    # 2 * 784 * 100 and 2 * 100 * 10, twice, and 2 * 100 * 10 for the second's input gradient.
    assert step_flops(MLP, 1) == 2 * (156_800 + 2_000) + 2_000


@given(
    st.lists(st.integers(1, 500), min_size=2, max_size=5), st.integers(1, 300), st.integers(1, 300)
)
def test_flops_grow_with_the_batch_alone(widths: list[int], first: int, second: int) -> None:
    layers = list(pairwise(widths))
    total = step_flops(layers, first) + step_flops(layers, second)
    assert step_flops(layers, first + second) == total


def test_every_array_counts_as_often_as_it_moves() -> None:
    assert step_bytes([Traffic("weights", 1000, 2), Traffic("labels", 128, 1)]) == 2128


def test_the_limit_is_the_longer_of_arithmetic_and_memory() -> None:
    machine = found(ceilings())
    by_compute = standing(10**9, [Traffic("weights", 1000, 2)], 0.02, machine)
    assert by_compute.limit_s == pytest.approx(0.01)
    assert by_compute.fraction == pytest.approx(0.5)
    assert by_compute.bound is Bound.COMPUTE
    by_memory = standing(10**6, [Traffic("weights", 10**9, 2)], 0.2, machine)
    assert by_memory.limit_s == pytest.approx(0.1)
    assert by_memory.bound is Bound.MEMORY


@pytest.mark.parametrize(("step_s", "bound"), [(0.0333, "compute"), (0.0334, "overhead")])
def test_under_a_fraction_of_0_3_a_case_is_overhead_bound(step_s: float, bound: str) -> None:
    assert standing(10**9, [], step_s, found(ceilings())).bound == bound


@pytest.mark.parametrize("step_s", [0.0, -1.0, math.nan, math.inf])
def test_a_step_that_took_no_time_is_refused(step_s: float) -> None:
    with pytest.raises(ValueError, match="step_s"):
        standing(10**9, [], step_s, found(ceilings()))


@pytest.mark.parametrize(
    ("working_set", "rate"),
    [(10, 8e10), (1000, 8e10), (999_999, 8e10), (1_000_000, 4e10), (10**12, 2e10)],
)
def test_bandwidth_is_that_of_a_working_set_no_larger(working_set: int, rate: float) -> None:
    assert found(ceilings()).bandwidth(working_set) == rate


def test_a_slow_reading_of_a_small_working_set_does_not_lower_the_limit() -> None:
    slow = ceilings(bandwidth_bytes_per_s={"1000": 1e10, "1000000": 4e10})
    assert found(slow).bandwidth(1000) == 4e10


def test_the_best_of_before_and_after_counts_on_each_path() -> None:
    after = ceilings(
        "after",
        matmul_flops_per_s={"plain": 8e10, "xla": 1.2e11},
        bandwidth_bytes_per_s={"1000": 7e10, "1000000": 5e10, "1000000000": 1e10},
        products_s={"784x10-b32": 0.4, "784x10-b64": 0.3},
    )
    best = found(ceilings(), after)
    assert best.matmul_flops_per_s == {"plain": 1e11, "xla": 1.2e11}
    assert best.peak_flops_per_s == 1.2e11
    assert best.bandwidth_bytes_per_s == ((1000, 8e10), (10**6, 5e10), (10**9, 2e10))
    assert best.products_s == {"784x10-b32": 0.4, "784x10-b64": 0.3}


@pytest.mark.parametrize(
    "other", [{"device": "gpu"}, {"precision": "mixed_float16"}, {"threads": 1}]
)
def test_ceilings_of_another_setting_say_nothing(other: dict[str, Any]) -> None:
    assert limits([ceilings(**other)], "cpu", "float32", None) is None


def test_ceilings_survive_json() -> None:
    assert Ceilings.from_json(ceilings().to_json()) == ceilings()


def test_an_epoch_of_products_is_named_by_its_shapes() -> None:
    assert products_key(MLP, 32) == "784x100-100x10-b32"
