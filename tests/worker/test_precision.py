"""The rule by which a launch's precision is judged, over products that are made up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.schema.errors import Invalid
from bench.worker.precision import Computed, Declared, Product, computed, refuse_declared

HIDDEN, OUTPUT = Declared("hidden", "bfloat16", 900), Declared("output", "float32", 100)


def judged(
    products: Sequence[Product],
    layers: Sequence[Declared] = (HIDDEN, OUTPUT),
    compute: str = "bfloat16",
    precision: str = "mixed_bfloat16",
) -> Computed:
    return computed(products, layers, compute, precision)


def test_a_float32_output_is_no_warning() -> None:
    products = [Product("hidden", "bfloat16", 900), Product("output", "float32", 100)]
    assert judged(products) == Computed(0.9)


def test_half_is_enough_and_less_is_not() -> None:
    half = [Product("hidden", "bfloat16", 5), Product("output", "float32", 5)]
    assert judged(half) == Computed(0.5)
    less = [Product("hidden", "bfloat16", 49), Product("output", "float32", 51)]
    with pytest.raises(Invalid, match="output computes in float32: 49% of the multiply-adds"):
        judged(less)


def test_float32_within_is_a_warning_that_names_it() -> None:
    within = [Product("first", "float32", 10), Product("hidden", "bfloat16", 90)]
    told = "first computes in float32: 90% of the multiply-adds are in bfloat16"
    assert judged(within) == Computed(0.9, (told,))


def test_only_a_mixed_case_may_compute_in_two_types() -> None:
    products = [Product("hidden", "float32", 99), Product("output", "bfloat16", 1)]
    with pytest.raises(Invalid, match=r"output computes in bfloat16: 99% of .* is float32"):
        judged(products, compute="float32", precision="float32")
    with pytest.raises(Invalid, match="hidden computes in float16"):
        judged([Product("hidden", "float16", 1), Product("output", "bfloat16", 9999)])


def test_without_a_product_the_weights_tell() -> None:
    assert judged([]) == Computed(0.9)
    assert judged([], layers=()) == Computed(1.0)
    with pytest.raises(Invalid, match="10% of the weights are of layers that compute in bfloat16"):
        judged([], layers=(Declared("hidden", "float32", 900), Declared("out", "bfloat16", 100)))


def test_many_layers_are_counted() -> None:
    with pytest.raises(Invalid, match="a0, a1, a2, a3 and 2 more compute in float32: 0% of"):
        judged([Product(f"a{number}", "float32", 1) for number in range(6)])


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Declared("a", "float32", 1, (("kernel", "float16"),)), "a/kernel is float16, not float32"),
        (Declared("a", "float16", 1, (("kernel", "float32"),)), "a computes in float16, not "),
        (Declared("a", "float64", 0), None),
        (Declared("a", "float32", 1, (("kernel", "float32"),)), None),
    ],
)
def test_what_layers_declare_is_refused_before_anything_is_trained(
    layer: Declared, reason: str | None
) -> None:
    if reason is None:
        refuse_declared([layer], "bfloat16", "float32", "mixed_bfloat16")
        return
    with pytest.raises(Invalid) as error:
        refuse_declared([layer], "bfloat16", "float32", "mixed_bfloat16")
    assert reason in str(error.value)
