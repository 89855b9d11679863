"""The series of one machine as arrays of runs by cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import fmean, median, variance

import numpy as np
from numpy.typing import NDArray

from bench.schema.history import HistoryPoint, HistorySeries
from bench.schema.score import Scale
from bench.verdicts.check_data import SEED_SCATTER

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """One figure of the runs of a machine.

    Attributes:
        series: the columns.
        points: of each column, those of its runs that are not NaN, in order.
        values: shape (runs, columns); NaN where a run does not have the case.
        runs: a point of each run, of any column.
    """

    series: tuple[HistorySeries, ...]
    points: tuple[tuple[HistoryPoint, ...], ...]
    values: Array
    runs: tuple[HistoryPoint, ...]

    def of_runs(self, chosen: NDArray[np.bool_]) -> Table:
        """The same without the other runs."""
        kept = {point.run for point, held in zip(self.runs, chosen, strict=True) if held}
        points = tuple(tuple(p for p in column if p.run in kept) for column in self.points)
        runs = tuple(point for point in self.runs if point.run in kept)
        return Table(self.series, points, self.values[chosen], runs)

    def of_columns(self, chosen: Sequence[int]) -> Table:
        """The same without the other columns."""
        series = tuple(self.series[number] for number in chosen)
        points = tuple(self.points[number] for number in chosen)
        return Table(series, points, self.values[:, list(chosen)], self.runs)


def machines(series: Sequence[HistorySeries]) -> list[list[HistorySeries]]:
    """The series of each machine, in their order."""
    found: dict[str, list[HistorySeries]] = {}
    for one in series:
        found.setdefault(one.machine, []).append(one)
    return list(found.values())


def probe_of(table: Table) -> Array:
    """Log seconds of the control probe of each run; NaN where it has no reading."""
    return np.array([math.nan if run.control is None else run.control for run in table.runs])


def controls(series: Sequence[HistorySeries], patterns: Sequence[str]) -> list[int]:
    """The columns whose case matches a pattern of the control series."""
    return [
        number
        for number, one in enumerate(series)
        if any(fnmatchcase(one.case, pattern) for pattern in patterns)
    ]


def speed_table(series: Sequence[HistorySeries]) -> Table:
    """Log seconds per sample of the runs that ended ok, the median of their launches.

    Some machines run single launches at half speed, which the mean would follow.
    """
    return _table(series, [{p.run: median(p.logs) for p in one.points if p.logs} for one in series])


def score_table(series: Sequence[HistorySeries]) -> tuple[Table, list[Scale]]:
    """Scores as shares that are larger where the score is worse, and their scales.

    A training that diverged counts as a loss of everything.
    """
    columns, scales = [], []
    for one in series:
        means = {p.run: fmean(p.scores) for p in one.points if p.scores}
        scale = Scale.of(one.score, one.better, means.values())
        finite = [scale.loss(value) for value in means.values() if math.isfinite(value)]
        worst = max(finite, default=0.0) + 1.0
        columns.append(
            {
                run: scale.loss(value) if math.isfinite(value) else worst
                for run, value in means.items()
            }
        )
        scales.append(scale)
    return _table(series, columns), scales


def luck_of_seeds(series: HistorySeries, scale: Scale) -> float:
    """The standard deviation that other random numbers give the score of a run, as a share.

    A new version of a framework may draw others. It is taken from the launches of each run, for
    each has a seed of its own, and is at least that of the documented networks.
    """
    launches = [tuple(map(scale.loss, p.scores)) for p in series.points if p.scores]
    finite = [losses for losses in launches if all(map(math.isfinite, losses))]
    several = [variance(losses) for losses in finite if len(losses) > 1]
    number = fmean(map(len, launches)) if launches else 1.0
    single = max(SEED_SCATTER, math.sqrt(fmean(several))) if several else SEED_SCATTER
    return single / math.sqrt(number)


def _table(series: Sequence[HistorySeries], columns: Sequence[dict[str, float]]) -> Table:
    points = [
        tuple(p for p in one.points if p.run in column)
        for one, column in zip(series, columns, strict=True)
    ]
    met = {point.run: point for column in points for point in column}
    runs = tuple(sorted(met.values(), key=lambda point: (point.time_utc, point.run)))
    values = np.array([[column.get(point.run, math.nan) for column in columns] for point in runs])
    ordered = tuple(
        tuple(sorted(column, key=lambda point: (point.time_utc, point.run))) for column in points
    )
    return Table(tuple(series), ordered, values.reshape(len(runs), len(series)), runs)
