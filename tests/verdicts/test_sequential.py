"""The looks of a duel against SciPy, brute force and properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.evidence.simulate import decided
from bench.schema.errors import ExitCode
from bench.verdicts.sequential import (
    DOUBT,
    LAST_LOOK,
    MISSED,
    PASSING,
    SPENDING,
    Decision,
    look,
    paired_p,
    sign_flip_p,
)

VALUES = st.lists(st.floats(-1, 1), min_size=2, max_size=10)
MARGIN, GATE = math.log(1.01), math.log(1.05)
without_deadline = settings(deadline=None)


def blocks(count: int, shift: float, sd: float = 0.03, seed: int = 3) -> list[float]:
    draws = np.random.default_rng(seed).normal(0, 1, count)
    return (shift + sd * (draws - draws.mean()) / draws.std(ddof=1)).tolist()


def test_one_percent_is_spent_in_all() -> None:
    assert math.fsum(SPENDING.values()) == pytest.approx(0.01)
    assert {*SPENDING} <= {*PASSING}
    assert LAST_LOOK == 24


@pytest.mark.parametrize("count", [2, 8, 24])
def test_p_is_scipys(count: int) -> None:
    values = blocks(count, 0.02)
    expected = scipy_stats.ttest_1samp(values, MARGIN, alternative="greater").pvalue
    assert paired_p(values, MARGIN) == pytest.approx(expected, rel=1e-9)


@without_deadline
@given(VALUES, st.floats(-0.1, 0.1))
def test_sign_flips_are_those_of_brute_force(values: list[float], margin: float) -> None:
    excess = np.array(values) - margin
    signs = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    least = excess.sum() - 1e-12 * np.abs(excess).sum()
    expected = np.mean(signs @ excess >= least)
    assert sign_flip_p(values, margin) == pytest.approx(expected, abs=2 / 2 ** len(values))


def test_sign_flips_of_24_blocks_are_exact() -> None:
    assert sign_flip_p([1.0] * 24, 0.0) == 2**-24
    assert sign_flip_p([-1.0] * 24, 0.0) == 1.0


@pytest.mark.parametrize("count", SPENDING)
@pytest.mark.parametrize("share", [1.0, 1 / 30])
def test_the_smallest_mean_is_where_the_decision_turns(count: int, share: float) -> None:
    smallest = look(blocks(count, 0.0), MARGIN, GATE, share).smallest
    above, below = (look(blocks(count, smallest + d), MARGIN, GATE, share) for d in (1e-9, -1e-9))
    assert above.decision is Decision.WORSE
    assert below.decision is not Decision.WORSE
    assert above.level == SPENDING[count] * share


def test_a_family_asks_for_more() -> None:
    values = blocks(8, 0.08)
    assert look(values, MARGIN, GATE, 1).decision is Decision.WORSE
    assert look(values, MARGIN, GATE, 1 / 1_000).decision is Decision.GO_ON


@pytest.mark.parametrize("count", PASSING)
@pytest.mark.parametrize("share", [1.0, 1 / 30])
def test_what_rules_the_gate_out_passes(count: int, share: float) -> None:
    error = 0.02 / math.sqrt(count)
    turn = GATE - scipy_stats.t.ppf(1 - PASSING[count], count - 1) * error
    for shift, passes in ((-1e-9, True), (1e-9, False)):
        found = look(blocks(count, turn + shift, 0.02), -0.1, GATE, share).decision
        assert found is not Decision.NOT_WORSE
        found = look(blocks(count, turn + shift, 0.02), GATE - 1e-6, GATE, share).decision
        assert (found is Decision.NOT_WORSE) is passes


@pytest.mark.parametrize("count", PASSING)
def test_what_seems_worse_than_the_margin_passes_at_the_last_look_alone(count: int) -> None:
    error = 0.002 / math.sqrt(count)
    turn = MARGIN + scipy_stats.t.ppf(1 - DOUBT, count - 1) * error
    for shift, doubted in ((1e-9, True), (-1e-9, False)):
        found = look(blocks(count, turn + shift, 0.002), MARGIN, GATE, 1).decision
        waits = doubted and count < LAST_LOOK
        assert found is (Decision.GO_ON if waits else Decision.NOT_WORSE)


@pytest.mark.parametrize("sd", [0.02, 0.04, 0.06, 0.1])
@pytest.mark.parametrize("cases", [1, 30])
def test_worse_by_the_gate_passes_in_one_duel_of_ten_at_most(sd: float, cases: int) -> None:
    """Where each look spent 5%, as the last one does, one in seven of them did."""
    values = np.random.default_rng(7).normal(GATE, sd, (20_000, LAST_LOOK))
    passed = (decided(values, cases) == ExitCode.PASSED).mean()
    # Two standard errors of so many trials.
    assert passed <= MISSED - 2 * math.sqrt(MISSED * (1 - MISSED) / 20_000)


@pytest.mark.parametrize("count", sorted({*PASSING} - {*SPENDING}))
def test_few_blocks_raise_no_alarm(count: int) -> None:
    for sd in (0.001, 0.0):
        seen = look(blocks(count, 0.5, sd) if sd else [0.5] * count, MARGIN, GATE, 1)
        assert (seen.decision, seen.level, seen.smallest) == (Decision.GO_ON, 0.0, math.inf)


@pytest.mark.parametrize("apart", [0.03, 0.1, 0.3])
def test_blocks_that_fall_to_either_side_by_chance_raise_few_alarms(apart: float) -> None:
    """Of four blocks, all fall to the side of an alarm in one duel of sixteen."""
    chance = np.random.default_rng(2)
    shape = 40_000, LAST_LOOK
    values = chance.choice((-apart, apart), shape) + chance.normal(0, 0.001, shape)
    assert (decided(values, 1) == ExitCode.REGRESSION).mean() < 0.01
    assert (values[:, :4] > 0).all(1).mean() > 0.05


def test_faster_is_not_worse() -> None:
    assert look(blocks(24, -0.3), MARGIN, GATE, 1).decision is Decision.NOT_WORSE


def test_values_that_never_differ() -> None:
    assert paired_p([0.5] * 8, 0.1) == 0.0
    assert paired_p([0.1] * 8, 0.1) == 1.0


@pytest.mark.parametrize("count", [1, 3, 7, 9, 23, 25])
def test_no_look_in_between(count: int) -> None:
    with pytest.raises(ValueError, match="look at 4, 6, 8, 12, 16, 24 only"):
        look([0.0] * count, MARGIN, GATE, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_values(bad: float) -> None:
    with pytest.raises(ValueError, match="is not finite"):
        paired_p([0.0, bad], MARGIN)


@pytest.mark.parametrize("share", [0, -1, 1.1, math.nan])
def test_no_share(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        look([0.0] * 8, MARGIN, GATE, share)


def test_a_gate_within_the_margin() -> None:
    with pytest.raises(ValueError, match="gate"):
        look([0.0] * 8, MARGIN, MARGIN, 1)


@pytest.mark.parametrize("values", [[], [0.0] * 33])
def test_too_few_or_many_for_sign_flips(values: list[float]) -> None:
    with pytest.raises(ValueError, match="1 to 32"):
        sign_flip_p(values, 0.0)
