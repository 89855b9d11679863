"""The simulation decides as the suite does, and its worlds are what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.analysis.phases import Share, Split
from bench.analysis.profile_rows import Profile
from bench.evidence.exits import accuracy_rows, confirmed, ends, speed_rows, upper_bound
from bench.evidence.known import INJECTIONS, Pair, truth_row
from bench.evidence.simulate import decided, duel_rows, worlds
from bench.evidence.worlds import (
    Suite,
    World,
    autoregressive,
    block_logs,
    heavy,
    launch_medians,
    run_logs,
)
from bench.schema.case import Case
from bench.schema.launch import Status
from bench.schema.profile import Phase, ProfileRecord
from bench.schema.sizes import CHECK_ACCURACY_GATE, DEFAULT_GATE, DUEL_GATE
from bench.verdicts.check import SPEED_LEVEL
from bench.verdicts.regression import estimate, stored_test
from bench.verdicts.sequential import PASSING, SPEED_SHARE, Decision, look

MARGIN = math.log(1.01)


def generator() -> np.random.Generator:
    return np.random.default_rng(9)


def outcome(values: Sequence[float], cases: int) -> int:
    """What the looks of a duel come to, one after the other, until one decides."""
    for blocks in PASSING:
        seen = look(values[:blocks], MARGIN, math.log1p(DUEL_GATE), SPEED_SHARE / cases)
        if seen.decision in (Decision.WORSE, Decision.NOT_WORSE):
            return 1 if seen.decision is Decision.WORSE else 0
    return 3


@pytest.mark.parametrize("cases", [1, 30])
def test_many_duels_at_once_decide_as_one_by_one(cases: int) -> None:
    chance = generator()
    values = chance.normal(0.03, chance.uniform(0.01, 0.2, (400, 1)), (400, 24))
    one_by_one = [outcome(row, cases) for row in values.tolist()]
    assert decided(values, cases).tolist() == one_by_one
    assert min(one_by_one.count(code) for code in (0, 1, 3)) > 5


@pytest.mark.parametrize(("hits", "trials"), [(0, 100), (3, 500), (42, 50), (7, 7)])
def test_the_bound_is_that_of_clopper_and_pearson(hits: int, trials: int) -> None:
    test = scipy_stats.binomtest(hits, trials, alternative="less")
    expected = test.proportion_ci(0.95, "exact").high
    assert upper_bound(hits, trials) == pytest.approx(expected)


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.8])
def test_series_have_their_autocorrelation(coefficient: float) -> None:
    series = autoregressive(generator(), (20_000, 6), coefficient)
    assert series.std(0) == pytest.approx(1.0, abs=0.03)
    found = np.corrcoef(series[:, 2], series[:, 3])[0, 1]
    assert found == pytest.approx(coefficient, abs=0.03)


def test_tails_are_heavy_at_one_standard_deviation() -> None:
    draws = heavy(generator(), (200_000,))
    assert draws.std() == pytest.approx(1.0, abs=0.05)
    assert (np.abs(draws) > 4).mean() > 20 * 2 * scipy_stats.norm.sf(4)


def test_a_shared_drift_moves_all_cases() -> None:
    world = World(0.0, 1.0)
    logs = run_logs(generator(), world, np.zeros(1), 1, 50, Suite(30, 3))[0]
    assert np.corrcoef(logs[:, 0], logs[:, 1])[0, 1] > 0.95


def test_blocks_of_equals_have_no_sign() -> None:
    values = block_logs(generator(), World(0.8, 0.03), 500, 2, 24, 0.02)
    assert values.shape == (500, 2, 24)
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(values.size)


def test_autocorrelated_medians_scatter_more() -> None:
    spreads = [launch_medians(generator(), World(c, 0.0)).std() for c in (0.0, 0.8)]
    assert spreads[1] > 1.5 * spreads[0]


def test_the_worlds_are_those_that_were_promised() -> None:
    every = list(worlds())
    assert {w.autocorrelation for w in every} == {0.0, 0.5, 0.8}
    assert (min(w.drift for w in every), max(w.drift for w in every)) == (0.0, 0.03)


def test_rows_are_the_same_again() -> None:
    world = World(0.5, 0.02, 0.5)
    assert speed_rows(world, 20, 3) == speed_rows(world, 20, 3)
    rows = duel_rows(world, 200, 3)
    assert [row["cases"] for row in rows["false_alarms"]] == [30, 1]
    powers = [row["power"] for row in rows["power"] if row["cases"] == 1]
    assert powers == sorted(powers)


QUIET, DRIFTING = World(0.5, 0.0), World(0.5, 0.03)


@pytest.fixture(scope="module")
def small_worlds() -> dict[tuple[World, int, float], dict[str, float]]:
    """Exits of families of seven in a quiet and a drifting world, by world, runs and gate."""
    rows: dict[tuple[World, int, float], dict[str, float]] = {}
    for world in (QUIET, DRIFTING):
        chance = np.random.default_rng(11)
        pool = launch_medians(chance, world)
        runs = run_logs(chance, world, pool, 3_000, 11, Suite(7, 3))
        for stored in (3, 6, 10):
            found = estimate(runs[:, :stored], runs[:, 10:])
            gates = (0.1, 0.15, 0.25)
            test = stored_test(found, MARGIN, SPEED_LEVEL)
            every = ends(found, test, MARGIN, SPEED_LEVEL, map(math.log1p, gates))
            rows |= {
                (world, stored, gate): end.fields() for gate, end in zip(gates, every, strict=True)
            }
    return rows


def test_an_exit_of_0_means_that_the_gate_is_found_nine_times_in_ten(
    small_worlds: dict[tuple[World, int, float], dict[str, float]],
) -> None:
    """Where the least confirmed change alone had to be within the gate, half of them were."""
    assert all(row["power_upper"] >= 0.9 for row in small_worlds.values() if row["able"])
    often = [row for row in small_worlds.values() if row["exit_0"] > 0.02]
    assert len(often) > 8
    assert min(row["power"] for row in often) >= 0.9


def test_worse_by_the_gate_hardly_ever_ends_with_0(
    small_worlds: dict[tuple[World, int, float], dict[str, float]],
) -> None:
    assert max(row["worse_exit_0"] for row in small_worlds.values()) <= 0.02


def test_an_unchanged_suite_is_hardly_ever_a_regression(
    small_worlds: dict[tuple[World, int, float], dict[str, float]],
) -> None:
    assert max(row["exit_1"] for row in small_worlds.values()) <= 0.01


def test_a_quiet_host_reaches_an_exit_of_0_at_the_default_gate(
    small_worlds: dict[tuple[World, int, float], dict[str, float]],
) -> None:
    for stored in (6, 10):
        assert small_worlds[QUIET, stored, DEFAULT_GATE]["exit_0"] > 0.5
    assert small_worlds[DRIFTING, 6, 0.1]["exit_3"] > 0.9


def test_runs_of_one_hour_taken_for_several_would_raise_alarms() -> None:
    """Which is why a check counts them as one."""
    chance = np.random.default_rng(5)
    pool = launch_medians(chance, DRIFTING)
    runs = run_logs(chance, World(0.5, 0.0), pool, 1_500, 6, Suite(7, 10))
    hours = 0.03 * chance.standard_normal((1_500, 4, 1))
    runs += hours[:, [0, 1, 2, 3, 3, 3]]
    several, one = runs[:, 3:], runs[:, 3:].mean(1, keepdims=True)
    alarms = [
        stored_test(estimate(runs[:, :3], now), MARGIN, SPEED_LEVEL).rejected.any(1).mean()
        for now in (several, one)
    ]
    assert alarms[0] > 0.015
    assert alarms[1] < 0.01


def test_the_first_case_is_made_worse_as_the_suite_itself_would_see_it() -> None:
    runs = generator().normal(0, 0.02, (300, 7, 5))
    worse = runs.copy()
    worse[:, 6:, 0] += 0.15
    found, again = (estimate(suites[:, :6], suites[:, 6:]) for suites in (runs, worse))
    flags = confirmed(found, stored_test(found, MARGIN, 0.01).p, MARGIN, 0.01, 0.15)
    assert flags.tolist() == stored_test(again, MARGIN, 0.01).rejected.tolist()
    assert 10 < flags[:, 0].sum() < 300


def test_a_drop_of_accuracy_as_large_as_its_default_gate_is_found() -> None:
    rows = [row for row in accuracy_rows(400, 3) if row["gate"] == CHECK_ACCURACY_GATE]
    assert all(row["exit_1"] == 0 for row in rows)
    seeds_repeat = [row for row in rows if row["scatter"] == 0]
    assert all(row["exit_0"] == 1 and row["power"] > 0.9 for row in seeds_repeat)


def profiled(step_s: float, input_s: float) -> Profile:
    """A profile with nothing but the step and its input pipeline."""
    shares = tuple(
        Share(phase, input_s if phase is Phase.INPUT else 0.0, 0.0, 0.0, 0.0) for phase in Phase
    )
    record = ProfileRecord(Case("relu_mlp", "adam", "fit"), Status.OK)
    return Profile(record, Split(step_s, shares))


def test_a_known_cost_is_held_against_what_the_whole_step_grew_by() -> None:
    pairs = [
        Pair(2.0, profiled(1.0, 0.5), profiled(4.0, 3.2)),
        Pair(2.2, profiled(1.5, 0.5), profiled(3.5, 2.3)),
    ]
    row = truth_row(Phase.INPUT, pairs)
    assert (row["pairs"], row["phase"]) == (2, "input pipeline")
    assert row["alone_s"] == pytest.approx(2.1)
    assert row["added_s"] == pytest.approx(2.5)
    assert row["found_s"] == pytest.approx((2.7 + 1.8) / 2)
    assert row["found_over_added"] == pytest.approx(2.25 / 2.5)
    assert row["found_share"] == pytest.approx(2.25 / 3.75)
    assert row["lowest_over_added"] == pytest.approx(0.9) == row["highest_over_added"]


def test_the_injections_are_of_every_loop_and_of_a_pipeline() -> None:
    assert {injection.loop for injection in INJECTIONS} == {"fit", "multistep", "compiled"}
    assert {injection.phase for injection in INJECTIONS} == {Phase.FORWARD, Phase.INPUT}
