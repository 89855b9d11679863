"""How far means of several runs lie from the level before them, in series without a change.

A mean of m runs scatters less than one run, but by how much depends on the machine: where a slow
hour lasts for several runs, means scatter nearly as much as single runs. So the error of a mean is
taken from the same series: from how far earlier means of m runs lay from the level before them.

Arrays are of shape (series, suites) and (series, windows, suites): many simulated suites are looked
at together, and a user's history is one suite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Known = NDArray[np.bool_]

# The numbers of runs whose mean is held against the level before them.
WINDOWS: Counts = np.array([1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45])
# The noise is estimated anew after so many runs.
EVERY = 5
# What the other series tell of the variance of one, in degrees of freedom. The logs of their
# standard deviations scatter by 0.4 in the simulated suites, which is worth four.
_SHARED_FREEDOM = 4.0
# What heavy tails leave of the degrees of freedom of a variance.
_TAILS = 0.7
# With more degrees of freedom, heavy tails exceed the error rate that the quantile should hold.
_MOST_FREEDOM = 60.0
_LEAST_VARIANCE = 1e-24
_SPREAD = int(np.searchsorted(WINDOWS, 8))


class SeriesNoise:
    """The error of a mean of runs, of every series, as it was known at each earlier run.

    Args:
        shape: numbers of series and of suites.
        runs: the most runs that will be seen.
        level: the two-sided error probability of one look at one series.
        alike: the series are alike and independent of each other, so each tells of the others.
        least: the least standard deviation of a run that is believed.
    """

    def __init__(
        self, shape: tuple[int, int], runs: int, level: float, *, alike: bool, least: float = 0.0
    ) -> None:
        series, suites = shape
        full = (series, WINDOWS.size, suites)
        past = (runs // EVERY + 3, *full)
        self.number = 0
        self.deviation = np.zeros(shape)
        # The geometric mean of it and of what means of eight runs would tell of it: more where
        # successive runs are alike.
        self.spread = np.zeros(shape)
        self._alike, self._least = alike, max(_LEAST_VARIANCE, least**2)
        self._squares, self._counts = np.zeros(full), np.zeros(full)
        # What was known after each estimate. A window is judged by what was known before it began.
        self._needed = np.full(past, np.inf, np.float32)
        self._variance = np.full(past, np.inf, np.float32)
        self._old_squares = np.zeros(past, np.float32)
        self._old_counts = np.zeros(past, np.float32)
        few = np.linspace(1.0, 20.0, 96)
        self._freedom = np.concatenate([few, np.linspace(20.5, _MOST_FREEDOM, 80)])
        self._quantile = stdtrit(self._freedom, 1 - level / 2)

    def begin(self, series: int, deviation: Array, squares: Array, count: int) -> None:
        """Take a first scatter of a series: its standard deviation, and squares about its mean."""
        self.deviation[series] = np.maximum(deviation, np.sqrt(self._least))
        self.spread[series] = self.deviation[series]
        self._squares[series, 0], self._counts[series, 0] = squares, count

    def add(self, series: Counts, distance: Array, inverse: Array, known: Known) -> None:
        """Take in how far means lay from the level before them.

        Args:
            series: which ones; shape (n,).
            distance: shape (n, windows, suites).
            inverse: 1 / (runs of the window) + 1 / (runs of the level), of the same shape.
            known: where there were enough runs.
        """
        self._squares[series] += np.where(known, np.square(distance) / inverse, 0.0)
        self._counts[series] += known

    def estimate(self, ready: Known) -> None:
        """Estimate the errors of the series in `ready` anew, from all that was added."""
        self.number += 1
        if ready.any():
            squares, counts = self._squares[ready], self._counts[ready]
            means = squares / np.maximum(counts, 1.0)
            single = np.maximum(means[:, 0], self._least)
            ratios = means / single[:, None]
            # Of means that overlap, m tell as much as one. The first tells more than its share, and
            # counts for half of one, because a wandering series shows how far it goes only later.
            blocks = np.where(counts > 0, 0.5 + (counts - 1) / WINDOWS[:, None], 0.0)
            own = counts[:, 0]
            if self._alike:
                shared = np.exp(np.log(single).mean(0))
                single = (_SHARED_FREEDOM * shared + own * single) / (_SHARED_FREEDOM + own)
                pooled = (counts * ratios).sum(0) / np.maximum(counts.sum(0), 1.0)
                drawn = (_SHARED_FREEDOM * pooled + blocks * ratios) / (_SHARED_FREEDOM + blocks)
                # A series that wanders more than the others has its own error.
                ratios = np.maximum(pooled, drawn)
                blocks = np.broadcast_to(blocks.sum(0), blocks.shape)
            freedom = _TAILS * own + _SHARED_FREEDOM * self._alike
            # A longer mean is never more sure than a shorter one of a steady machine would be.
            ratios = np.maximum.accumulate(np.maximum(ratios, _LEAST_VARIANCE), 1)
            together = 1 / np.maximum(freedom, 1e-9)[:, None] + 1 / np.maximum(blocks, 1e-9)
            quantile = np.interp(1 / together, self._freedom, self._quantile)
            variance = np.where(counts > 0, ratios * single[:, None], np.inf)
            self._variance[self.number, ready] = variance
            self._needed[self.number, ready] = quantile * np.sqrt(variance)
            self.deviation[ready] = np.sqrt(single)
            self.spread[ready] = np.sqrt(single * np.sqrt(ratios[:, _SPREAD]))
        self._old_squares[self.number], self._old_counts[self.number] = self._squares, self._counts

    def needed(self, series: Counts, numbers: Counts) -> Array:
        """The distance that counts, times the root of 1/m + 1/n; shape (n, windows, suites).

        Args:
            series: which ones; shape (n,).
            numbers: which estimate, for each series and window; shape (n, windows).
        """
        found = self._needed[numbers, series[:, None], np.arange(WINDOWS.size)]
        return found.astype(float)

    def told(self, series: int, suite: int, number: int) -> tuple[Array, Array, Array]:
        """(variance, least sure distance, degrees of freedom) of each window, of one estimate.

        The variance is that of the distance, over 1/m + 1/n.
        """
        variance = self._variance[number, series, :, suite].astype(float)
        needed = self._needed[number, series, :, suite].astype(float)
        known = np.isfinite(variance)
        quantile = np.divide(
            needed, np.sqrt(variance), out=np.full(needed.shape, np.inf), where=known
        )
        # The quantile falls with the degrees of freedom.
        freedom = np.interp(-quantile, -self._quantile, self._freedom)
        return variance, needed, freedom

    def back_to(self, series: int, suite: int, number: int) -> None:
        """Forget what was added after an estimate, because a change began there."""
        for past in (self._needed, self._variance, self._old_squares, self._old_counts):
            past[number + 1 :, series, :, suite] = past[number, series, :, suite]
        self._squares[series, :, suite] = self._old_squares[number, series, :, suite]
        self._counts[series, :, suite] = self._old_counts[number, series, :, suite]
