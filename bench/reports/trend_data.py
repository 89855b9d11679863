"""Histories as they are drawn: each case's runs, the changes among them, and the levels between."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from bench.analysis.stats import student_halves
from bench.schema.case import Case
from bench.schema.case_ids import case_of
from bench.schema.history import HistoryPoint, HistorySeries
from bench.verdicts.history_change import ALL_CASES, Cause, Change, Shape, What

Array = NDArray[np.float64]
# A cause in a chart, where there is room for a sign or two.
SIGNS: Mapping[Cause, str] = {
    Cause.CODE: "C",
    Cause.ENVIRONMENT: "E",
    Cause.BOTH: "C+E",
    Cause.UNKNOWN: "E?",
    Cause.UNRECORDED: "?",
}


class Standing(StrEnum):
    """How a change is marked; a loss is one that `history changes` counts."""

    LOSS = "loss"
    KNOWN = "known"
    GAIN = "gain"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Mark:
    """A change at its place among the points of a trend, as their indices.

    Attributes:
        first: the likeliest first point after it.
        low, high: the points between which it surely lies.
    """

    change: Change
    first: int
    low: int
    high: int

    @property
    def shared(self) -> bool:
        """Whether all cases of the machine changed together."""
        return self.change.case == ALL_CASES

    @property
    def magnitude(self) -> float:
        """Its size, with no direction, so that large ones are larger."""
        size = self.change.size
        return abs(math.log1p(size)) if self.change.what is What.SPEED else abs(size)


@dataclass(frozen=True, slots=True)
class Level:
    """The median of the points from `start` up to, without it, `end`."""

    start: int
    end: int
    value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """A series as it is drawn.

    Attributes:
        case: the fields of its case; None where its id tells none.
        values: of each point, samples/s and the mean score; NaN where there is none.
        halves: half of the 95% interval over the launches, of the speed as a logarithm, of the
            score in its unit; NaN where there is none.
        marks: the earliest first.
        levels: of speed and score, between the changes.
    """

    series: HistorySeries
    case: Case | None
    values: Mapping[What, Array]
    halves: Mapping[What, Array]
    marks: tuple[Mark, ...]
    levels: Mapping[What, tuple[Level, ...]]

    @property
    def points(self) -> tuple[HistoryPoint, ...]:
        """Its runs, the earliest first."""
        return self.series.points

    @property
    def own(self) -> tuple[Mark, ...]:
        """The changes of the case itself, without those of all cases together."""
        return tuple(mark for mark in self.marks if not mark.shared)

    @property
    def largest(self) -> float:
        """The magnitude of its own largest change; 0 without one."""
        return max((mark.magnitude for mark in self.own), default=0.0)

    @property
    def order(self) -> tuple[bool, str, float]:
        """What those to look at first have more of: a new loss, a late change, a large one."""
        alarms = any(mark.change.alarms for mark in self.own)
        newest = max((mark.change.place.first.time_utc for mark in self.own), default="")
        return alarms, newest, self.largest


def trends(
    series: Sequence[HistorySeries],
    changes: Sequence[Change],
    cases: str = "*",
    begun: str = "",
    last: int | None = None,
) -> list[Trend]:
    """The series to draw, by machine and case.

    Args:
        series: all runs of them.
        changes: those that were found in them.
        cases: a pattern of the names of the cases.
        begun: earlier runs are left out (ISO 8601 in UTC); empty for none.
        last: of each machine at most so many runs, the newest; None for all.
    """
    kept = {(machine, run) for machine, run in _runs(series, begun, last)}
    drawn = []
    for one in series:
        points = [point for point in one.points if (one.machine, point.run) in kept]
        if points and fnmatchcase(one.case, cases):
            points.sort(key=_place)
            drawn.append(_trend(replace(one, points=tuple(points)), changes))
    return drawn


def standing(change: Change) -> Standing:
    """How a change is marked."""
    if change.alarms:
        return Standing.LOSS
    if change.note is not None:
        return Standing.KNOWN
    if change.over or not change.counts or change.shape is Shape.DRIFT:
        return Standing.QUIET
    return Standing.GAIN


def _runs(
    series: Sequence[HistorySeries], begun: str, last: int | None
) -> Iterable[tuple[str, str]]:
    """(machine, run) of those that are shown."""
    machines: dict[str, set[tuple[str, str]]] = {}
    for one in series:
        machines.setdefault(one.machine, set()).update(map(_place, one.points))
    for machine, places in machines.items():
        own = sorted(place for place in places if place[0] >= begun)
        yield from ((machine, run) for _, run in (own if last is None else own[-last:]))


def _place(point: HistoryPoint) -> tuple[str, str]:
    return point.time_utc, point.run


def _trend(series: HistorySeries, changes: Sequence[Change]) -> Trend:
    points = series.points
    logs = [point.logs for point in points]
    scores = [point.scores for point in points]
    values = {
        What.SPEED: np.array([math.exp(-fmean(own)) if own else math.nan for own in logs]),
        What.SCORE: np.array([fmean(own) if own else math.nan for own in scores]),
    }
    halves = {What.SPEED: student_halves(logs), What.SCORE: student_halves(scores)}
    marks = tuple(_marks(series, changes))
    levels = {what: tuple(_levels(values[what], what, marks)) for what in What}
    return Trend(series, case_of(series.case), values, halves, marks, levels)


def _marks(series: HistorySeries, changes: Sequence[Change]) -> Iterable[Mark]:
    places = [_place(point) for point in series.points]
    held = set(places)
    for change in changes:
        first = _place(change.place.first)
        # Series of other work have the same case, and other runs.
        if change.machine != series.machine or not (
            change.case == ALL_CASES or (change.case == series.case and first in held)
        ):
            continue
        if places[0] < first <= places[-1]:
            ends = change.place.before, change.place.after
            low, high = (bisect_left(places, _place(end)) for end in ends)
            at = bisect_left(places, first)
            yield Mark(change, at, min(low, at), min(high, len(places) - 1))


def _levels(values: Array, what: What, marks: Sequence[Mark]) -> Iterable[Level]:
    cuts = sorted({mark.first for mark in marks if mark.change.what is what})
    for start, end in zip([0, *cuts], [*cuts, values.size], strict=True):
        held = values[start:end][np.isfinite(values[start:end])]
        if held.size:
            yield Level(start, end, float(np.median(held)))
