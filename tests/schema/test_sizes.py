"""Margin and gate: their defaults, their bounds, and that a duel is held to them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bench.cli.declared import GATE_OPTIONS, SIZE_OPTIONS
from bench.cli.duel_plan import plan_of_duel
from bench.schema.bounds import checked
from bench.schema.case import Case
from bench.schema.duel import DuelPlan
from bench.schema.sizes import DUEL_GATE, MARGIN, Sizes
from bench.verdicts.duel import Standing, take_look
from bench.verdicts.sequential import Decision
from fmnist_models.errors import UserError

CASE = Case("relu_mlp", "adam", "compiled")


def typed(**more: float) -> dict[str, Any]:
    """What `fmnist-bench duel --a here --b here` is given, and more."""
    absent = (
        "budget",
        "rows",
        "gate",
        "margin",
        "accuracy_gate",
        "models",
        "optimizers",
        "loops",
        "devices",
        "batch_sizes",
        "precisions",
        "threads",
        "backends",
    )
    return dict.fromkeys(absent) | {"a": "here", "b": "here"} | more


def test_a_duel_sees_less_than_a_check() -> None:
    check, duel = Sizes.of_check(), Sizes.of_duel()
    assert check.margin == duel.margin == MARGIN
    assert check.gate > duel.gate == DUEL_GATE
    assert check.accuracy_gate > duel.accuracy_gate
    assert (check.log_margin, check.log_gate) == (math.log1p(MARGIN), math.log1p(check.gate))


def test_points_are_hundredths() -> None:
    assert Sizes.of_check(0.3, 0.0, 12).accuracy_gate == 0.12
    assert Sizes.of_duel(points=3.0).accuracy_gate == 0.03


def test_check_and_pytest_take_the_options_in_the_order_of_sizes() -> None:
    assert [option.key for option in SIZE_OPTIONS] == ["gate", "margin", "accuracy_gate"]
    assert GATE_OPTIONS[1:] == SIZE_OPTIONS


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ({"gate": 0.02, "margin": 0.02}, "--gate 0.02: write a share above the margin of 0.02"),
        ({"margin": math.inf}, "--margin inf: write a share of at least 0"),
        ({"accuracy_gate": 0.5}, "--accuracy-gate 0.5: write points above the 0.5"),
    ],
)
def test_what_a_duel_refuses(sizes: dict[str, float], line: str) -> None:
    with pytest.raises(UserError) as refused:
        plan_of_duel(typed(**sizes), "")
    assert str(refused.value).startswith(line)


def test_a_duel_keeps_its_sizes_and_old_ones_take_the_defaults() -> None:
    plan = plan_of_duel(typed(gate=0.2, margin=0.1, accuracy_gate=4.0), "")
    written = plan.to_json()
    assert checked(written, DuelPlan).sizes == Sizes(0.1, 0.2, 0.005, 0.04)
    for name in ("margin", "accuracy_gate"):
        del written[name]
    assert checked(written, DuelPlan).sizes == Sizes.of_duel(0.2)


@pytest.mark.parametrize(
    ("margin", "decision"), [(0.01, Decision.WORSE), (0.1, Decision.NOT_WORSE)]
)
def test_what_the_margin_tolerates_is_not_worse(margin: float, decision: Decision) -> None:
    blocks = [math.log(1.07) + 0.002 * (-1) ** block for block in range(8)]
    standing = Standing(CASE, speed=blocks, score=[0.0, 0.001] * 4)
    take_look(standing, Sizes.of_duel(0.2, margin), 1)
    assert standing.speed_look is not None
    assert standing.speed_look.decision is decision
    assert standing.score_look is not None
    assert standing.score_look.decision is Decision.NOT_WORSE
