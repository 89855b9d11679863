"""Whether a change came at once or crept, and between which runs it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Numbers of runs over which a change may creep. Over fewer, it is told from a step by no test.
_LENGTHS = tuple(dict.fromkeys(round(8 * 1.12**power) for power in range(36)))
# Twice the log of the likelihood ratio from which a change crept. Of steps that are found, at most
# one in twenty crosses it (results/evidence).
CREPT = 6.0
# Of twice the log of a likelihood ratio, that of the place of a step stays below 7.35 with a
# probability of (1 - exp(-7.35 / 2))^2 = 95% (D. Siegmund, "Confidence sets in change-point
# problems", International Statistical Review 56, 1988).
_PLACE = 7.35
_LEAST_EACH = 2
_MOST_POINTS = 400


def crept(values: Array, variance: float) -> float:
    """How much better than a step a slow rise or fall fits; twice the log of a likelihood ratio.

    Args:
        values: the runs of one level, the change, and the level after it; shape (runs).
        variance: of a run, or more where successive runs are alike; above 0.
    """
    apart = values - values.mean()
    step = _gains(apart)[_LEAST_EACH : values.size - 1 - _LEAST_EACH]
    return (_best_slope(apart) - float(step.max(initial=0.0))) / variance


def smoother(levels: Sequence[Array], variance: float) -> float:
    """How much better than several steps one slow rise or fall fits, as in `crept`.

    A step has a place and a size, the slow change a place, a length and a size; each costs the log
    of the number of runs (G. Schwarz, "Estimating the dimension of a model", Annals of Statistics
    6, 1978).

    Args:
        levels: the runs of each level, in order.
        variance: as in `crept`.
    """
    values = np.concatenate(levels)
    middle = values.mean()
    steps = sum(level.size * (level.mean() - middle) ** 2 for level in levels)
    more = 2 * (len(levels) - 1) - 3
    gain = _best_slope(values - middle) - float(steps)
    return gain / variance + more * math.log(values.size)


def _best_slope(apart: Array) -> float:
    """By how much the best slow rise or fall lowers the sum of squares."""
    # Runs side by side are taken together where there are many.
    width = -(-apart.size // _MOST_POINTS)
    apart = apart[: apart.size // width * width].reshape(-1, width).mean(1)
    runs = apart.size
    number, best = np.arange(runs), 0.0
    for length in (*(length for length in _LENGTHS if length < runs), runs):
        begins = np.arange(4 - length, runs - 3) if length < runs else np.zeros(1)
        slopes = np.clip((number - begins[:, None]) / length, 0.0, 1.0)
        slopes -= slopes.mean(1, keepdims=True)
        squares = np.square(slopes).sum(1)
        fits = np.square(slopes @ apart) / np.maximum(squares, np.finfo(float).tiny)
        best = max(best, float(fits[squares > 0].max(initial=0.0)))
    return best * width


def place(values: Array, variance: float) -> tuple[int, int, int]:
    """(the likeliest, the first, the last) number of the first run after a step, with 95%.

    Args:
        values: the runs of the level before and of the level after; shape (runs).
        variance: as in `crept`.
    """
    gains = _gains(values - values.mean())
    best = int(np.argmax(gains))
    within = np.flatnonzero(gains >= gains[best] - _PLACE * variance)
    return best + 1, int(within[0]) + 1, int(within[-1]) + 1


def _gains(apart: Array) -> Array:
    """By how much a step before each run but the first lowers the sum of squares."""
    after = np.arange(1, apart.size)
    return np.asarray(np.square(np.cumsum(apart)[:-1]) * (1 / after + 1 / (apart.size - after)))
