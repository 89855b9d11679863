"""Counts what a watch of simulated histories told, and makes the rows of changes.csv of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bench.analysis.change_shape import place
from bench.analysis.changepoints import Alarm, Watch
from bench.evidence.exits import upper_bound, world_fields
from bench.evidence.worlds import Array
from bench.evidence.years import Years
from bench.verdicts.history_found import FOR_SHAPE, around, error_of, is_step, known_variance

Row = dict[str, Any]
# Runs before a step, and runs after it in which it may be found.
BEFORE, AFTER = (30, 120), 100
SOON = (5, 10, 30, AFTER)
# So many suites at once keep the arrays small.
_AT_ONCE = 100
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


def _lower_bound(hits: int, trials: int) -> float:
    """The exact one-sided lower 95% bound of a share."""
    return 1 - upper_bound(trials - hits, trials)


def parts(suites: int) -> Iterator[int]:
    """Numbers of suites that are looked at together, so that the arrays stay small."""
    for start in range(0, suites, _AT_ONCE):
        yield min(_AT_ONCE, suites - start)


def told_of(watch: Watch) -> tuple[int, int]:
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


def false_row(kind: Years, of: str, suites: int, counts: Sequence[int]) -> Row:
    """The row of years without a change; `counts` as of `told`, summed."""
    steps, either = counts
    return {
        "test": "unchanged",
        "of": of,
        **_fields(kind),
        "suites": suites,
        "alarms": steps,
        "rate": steps / suites,
        "rate_lower": _lower_bound(steps, suites),
        "rate_upper": upper_bound(steps, suites),
        "told_or_drift": either / suites,
        **dict.fromkeys(STEP_COLUMNS),
    }


class Found:
    """The steps of one size that were found: how soon, and how well they were told.

    Args:
        size: of the step of the first case, in the unit of the values.
        before: number of runs before it.
    """

    def __init__(self, size: float, before: int) -> None:
        self.before = before
        self._size, self._delays, self._right = size, list[int](), np.zeros(3)

    def look(self, watch: Watch) -> None:
        """Take in what a watch of some suites told."""
        for alarm, start in first_after(watch, self.before):
            self._delays.append(alarm.seen - self.before)
            self._right += right(watch, alarm, start, self._size, self.before)

    def fields(self, suites: int) -> Row:
        """The columns of the row, for so many suites."""
        number = len(self._delays)
        delays = np.array([*self._delays, *[math.inf] * (suites - number)])
        row: Row = {f"found_in_{runs}": float((delays <= runs).mean()) for runs in SOON}
        row["found_lower"] = _lower_bound(number, suites)
        for name, share in (("delay_median", 0.5), ("delay_90", 0.9)):
            delay = float(np.quantile(delays, share, method="inverted_cdf"))
            row[name] = delay if math.isfinite(delay) else None
        shares = (self._right / number).tolist() if number else [None] * 3
        return row | dict(zip(STEP_COLUMNS[-3:], shares, strict=True))


def step_fields(kind: Years, of: str, step: float, suites: int, found: Found) -> Row:
    """The row of a step; `of` is what changed, and `step` by how much."""
    return {
        "test": "step",
        "of": of,
        **_fields(kind),
        "suites": suites,
        **dict.fromkeys(("alarms", "rate", "rate_lower", "rate_upper", "told_or_drift")),
        "step": step,
        "before": found.before,
        **found.fields(suites),
    }


def first_after(watch: Watch, before: int) -> Iterator[tuple[Alarm, int]]:
    """The first alarm of the stepped case of each suite that was raised after the step."""
    met = set()
    for alarm, start in begun(watch):
        if alarm.series == 0 and alarm.seen > before and alarm.suite not in met:
            met.add(alarm.suite)
            yield alarm, start


def right(watch: Watch, alarm: Alarm, start: int, size: float, before: int) -> Array:
    """Whether it is called a drift, and its intervals hold the true size and place, when found."""
    runs, held = alarm.seen - alarm.first, alarm.first - start
    values, begins = around(watch, alarm, start, alarm.seen)
    after = float(np.mean(values[alarm.first - begins :]))
    error, freedom = error_of(alarm, runs, held)
    apart = after - watch.level(0, alarm.suite, start, alarm.first) - size
    _, low, high = place(values, known_variance(alarm, FOR_SHAPE))
    return np.array(
        [
            not is_step(watch, alarm, start, alarm.seen),
            abs(apart) <= float(stdtrit(freedom, 0.975)) * error,
            begins + low <= before <= begins + high,
        ],
        dtype=float,
    )
