"""Changes of level in series of runs: found, placed, and not found where none is."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.change_shape import CREPT, crept, place
from bench.analysis.changepoints import CLIPPED, FIRST_RUNS, Alike, Watch
from bench.analysis.common_level import common_level
from bench.analysis.series_noise import Array

LEVEL = 1e-7


def noise(runs: int, cases: int, seed: int = 1) -> Array:
    """Values of a standard deviation of 1%, with what all cases share drifting by 3%."""
    rng = np.random.default_rng(seed)
    own = 0.01 * rng.standard_normal((runs, cases))
    return np.asarray(own + 0.03 * rng.standard_normal((runs, 1)))


def watched(
    values: Array, *, alike: Alike = Alike.LEVEL, margin: float = 0.0, least: float = 0.0
) -> Watch:
    margins = np.full(values.shape[1], margin)
    watch = Watch(
        (values.shape[1], 1), len(values), LEVEL, alike=alike, margin=margins, least=least
    )
    for run in values:
        watch.see(run[:, None])
    return watch


def places(watch: Watch) -> list[tuple[int, int]]:
    return [(alarm.series, alarm.first) for alarm in watch.alarms]


def test_step_of_a_case_is_found_soon_and_no_other() -> None:
    values = noise(120, 10)
    values[80:, 3] += 0.08
    watch = watched(values)
    assert places(watch) == [(3, 80)]
    assert watch.alarms[0].seen <= 80 + 8
    assert watch.alarms[0].p <= LEVEL
    change = watch.level(3, 0, 80, 120) - watch.level(3, 0, 0, 80)
    assert change == pytest.approx(0.08, abs=0.01)


def test_what_was_told_stays_as_runs_come() -> None:
    values = noise(200, 6)
    values[60:, 1] += 0.1
    values[150:, 1] -= 0.1
    values[100:, 4] += 0.06
    whole = watched(values).alarms
    early = watched(values[:120]).alarms
    assert [(a.series, a.first, a.seen, a.p) for a in early] == [
        (a.series, a.first, a.seen, a.p) for a in whole if a.seen <= 120
    ]
    assert [(a.series, a.first) for a in whole] == [(1, 60), (4, 100), (1, 150)]


def test_many_suites_are_looked_at_as_each_alone() -> None:
    values = np.stack([noise(100, 6, seed) for seed in range(4)], axis=-1)
    values[70:, 2, 1] += 0.1
    together = Watch((6, 4), 100, LEVEL, alike=Alike.LEVEL)
    for run in values:
        together.see(run)
    alone = [a.first for suite in range(4) for a in watched(values[:, :, suite]).alarms]
    assert [(a.series, a.suite, a.first) for a in together.alarms] == [(2, 1, alone[0])]
    assert len(alone) == 1


def test_no_few_runs_make_a_change() -> None:
    values = noise(120, 8)
    values[100:103, 2] += 0.7
    assert places(watched(values)) == []
    assert CLIPPED**2 * 3 < 36  # three clipped values lie below the quantile of `LEVEL`


def test_wandering_series_has_the_error_of_its_own_means() -> None:
    rng = np.random.default_rng(5)
    values = 0.005 * rng.standard_normal((365, 40))
    drift = rng.standard_normal((365, 40))
    for run in range(1, 365):
        drift[run] = 0.9 * drift[run - 1] + 0.44 * drift[run]
    assert places(watched(values + 0.02 * drift, alike=Alike.NOTHING)) == []


def test_change_of_fewer_than_half_of_the_cases_is_theirs() -> None:
    values = noise(150, 12)
    values[100:, :5] += 0.06
    watch = watched(values)
    assert sorted(alarm.series for alarm in watch.alarms) == [0, 1, 2, 3, 4]
    assert np.abs(watch.shared[100:].mean() - watch.shared[:100].mean()) < 0.015


def test_missing_runs_and_late_cases() -> None:
    values = noise(160, 8)
    values[:60, 7] = np.nan
    values[40:45, 2] = np.nan
    values[120:, 7] += 0.1
    watch = watched(values)
    # Numbered among the runs that hold the case.
    assert places(watch) == [(7, 60)]
    assert watch.seen.tolist() == [160, 160, 155, 160, 160, 160, 160, 100]


def test_equal_values_change_beyond_the_margin_only() -> None:
    values = np.zeros((60, 2))
    values[30:] += [0.015, 0.06]
    assert places(watched(values, alike=Alike.NOTHING, margin=0.02, least=0.001)) == [(1, 30)]


def test_reach_falls_with_runs_and_is_found() -> None:
    values = noise(200, 10)
    short, long = (watched(values[:runs]).reach(0, 0, 10, 1.3) for runs in (60, 200))
    assert watched(values[: FIRST_RUNS - 1]).reach(0, 0, 10, 1.3) == np.inf
    assert long < short < 0.25
    further = np.concatenate([values, noise(10, 10, seed=2)])
    further[200:, 0] += long
    assert [alarm.series for alarm in watched(further).alarms] == [0]


def test_shape_and_place_of_a_change() -> None:
    rng = np.random.default_rng(3)
    scatter = 0.01 * rng.standard_normal(120)
    step = scatter + np.where(np.arange(120) >= 70, 0.05, 0.0)
    creep = scatter + np.maximum(np.arange(120) - 40, 0) * 0.002
    assert crept(step, 1e-4) < 0 < CREPT < crept(creep, 1e-4)
    first, low, high = place(step, 1e-4)
    assert (first, low <= 70 <= high, high - low <= 3) == (70, True, True)


def test_common_level_ignores_the_minority() -> None:
    apart = np.array([[0.0], [0.01], [-0.01], [0.005], [0.5], [0.6]])
    assert common_level(apart, np.full((6, 1), 0.01))[0] == pytest.approx(0.0, abs=0.005)
