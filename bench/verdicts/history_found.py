"""Makes the changes of a history from the alarms of a watch: place, size, shape and sureness."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.special import stdtr, stdtrit

from bench.analysis.change_shape import CREPT, crept, place, smoother
from bench.analysis.changepoints import CLIPPED, Alarm, Watch
from bench.analysis.series_noise import WINDOWS
from bench.schema.history import HistoryPoint, HistorySeries
from bench.schema.score import OF_ACCURACY, Scale
from bench.schema.sizes import Sizes
from bench.verdicts.history_change import ALL_CASES, Change, Place, Shape, What, change_id
from bench.verdicts.history_tables import Array, Table

# The chance of a false change of a machine in a year of daily runs.
PROMISED = 0.01
_UPPER = 0.975
# The place and the shape are told by so many runs on each side.
_MOST_EACH = 150
# Successive runs may be alike, so the scatter of means of eight runs stands for that of one.
FOR_SHAPE = int(np.searchsorted(WINDOWS, 8))
# A creep is the case's own where so much of it is there against the control series too.
_OWN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Family:
    """Series that were watched together, with one error rate.

    Attributes:
        points: of each series, its runs in the order in which they were seen.
        level: the two-sided error probability of one look at one series.
        control: the level of the control series in the run of each of the points, if there is one.
        relative: the values were held against the other cases, not against the control.
    """

    series: tuple[HistorySeries, ...]
    points: tuple[tuple[HistoryPoint, ...], ...]
    watch: Watch
    level: float
    control: tuple[Array, ...] | None
    relative: bool = False
    what: What = What.SPEED
    scales: tuple[Scale, ...] = ()

    @classmethod
    def of(
        cls,
        table: Table,
        values: Array,
        watch: Watch,
        level: float,
        control: Array | None,
    ) -> Family:
        """Of the columns of a table; `values` are what was watched, `control` is of each run."""
        held = ~np.isnan(values)
        points = []
        for number, column in enumerate(table.points):
            by_run = {point.run: point for point in column}
            runs = [table.runs[at] for at in np.flatnonzero(held[:, number])]
            points.append(tuple(by_run[point.run] for point in runs))
        levels = None
        if control is not None:
            levels = tuple(control[held[:, number]] for number in range(held.shape[1]))
        scales = (OF_ACCURACY,) * len(table.series)
        return cls(table.series, tuple(points), watch, level, levels, scales=scales)


@dataclass(frozen=True, slots=True)
class _Found:
    """One alarm with the level before it from `start` and that after it until `end`."""

    alarm: Alarm
    start: int
    end: int
    size: float


def changes_of(family: Family, sizes: Sizes) -> Iterator[Change]:
    """The changes of every series of the family."""
    for number in range(len(family.series)):
        alarms = [alarm for alarm in family.watch.alarms if alarm.series == number]
        found = _together(family.watch, list(_found(family.watch, number, alarms)))
        made = [_change(family, number, group, sizes) for group in found]
        for change, group in zip(made, found, strict=True):
            yield replace(change, over=_is_over(family, group, found, sizes))


def without_mirrors(changes: Sequence[Change]) -> list[Change]:
    """The changes without those that only show that the other cases changed.

    Where most cases became slower at once, what all share did, and the few that stayed as they
    were look faster than the others by as much.
    """
    shared = [change for change in changes if change.case == ALL_CASES]
    return [change for change in changes if not any(_mirrors(change, one) for one in shared)]


def _mirrors(change: Change, shared: Change) -> bool:
    if change.case == ALL_CASES or change.what is What.SCORE or change.machine != shared.machine:
        return False
    places = change.place, shared.place
    apart = any(one.after.time_utc < other.before.time_utc for one, other in (places, places[::-1]))
    left = math.log1p(change.size) + math.log1p(shared.size)
    width = math.log1p(change.high) - math.log1p(change.low)
    return not apart and change.worse != shared.worse and abs(left) <= width


def _found(watch: Watch, number: int, alarms: Sequence[Alarm]) -> Iterator[_Found]:
    starts = [0, *(alarm.first for alarm in alarms)]
    ends = [*(alarm.first for alarm in alarms[1:]), int(watch.seen[number])]
    for alarm, start, end in zip(alarms, starts, ends, strict=False):
        size = watch.level(number, 0, alarm.first, end) - watch.level(number, 0, start, alarm.first)
        yield _Found(alarm, start, end, size)


def _shape(family: Family, number: int, group: Sequence[_Found]) -> Shape:
    only = group[0]
    if len(group) == 1 and is_step(family.watch, only.alarm, only.start, only.end):
        return Shape.STEP
    return Shape.CREEP if _is_own(family, number, group) else Shape.DRIFT


def _is_own(family: Family, number: int, group: Sequence[_Found]) -> bool:
    """Whether a control series shows that a creep is not the machine's."""
    if family.control is None or not family.relative:
        return family.control is not None
    before, after = _levels(family, number, group)
    size, first, last = after - before, group[0], group[-1]
    shared = family.watch.shared[:, 0]
    runs = {point.run: level for point, level in zip(_all_runs(family), shared, strict=True)}
    against = np.array([runs[point.run] for point in family.points[number]])
    values = family.watch.values[: against.size, number, 0] + against - family.control[number]
    moved = _mean(values[last.alarm.first : last.end])
    moved -= _mean(values[first.start : first.alarm.first])
    return bool(moved * size > _OWN_SHARE * size * size)


def _mean(values: Array) -> float:
    """The mean of the known values; NaN where no run has a control."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _all_runs(family: Family) -> list[HistoryPoint]:
    met = {point.run: point for column in family.points for point in column}
    return sorted(met.values(), key=lambda point: (point.time_utc, point.run))


def is_step(watch: Watch, alarm: Alarm, start: int, end: int) -> bool:
    """Whether a change came at once.

    Args:
        watch: what found it.
        alarm: the change.
        start: the first run of the level before it.
        end: the run after the last of the level after it.
    """
    values, _ = around(watch, alarm, start, end)
    return crept(values, known_variance(alarm, FOR_SHAPE)) <= CREPT


def error_of(alarm: Alarm, runs: int, held: int) -> tuple[float, float]:
    """(standard error, degrees of freedom) of a mean of `runs` less one of `held` before it."""
    window = min(int(np.searchsorted(WINDOWS, min(runs, held))), WINDOWS.size - 1)
    error = math.sqrt(known_variance(alarm, window) * (1 / runs + 1 / held))
    return error, float(alarm.freedom[window])


def around(watch: Watch, alarm: Alarm, start: int, end: int) -> tuple[Array, int]:
    """(clipped values about a change, number of the first of them)."""
    start, end = max(start, alarm.first - _MOST_EACH), min(end, alarm.first + _MOST_EACH)
    most = CLIPPED * math.sqrt(known_variance(alarm, 0))
    parts = []
    for part in (slice(start, alarm.first), slice(alarm.first, end)):
        values = watch.values[part, alarm.series, alarm.suite]
        middle = np.median(values)
        parts.append(middle + np.clip(values - middle, -most, most))
    return np.concatenate(parts), start


def known_variance(alarm: Alarm, window: int) -> float:
    """The variance of a window, or of the longest one below it that was known."""
    return float(alarm.variance[: window + 1][np.isfinite(alarm.variance[: window + 1])][-1])


def _together(watch: Watch, found: Sequence[_Found]) -> list[list[_Found]]:
    """What creeps the same way is one change, found in several places; the longest first."""
    groups: list[list[_Found]] = []
    at = 0
    while at < len(found):
        most = at + 1
        while most < len(found) and found[most].size * found[at].size > 0:
            most += 1
        while most > at + 1 and not _is_slow(watch, found[at:most]):
            most -= 1
        groups.append(list(found[at:most]))
        at = most
    return groups


def _is_slow(watch: Watch, group: Sequence[_Found]) -> bool:
    """Whether one slow change fits better than the steps that were found."""
    ends = [group[0].start, *(found.alarm.first for found in group), group[-1].end]
    alarm, most = group[0].alarm, CLIPPED * math.sqrt(known_variance(group[0].alarm, 0))
    levels = []
    for start, end in pairwise(ends):
        values = watch.values[start:end, alarm.series, alarm.suite]
        levels.append(np.clip(values, np.median(values) - most, np.median(values) + most))
    return smoother(levels, known_variance(alarm, FOR_SHAPE)) > 0


def _levels(family: Family, number: int, group: Sequence[_Found]) -> tuple[float, float]:
    """The level before the first and after the last of them."""
    first, last = group[0], group[-1]
    level = family.watch.level
    return (
        level(number, 0, first.start, first.alarm.first),
        level(number, 0, last.alarm.first, last.end),
    )


def _change(family: Family, number: int, group: Sequence[_Found], sizes: Sizes) -> Change:
    first, last = group[0], group[-1]
    series, points = family.series[number], family.points[number]
    before, after = _levels(family, number, group)
    runs, held = last.end - last.alarm.first, first.alarm.first - first.start
    error, freedom = error_of(first.alarm, runs, held)
    half = float(stdtrit(freedom, _UPPER)) * error
    size = after - before
    now = 2 * float(stdtr(freedom, -abs(size) / error)) if error > 0 else 0.0
    p = min(now, *(one.alarm.p for one in group))
    speed = family.what is What.SPEED
    low, middle, high = (
        math.expm1(value) if speed else value for value in (size - half, size, size + half)
    )
    margin = sizes.margin if speed else sizes.accuracy_margin
    return Change(
        change_id(series, series.case, family.what, points[first.alarm.first]),
        series.machine,
        series.machine_name,
        series.case,
        family.what,
        _shape(family, number, group),
        middle,
        low,
        high,
        min(1.0, PROMISED * p / family.level),
        _place(family, number, group),
        runs,
        counts=abs(middle) > margin,
        controlled=family.control is not None,
        scale=family.scales[number],
    )


def _place(family: Family, number: int, group: Sequence[_Found]) -> Place:
    ends = []
    for one in group:
        values, start = around(family.watch, one.alarm, one.start, one.end)
        ends.append([start + at for at in place(values, known_variance(one.alarm, FOR_SHAPE))])
    low, high = ends[0][1], ends[-1][2]
    return Place.of(family.points[number], ends[0][0], low, high)


def _is_over(
    family: Family, group: Sequence[_Found], all_of: Sequence[Sequence[_Found]], sizes: Sizes
) -> bool:
    """Whether a later change took it back, but for what is tolerated."""
    number = group[0].alarm.series
    before, after = _levels(family, number, group)
    margin = sizes.log_margin if family.what is What.SPEED else sizes.accuracy_margin
    later = [other for other in all_of if other[0].alarm.first > group[-1].alarm.first]
    sign = math.copysign(1.0, after - before)
    return any(sign * (_levels(family, number, other)[1] - before) <= margin for other in later)
