"""Finds where the level of a series of runs changed, run by run, as the runs come in.

After each run, means of the last runs of a series are held against its level before them, by
Student's t with an error from the same series (`bench.analysis.series_noise`). What is found at a
run depends on no later one: who looks after each run sees the same changes as who looks at the end,
so that the chance of a false one counts all looks.

Of alike cases of one machine, the level that they share in a run is taken out first, for that is
the machine's (`bench.analysis.common_level`). A value counts as at most 3.25 standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from bench.analysis.common_level import common_level, first_levels
from bench.analysis.series_noise import EVERY, WINDOWS, Array, Counts, SeriesNoise

# The runs that give a series its first level; the least after a change, before the next is sought.
FIRST_RUNS, LEAST_BEFORE = 10, 5
# The least runs after a change.
LEAST_AFTER = 3
# A value counts as at most so many standard deviations, so that at least four runs make a change in
# a suite of five cases or more.
# Where one launch in fifty ran at half speed, four deviations let a fifth of years raise a false
# alarm, with runs of one launch each (results/evidence/changes.csv).
CLIPPED = 3.25
# Enough to know the shared level of a run, and that it is not one case's own.
LEAST_CASES = 5
# The least runs before and after a place that may be that of a change.
_LEAST_EACH = 3
_MOST_BACK = 150
# A window of so many runs is the shortest that counts.
_SHORTEST = int(np.searchsorted(WINDOWS, LEAST_AFTER))
# A median of absolute deviations of ten normal values, as a standard deviation.
_FROM_MAD = 1.4826 * 1.15


class Alike(Enum):
    """What the series of one machine have in common.

    NOTHING: each is judged by itself.
    NOISE: the errors of their means are pooled.
    LEVEL: so they are, and the level that they share in a run is taken out.
    """

    NOTHING = auto()
    NOISE = auto()
    LEVEL = auto()


@dataclass(frozen=True, slots=True)
class Alarm:
    """A change that was found, when it was.

    Attributes:
        series, suite: where.
        first: number of the first run after the change, from 0 among the series' own runs.
        seen: how many runs the series had when it was found.
        p: the two-sided p-value of the surest window.
        variance: of the distance of two means, over 1/m + 1/n, for each of `WINDOWS`.
        freedom: degrees of freedom of the variances.
    """

    series: int
    suite: int
    first: int
    seen: int
    p: float
    variance: Array
    freedom: Array


class Watch:
    """Looks at one run after another, and keeps the changes found so far in `alarms`.

    Args:
        shape: numbers of series and of suites.
        runs: the most runs that will be seen.
        level: the two-sided error probability of one look at one series.
        alike: what the series have in common; several of them, at least `LEAST_CASES`.
        margin: the size of a change that is never told, in the unit of the values; one for each
            series, or none.
        least: the least standard deviation of a run that is believed.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        runs: int,
        level: float,
        *,
        alike: Alike,
        margin: Array | None = None,
        least: float = 0.0,
    ) -> None:
        series, suites = shape
        self.alarms: list[Alarm] = []
        self.shared = np.zeros((runs, suites))
        self.values = np.full((runs, series, suites), np.nan)
        self.seen = np.zeros(series, np.int64)
        self._run, self._alike = 0, alike is Alike.LEVEL
        self._margin = np.zeros((series, 1)) if margin is None else margin[:, None]
        self._noise = SeriesNoise(shape, runs, level, alike=alike is not Alike.NOTHING, least=least)
        self._sums = np.zeros((runs + 1, series, suites))
        self._start, self._base = np.zeros(shape, np.int64), np.zeros(shape)
        self._estimate = np.zeros((series, runs + 1), np.int64)
        self._ready = np.zeros(series, bool)
        self._waiting: list[Array] = []

    def see(self, values: Array) -> None:
        """Take in the next run.

        Args:
            values: shape (series, suites); NaN in all suites where the run does not have a series.
        """
        if self._alike and self._run < FIRST_RUNS:
            self._waiting.append(values)
            if len(self._waiting) == FIRST_RUNS:
                self.shared[:FIRST_RUNS] = first_levels(np.array(self._waiting))
                for number, earlier in enumerate(self._waiting):
                    self._take(earlier - self.shared[number])
        else:
            if self._alike:
                self.shared[self._run] = self._shared(values)
                values = values - self.shared[self._run]
            self._take(values)
        self._run += 1
        if self._run % EVERY == 0:
            self._noise.estimate(self._ready)

    def see_all(self, values: Array) -> None:
        """Take in runs, one after the other; shape (runs, series, suites)."""
        for run in values:
            self.see(run)

    def level(self, series: int, suite: int, first: int, last: int) -> float:
        """The mean of clipped values of the series' own runs from `first` until before `last`."""
        ends = self._sums[[first, last], series, suite]
        return float(ends[1] - ends[0]) / (last - first)

    def reach(self, series: int, suite: int, most: int, sure: float) -> float:
        """The least change that begins now and is found within `most` runs; infinite for none.

        Args:
            series: which one.
            suite: which one.
            most: number of runs.
            sure: standard errors beyond what is just found.
        """
        if not self._ready[series]:
            return np.inf
        before = self.seen[series] - self._start[series, suite]
        margin = float(self._margin[series, 0])
        variance, needed, _ = self._noise.told(series, suite, self._noise.number)
        error = np.sqrt(1 / WINDOWS + 1 / max(before, 1))
        can = (most >= WINDOWS) & (WINDOWS >= LEAST_AFTER) & (before >= LEAST_BEFORE)
        # Values are clipped, so a mean is never further beyond the margin than that.
        can &= needed * error <= CLIPPED * self._noise.spread[series, suite]
        sizes = margin + (needed + sure * np.sqrt(variance)) * error
        return float(sizes[can].min()) if can.any() else np.inf

    def _shared(self, values: Array) -> Array:
        here = self._ready & ~np.isnan(values[:, 0])
        if not here.any():
            return np.zeros(values.shape[1])
        last = self._sums[self.seen, np.arange(self.seen.size)]
        levels = (last - self._base) / np.maximum(self.seen[:, None] - self._start, 1)
        return common_level((values - levels)[here], self._noise.deviation[here])

    def _take(self, values: Array) -> None:
        here = np.flatnonzero(~np.isnan(values[:, 0]))
        self.values[self.seen[here], here] = values[here]
        self.seen[here] += 1
        self._estimate[here, self.seen[here]] = self._noise.number
        old = here[self._ready[here]]
        if old.size:
            last = self.seen[old] - 1
            before = self._sums[last, old]
            level = (before - self._base[old]) / (last[:, None] - self._start[old])
            most = CLIPPED * self._noise.spread[old] + self._margin[old]
            self._sums[last + 1, old] = before + level + np.clip(values[old] - level, -most, most)
            self._look(old)
        for series in here[~self._ready[here] & (self.seen[here] == FIRST_RUNS)]:
            self._begin(int(series))

    def _begin(self, series: int) -> None:
        """Take the first runs of a series for its level and scatter."""
        first = self.values[:FIRST_RUNS, series]
        middle = np.median(first, 0)
        deviation = _FROM_MAD * np.median(np.abs(first - middle), 0)
        clipped = middle + np.clip(first - middle, -CLIPPED * deviation, CLIPPED * deviation)
        self._sums[1 : FIRST_RUNS + 1, series] = np.cumsum(clipped, 0)
        self._noise.begin(series, deviation, FIRST_RUNS * clipped.var(0), FIRST_RUNS - 1)
        self._ready[series] = True

    def _look(self, series: Counts) -> None:
        """Hold the last runs of each series against its level before them."""
        seen, which = self.seen[series][:, None], series[:, None]
        ends = seen - WINDOWS
        before = ends[:, :, None] - self._start[series][:, None]
        known = before >= _LEAST_EACH
        ends, before = np.maximum(ends, 0), np.where(known, before, 1)
        sums = self._sums[ends, which]
        recent = (self._sums[seen[:, 0], series][:, None] - sums) / WINDOWS[:, None]
        distance = recent - (sums - self._base[series][:, None]) / before
        inverse = 1 / WINDOWS[:, None] + 1 / before
        needed = self._noise.needed(series, self._estimate[which, ends])
        sure = np.abs(distance) - self._margin[series][:, None] > needed * np.sqrt(inverse)
        sure &= before >= LEAST_BEFORE
        self._noise.add(series, distance, inverse, known)
        for number, suite in zip(*np.nonzero(sure[:, _SHORTEST:].any(1)), strict=True):
            surest = _Window(distance[number, :, suite], inverse[number, :, suite])
            self._alarm(int(series[number]), int(suite), surest)

    def _alarm(self, series: int, suite: int, looked: _Window) -> None:
        """Note a change, and begin the series anew at its first run after it."""
        seen, start = int(self.seen[series]), int(self._start[series, suite])
        places = np.arange(max(start + _LEAST_EACH, seen - _MOST_BACK), seen - LEAST_AFTER + 1)
        sums = self._sums[places, series, suite]
        after = (self._sums[seen, series, suite] - sums) / (seen - places)
        before = (sums - self._base[series, suite]) / (places - start)
        weight = 1 / (1 / (seen - places) + 1 / (places - start))
        first = int(places[np.argmax(np.square(after - before) * weight)])
        number = int(self._estimate[series, first])
        variance, _, freedom = self._noise.told(series, suite, number)
        self.alarms.append(
            Alarm(
                series,
                suite,
                first,
                seen,
                looked.p(variance, freedom, float(self._margin[series, 0])),
                variance,
                freedom,
            )
        )
        values = self.values[first:seen, series, suite]
        most = CLIPPED * self._noise.spread[series, suite]
        clipped = np.median(values) + np.clip(values - np.median(values), -most, most)
        base = self._sums[first, series, suite]
        self._sums[first + 1 : seen + 1, series, suite] = base + np.cumsum(clipped)
        self._start[series, suite], self._base[series, suite] = first, base
        self._noise.back_to(series, suite, number)


@dataclass(frozen=True, slots=True)
class _Window:
    """How far means lie from the level before, for each window, and 1/m + 1/n."""

    distance: Array
    inverse: Array

    def p(self, variance: Array, freedom: Array, margin: float) -> float:
        """The two-sided p-value of the surest window."""
        excess = np.maximum(np.abs(self.distance) - margin, 0.0)[_SHORTEST:]
        error = np.sqrt(variance * self.inverse)[_SHORTEST:]
        t = np.divide(excess, error, out=np.full(excess.shape, np.inf), where=error > 0)
        found: NDArray[np.float64] = 2 * stdtr(freedom[_SHORTEST:], -t)
        return float(found.min())
