"""Counts how often the history is wrong: false changes in a year, steps found, and their delay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bench.analysis.change_shape import place
from bench.analysis.changepoints import LEAST_CASES, Alarm, Watch
from bench.evidence.exits import upper_bound, world_fields
from bench.evidence.worlds import Array, World, launch_medians
from bench.evidence.years import Years, years
from bench.schema.sizes import CHECK_ACCURACY_MARGIN
from bench.verdicts.check_data import SEED_SCATTER
from bench.verdicts.history import (
    LEAST_SCATTER,
    LUCK,
    SCORE_LEVEL,
    SHARED_LEVEL,
    SPEED_LEVEL,
    YEAR,
)
from bench.verdicts.history_found import (
    FOR_SHAPE,
    around,
    error_of,
    is_step,
    known_variance,
)

Row = dict[str, Any]
STEPS = (0.02, 0.05, 0.10, 0.20)
# Runs before a step, and runs after it in which it may be found.
BEFORE, AFTER = (30, 120), 100
SOON = (5, 10, 30, AFTER)
# The scatter of a control series, as a standard deviation of a run.
_CONTROL_SD = 0.01
# So many suites at once keep the arrays small.
_AT_ONCE = 100
_WHOLE = World(0.0, 0.0)
_OWN = World(0.8, 0.02, 0.5)
UNCHANGED = (
    Years(_WHOLE),
    Years(World(0.0, 0.03, 0.5)),
    Years(World(0.5, 0.01, 0.5)),
    Years(World(0.5, 0.03)),
    Years(World(0.5, 0.03, 0.5)),
    Years(World(0.8, 0.01, 0.5)),
    Years(_OWN),
    Years(World(0.8, 0.03)),
    Years(World(0.8, 0.03, 0.5)),
    Years(World(0.9, 0.02, 0.5)),
    Years(World(0.5, 0.01), switches=0.02),
    Years(World(0.5, 0.01), switches=0.02, launches=1),
    Years(_WHOLE, cases=7),
    Years(_OWN, cases=7),
    Years(_WHOLE, cases=3),
    Years(World(0.8, 0.03), cases=3),
)
STEPPED = (
    Years(_WHOLE),
    Years(World(0.5, 0.03)),
    Years(World(0.5, 0.03, 0.5)),
    Years(_OWN),
    Years(_WHOLE, cases=3),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is simulated: years of an unchanged suite, and suites with a step."""

    years: int
    steps: int


def change_rows(effort: Effort, seed: int, tell: Callable[[str], object]) -> list[Row]:
    """The rows of changes.csv."""
    rows: list[Row] = []
    for number, kind in enumerate(UNCHANGED):
        rows += false_rows(kind, effort.years, seed + number)
        tell(f"{kind}: {rows[-1]['alarms']} of {rows[-1]['suites']}")
    rows += score_rows(effort.years, seed)
    for number, kind in enumerate(STEPPED):
        for before in BEFORE:
            for step in STEPS:
                rows.append(step_row(kind, step, before, effort.steps, seed + number))
            tell(f"{kind}: steps after {before} runs")
    return rows


def watched(values: Array, level: float, *, alike: bool) -> Watch:
    """A watch that saw all runs; shape (runs, series, suites)."""
    watch = Watch(values.shape[1:], len(values), level, alike=alike)
    watch.see_all(values)
    return watch


def false_rows(kind: Years, suites: int, seed: int) -> Iterator[Row]:
    """Years of an unchanged suite in which a change was told: of a case, or of all cases.

    What all cases share is judged as it is, and against a control series.
    """
    rng = np.random.default_rng(seed)
    pool = launch_medians(rng, World(0.5, 0.0))
    alike = kind.cases >= LEAST_CASES
    told: dict[str, list[tuple[int, int]]] = {"a case": []}
    for several in _parts(suites):
        values = years(rng, kind, pool, several, YEAR)
        watch = watched(values, SPEED_LEVEL / (YEAR * kind.cases), alike=alike)
        told["a case"].append(_told(watch))
        if alike:
            control = _CONTROL_SD * rng.standard_t(4, watch.shared.shape) / math.sqrt(2)
            for name, shared in (
                ("all cases", watch.shared),
                # The machine's drift is in the control series too, so only its own scatter is left.
                ("all cases, control", _own_scatter(rng, kind, watch.shared.shape) + control),
            ):
                own = watched(shared[:, None], SHARED_LEVEL / YEAR, alike=False)
                told.setdefault(name, []).append(_told(own))
    for name, counts in told.items():
        yield _false(kind, name, suites, np.array(counts).sum(0).tolist())


def _own_scatter(rng: np.random.Generator, kind: Years, shape: tuple[int, ...]) -> Array:
    return np.asarray(0.015 / math.sqrt(kind.cases) * rng.standard_normal(shape))


def score_rows(suites: int, seed: int) -> Iterator[Row]:
    """The same for scores: equal in every run, or with the scatter of seeds."""
    for scatter in (0.0, SEED_SCATTER):
        rng = np.random.default_rng(seed)
        kind = Years(_WHOLE)
        alarms, drifts = 0, 0
        for several in _parts(suites):
            shape = (YEAR, kind.cases, several)
            values = scatter / math.sqrt(kind.launches) * rng.standard_normal(shape)
            margin = CHECK_ACCURACY_MARGIN + LUCK * SEED_SCATTER / math.sqrt(kind.launches)
            watch = Watch(
                shape[1:],
                YEAR,
                SCORE_LEVEL / (YEAR * kind.cases),
                alike=False,
                margin=np.full(kind.cases, margin),
                least=LEAST_SCATTER,
            )
            watch.see_all(values)
            found = _told(watch)
            alarms, drifts = alarms + found[0], drifts + found[1]
        yield _false(kind, f"a score, scatter {scatter:g}", suites, [alarms, drifts])


def _lower_bound(hits: int, trials: int) -> float:
    """The exact one-sided lower 95% bound of a share."""
    return 1 - upper_bound(trials - hits, trials)


def _parts(suites: int) -> Iterator[int]:
    for start in range(0, suites, _AT_ONCE):
        yield min(_AT_ONCE, suites - start)


def _told(watch: Watch) -> tuple[int, int]:
    """Numbers of suites in which a step was told, and in which a step or a drift was."""
    steps = {
        alarm.suite for alarm, start in begun(watch) if is_step(watch, alarm, start, alarm.seen)
    }
    return len(steps), len({alarm.suite for alarm in watch.alarms})


def begun(watch: Watch) -> Iterator[tuple[Alarm, int]]:
    """Each alarm, with the first run of the level before it."""
    starts: dict[tuple[int, int], int] = {}
    for alarm in watch.alarms:
        yield alarm, starts.get((alarm.series, alarm.suite), 0)
        starts[alarm.series, alarm.suite] = alarm.first


def _fields(kind: Years) -> Row:
    own = {"launches": kind.launches, "switches": kind.switches}
    return {"cases": kind.cases, **world_fields(kind.world), **own}


def _false(kind: Years, of: str, suites: int, counts: Sequence[int]) -> Row:
    steps, told = counts
    return {
        "test": "unchanged",
        "of": of,
        **_fields(kind),
        "suites": suites,
        "alarms": steps,
        "rate": steps / suites,
        "rate_lower": _lower_bound(steps, suites),
        "rate_upper": upper_bound(steps, suites),
        "told_or_drift": told / suites,
        **dict.fromkeys(STEP_COLUMNS),
    }


STEP_COLUMNS = (
    "step",
    "before",
    *(f"found_in_{runs}" for runs in SOON),
    "found_lower",
    "delay_median",
    "delay_90",
    "called_drift",
    "size_covered",
    "place_covered",
)


def step_row(kind: Years, step: float, before: int, suites: int, seed: int) -> Row:
    """How soon a step of one case is found, and how well its size and place are told.

    Args:
        kind: the machine and the suite.
        step: the added share of time.
        before: number of runs before it.
        suites: number of suites.
        seed: of the random generator.
    """
    rng = np.random.default_rng(seed)
    pool = launch_medians(rng, World(0.5, 0.0))
    delays, right = list[float](), np.zeros(3)
    for several in _parts(suites):
        values = years(rng, kind, pool, several, before + AFTER)
        values[before:, 0] += math.log1p(step)
        level = SPEED_LEVEL / (YEAR * kind.cases)
        watch = watched(values, level, alike=kind.cases >= LEAST_CASES)
        for alarm, start in _first_after(watch, before):
            delays.append(alarm.seen - before)
            right += _right(watch, alarm, start, step, before)
    found = np.array([*delays, *[math.inf] * (suites - len(delays))])
    shares = (right / len(delays)).tolist() if delays else [None] * 3
    own = {
        "test": "step",
        "of": "a case",
        **_fields(kind),
        "suites": suites,
        **dict.fromkeys(("alarms", "rate", "rate_lower", "rate_upper", "told_or_drift")),
        "step": step,
        "before": before,
        **{f"found_in_{runs}": float((found <= runs).mean()) for runs in SOON},
        "found_lower": _lower_bound(len(delays), suites),
    }
    for name, share in (("delay_median", 0.5), ("delay_90", 0.9)):
        delay = float(np.quantile(found, share, method="inverted_cdf"))
        own[name] = delay if math.isfinite(delay) else None
    return own | dict(zip(STEP_COLUMNS[-3:], shares, strict=True))


def _first_after(watch: Watch, before: int) -> Iterator[tuple[Alarm, int]]:
    """The first alarm of the stepped case of each suite that was raised after the step."""
    met = set()
    for alarm, start in begun(watch):
        if alarm.series == 0 and alarm.seen > before and alarm.suite not in met:
            met.add(alarm.suite)
            yield alarm, start


def _right(watch: Watch, alarm: Alarm, start: int, step: float, before: int) -> Array:
    """Whether it is called a drift, and its intervals hold the true size and place, when found."""
    runs, held = alarm.seen - alarm.first, alarm.first - start
    values, begins = around(watch, alarm, start, alarm.seen)
    after = float(np.mean(values[alarm.first - begins :]))
    error, freedom = error_of(alarm, runs, held)
    apart = after - watch.level(0, alarm.suite, start, alarm.first) - math.log1p(step)
    _, low, high = place(values, known_variance(alarm, FOR_SHAPE))
    return np.array(
        [
            not is_step(watch, alarm, start, alarm.seen),
            abs(apart) <= float(stdtrit(freedom, 0.975)) * error,
            begins + low <= before <= begins + high,
        ],
        dtype=float,
    )
