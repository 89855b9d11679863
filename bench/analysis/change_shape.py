"""Whether a change came at once or crept, and between which runs it lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Numbers of runs over which a change may creep. Over fewer, it is told from a step by no test.
_LENGTHS = (8, 12, 18, 27, 40, 60, 90, 135, 200)
# Twice the log of the likelihood ratio from which a change crept. Of steps that are found, at most
# one in twenty crosses it (results/evidence).
CREPT = 6.0
# Of twice the log of a likelihood ratio, that of the place of a step stays below 7.35 with a
# probability of (1 - exp(-7.35 / 2))^2 = 95% (D. Siegmund, "Confidence sets in change-point
# problems", International Statistical Review 56, 1988).
_PLACE = 7.35
_LEAST_EACH = 2


def crept(values: Array, variance: float) -> float:
    """How much better than a step a slow rise or fall fits; twice the log of a likelihood ratio.

    Args:
        values: the runs of one level, the change, and the level after it; shape (runs).
        variance: of a run, or more where successive runs are alike.
    """
    runs = values.size
    apart = values - values.mean()
    step = _gains(apart)[_LEAST_EACH : runs - 1 - _LEAST_EACH]
    number, rise = np.arange(runs), 0.0
    for length in (*(length for length in _LENGTHS if length < runs), runs):
        begins = np.arange(4 - length, runs - 3) if length < runs else np.zeros(1)
        slopes = np.clip((number - begins[:, None]) / length, 0.0, 1.0)
        slopes -= slopes.mean(1, keepdims=True)
        squares = np.square(slopes).sum(1)
        fits = np.square(slopes @ apart) / np.maximum(squares, np.finfo(float).tiny)
        rise = max(rise, float(fits[squares > 0].max(initial=0.0)))
    gain = rise - float(step.max(initial=0.0))
    if variance <= 0:
        return np.inf if gain > 0 else 0.0
    return gain / variance


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
