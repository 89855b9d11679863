"""The level that all cases of a run share, which a slow hour of the machine moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Tukey's biweight ignores what lies further off than so many standard deviations, and is 95% as
# efficient as the mean for normal values (any text on robust statistics).
_BIWEIGHT = 4.685
_STEPS = 4


def common_level(apart: Array, deviation: Array) -> Array:
    """Where most of the cases of a run lie; shape (suites).

    Tukey's biweight, weighted by the variances and begun at the median. Where fewer than half of
    the cases changed by more than their scatter, they hardly move it.

    Args:
        apart: how far each case lies from its own level; shape (cases, suites).
        deviation: the standard deviation of each, of the same shape.
    """
    reach, exact = _BIWEIGHT * deviation, 1 / np.square(deviation)
    level = np.asarray(np.median(apart, 0))
    for _ in range(_STEPS):
        weights = exact * np.square(1 - np.square(np.clip((apart - level) / reach, -1, 1)))
        whole = weights.sum(0)
        moved = (weights * apart).sum(0) / np.where(whole > 0, whole, 1.0)
        level = np.where(whole > 0, moved, level)
    return level


def first_levels(values: Array) -> Array:
    """What the cases of each of some first runs share, by median polish; shape (runs, suites).

    J. W. Tukey, "Exploratory Data Analysis", 1977, chapter 10.

    Args:
        values: shape (runs, cases, suites); NaN where a run does not have the case.
    """
    shared = np.zeros(values.shape[::2])
    values = values[:, ~np.isnan(values).all((0, 2))]
    own = np.nanmedian(values, 0)
    for _ in range(_STEPS):
        shared = np.nanmedian(values - own, 1)
        own = np.nanmedian(values - shared[:, None], 0)
    return shared
