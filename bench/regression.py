"""Has a candidate become slower than runs stored earlier? Pure functions over arrays.

The unit is a run: what differs from one run to the next is the machine's drift, which no
number of launches inside a run can show. Values are logs of seconds per sample, or negated
accuracies: larger is worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEAST_RUNS = 3
# The slow-down that counts, as a share of time, where the user names none.
DEFAULT_GATE = 0.1
# Launches have heavier tails than the normal, and a single run stands against the stored ones:
# with more degrees of freedom the quantile of t would promise what simulated suites do not
# keep (results/evidence).
MOST_FREEDOM = 10.0
# limma's, for variances that are zero because a figure was rounded.
_LEAST_SHARE = 1e-5
_NEWTON_STEPS, _NEWTON_ENOUGH = 50, 1e-10


@dataclass(frozen=True, slots=True)
class Prior:
    """Where the variances of single cases scatter around: scaled inverse chi-squared.

    Attributes:
        variance: s0 squared.
        freedom: d0; infinite where the cases' variances differ no more than chance makes them.
    """

    variance: float
    freedom: float


@dataclass(frozen=True, slots=True)
class StoredTest:
    """The outcome for a family of cases, an array each, in the order of the columns.

    Attributes:
        change: mean of the candidate's runs minus mean of the baseline's.
        error: standard error of the change.
        freedom: degrees of freedom of the error.
        p: one-sided p-value against the margin.
        rejected: whether Holm's procedure rejects "worse by no more than the margin".
        smallest: the least change that would have been rejected first of all: margin +
            t(1 - level / cases) x error. A true change of that size is seen half the time.
    """

    change: Array
    error: Array
    freedom: Array
    p: Array
    rejected: NDArray[np.bool_]
    smallest: Array


def stored_test(
    baseline: Array, candidate: Array, margin: float, level: float, floor: float = 0.0
) -> StoredTest:
    """Tests each case of a candidate against stored runs, at one error rate for all.

    t = (candidate mean - baseline mean - margin) / (s sqrt(1/m + 1/S)), one-sided, over S
    baseline runs and m runs of the candidate. s pools the scatter inside both groups and is
    moderated towards the other cases' (`moderated`); its degrees of freedom are at most
    those that the residuals of all cases hold together (`independent_cases`), since runs
    drift as a whole. Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6, 1979.

    Args:
        baseline: shape (S, cases); NaN where a run lacks the case.
        candidate: shape (m, cases), likewise.
        margin: what is allowed, in the unit of the values.
        level: family-wise error rate.
        floor: a standard deviation of single runs known beforehand: where s is smaller, it
            takes its place, with infinite degrees of freedom.

    Raises:
        ValueError: a case with fewer than three baseline runs or none of the candidate's.
    """
    import numpy as np
    from scipy.special import stdtr, stdtrit

    held, own = (~np.isnan(baseline)).sum(0), (~np.isnan(candidate)).sum(0)
    if baseline.shape[1] < 1 or held.min() < LEAST_RUNS or own.min() < 1:
        raise ValueError("each case needs three baseline runs and one of the candidate")
    groups = [(group, np.nanmean(group, 0)) for group in (baseline, candidate)]
    residuals = np.concatenate([group - mean for group, mean in groups])
    own_freedom = (held - 1 + own - 1).astype(float)
    variances = np.nansum(residuals**2, 0) / own_freedom
    variances, freedom = moderated(variances, own_freedom)
    complete = residuals[~np.isnan(residuals).any(1)]
    shared = max(1.0, complete.shape[0] - len(groups))
    most = min(MOST_FREEDOM, shared * independent_cases(complete, shared))
    freedom = np.maximum(own_freedom, np.minimum(freedom, most))
    freedom = np.where(variances < floor**2, np.inf, freedom)
    error = np.sqrt(np.maximum(variances, floor**2) * (1 / own + 1 / held))
    change = groups[1][1] - groups[0][1]
    p = _one_sided(change - margin, error, freedom, stdtr)
    first = stdtrit(freedom, 1 - level / p.size)
    return StoredTest(change, error, freedom, p, holm(p, level), margin + first * error)


def _one_sided(excess: Array, error: Array, freedom: Array, stdtr: np.ufunc) -> Array:
    """Where nothing scatters, any excess is certain."""
    import numpy as np

    certain = np.where(excess > 0, -np.inf, np.inf)
    t = np.divide(-excess, error, out=certain, where=error > 0)
    return np.asarray(stdtr(freedom, t), dtype=float)


def moderated(variances: Array, freedom: Array) -> tuple[Array, Array]:
    """Variances of single cases drawn towards what all of them say, and their new degrees
    of freedom: (d0 s0^2 + d s^2) / (d0 + d), d0 + d.

    G. K. Smyth, "Linear models and empirical Bayes methods for assessing differential
    expression in microarray experiments", Statistical Applications in Genetics and Molecular
    Biology 3, 2004, section 6.2.
    """
    import numpy as np

    if variances.size == 1 or not variances.any():
        return variances, freedom
    prior = fit_prior(variances, freedom)
    if math.isinf(prior.freedom):
        return np.full_like(variances, prior.variance), np.full_like(freedom, np.inf)
    whole = prior.freedom + freedom
    return (prior.freedom * prior.variance + freedom * variances) / whole, whole


def fit_prior(variances: Array, freedom: Array) -> Prior:
    """The prior that the variances of several cases imply, by the moments of their logs.

    With z = log s^2 and e = z - digamma(d/2) + log(d/2): trigamma(d0/2) = var(e) -
    mean(trigamma(d/2)) and s0^2 = exp(mean(e) + digamma(d0/2) - log(d0/2)) (Smyth 2004,
    section 6.2). Where the logs scatter no more than chance makes them, d0 is infinite and
    s0^2 the mean of the variances.

    Args:
        variances: shape (cases,), two or more; not all zero.
        freedom: their degrees of freedom.
    """
    import numpy as np
    from scipy.special import digamma, polygamma

    known = np.maximum(variances, _LEAST_SHARE * np.median(variances))
    known = np.maximum(known, np.finfo(float).tiny)
    logs = np.log(known) - digamma(freedom / 2) + np.log(freedom / 2)
    beyond = float(np.var(logs, ddof=1) - polygamma(1, freedom / 2).mean())
    if beyond <= 0:
        return Prior(float(np.average(variances, weights=freedom)), math.inf)
    half = inverse_trigamma(beyond)
    return Prior(math.exp(logs.mean() + digamma(half) - math.log(half)), 2 * half)


def inverse_trigamma(value: float) -> float:
    """The x with trigamma(x) = `value`, which is above 0: Newton's method on 1 / trigamma,
    which is convex and nearly linear (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    if value > 1e7:
        return 1 / math.sqrt(value)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(_NEWTON_STEPS):
        trigamma, slope = float(polygamma(1, x)), float(polygamma(2, x))
        step = trigamma * (1 - trigamma / value) / slope
        x += step
        if -step / x < _NEWTON_ENOUGH:
            break
    return x


def independent_cases(residuals: Array, freedom: float) -> float:
    """How many independent cases the residuals of all cases are worth: between 1, where the
    machine drifts as a whole, and their number, where each goes its own way.

    n / (1 + (n - 1) r2), the ratio of squared traces in Satterthwaite's formula for a sum of
    equal, correlated variances; r2 is the mean squared correlation of two cases, less what
    chance makes it: (d r^2 - 1) / (d - 1) (F. E. Satterthwaite, "An approximate distribution
    of estimates of variance components", Biometrics Bulletin 2, 1946).

    Args:
        residuals: shape (runs, cases), without NaN.
        freedom: d, the runs less the means that were taken off.
    """
    import numpy as np

    lengths = np.sqrt((residuals**2).sum(0))
    moving = residuals[:, lengths > 0] / lengths[lengths > 0]
    n = moving.shape[1]
    if n < 2 or freedom < 2:
        return 1.0
    squares = (float(((moving.T @ moving) ** 2).sum()) - n) / (n * (n - 1))
    shared = min(1.0, max(0.0, (freedom * squares - 1) / (freedom - 1)))
    return float(n / (1 + (n - 1) * shared))


def holm(p: Array, level: float) -> NDArray[np.bool_]:
    """Which hypotheses Holm's step-down procedure rejects at a family-wise `level`."""
    import numpy as np

    order = np.argsort(p, kind="stable")
    within = p[order] <= level / np.arange(p.size, 0, -1)
    rejected = np.zeros(p.size, dtype=bool)
    rejected[order] = np.logical_and.accumulate(within)
    return rejected
