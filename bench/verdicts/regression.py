"""Tests whether a candidate is slower than stored runs. Pure functions over arrays.

The unit is a run, because runs differ by the machine's drift, which the launches inside one run
cannot show. Values are logs of seconds per sample, or scores as shares: larger is worse.
Distributions are from scipy, which has neither Holm's procedure nor moderated variances (limma has
them, a package for R).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

LEAST_RUNS = 3
# The probability that a change as large as the gate is found, where a check passes.
POWER = 0.9
# Error probability of the upper confidence limit of the true error.
DOUBT = 0.02
# Launches have heavier tails than the normal distribution. With more degrees of freedom, simulated
# suites exceed the error rate that the t quantile should hold (results/evidence).
MOST_FREEDOM = 8.0
# Three runs hardly show how much the cases drift together. So each degree of freedom of the runs
# counts for at most this many independent cases.
MOST_CASES = 2.5
# As in limma, for variances that are zero because a figure was rounded.
_LEAST_SHARE = 1e-5
_NEWTON_STEPS, _NEWTON_ENOUGH = 50, 1e-10


@dataclass(frozen=True, slots=True)
class Prior:
    """The prior distribution of the variances of single cases: scaled inverse chi-squared.

    Attributes:
        variance: s0 squared; shape (...), one for each suite.
        freedom: d0; infinite where the cases' variances differ no more than by chance.
    """

    variance: Array
    freedom: Array


@dataclass(frozen=True, slots=True)
class Estimate:
    """The change of each case of a family, and its error.

    Attributes, each of shape (..., cases):
        change: mean of the candidate's runs minus mean of the baseline's.
        error: standard error of the change.
        freedom: degrees of freedom of the error.
    """

    change: Array
    error: Array
    freedom: Array


@dataclass(frozen=True, slots=True)
class StoredTest:
    """The outcome for a family of cases, arrays of shape (..., cases).

    Attributes:
        change: mean of the candidate's runs minus mean of the baseline's.
        p: one-sided p-value against the margin.
        rejected: whether Holm's procedure rejects "worse by no more than the margin".
        threshold: the least measured change that would have been rejected first of all. A true
            change of that size is found half the time.
        smallest: the least true change that is found with a probability of `POWER`.
    """

    change: Array
    p: Array
    rejected: NDArray[np.bool_]
    threshold: Array
    smallest: Array


def estimate(baseline: Array, candidate: Array, floor: ArrayLike = 0.0) -> Estimate:
    """The change of a candidate's cases against stored runs, for one suite or many at once.

    The error is s sqrt(1/m + 1/S), over S baseline runs and m runs of the candidate. s pools the
    scatter inside both groups and is moderated towards that of the other cases (`moderated`).
    Because runs drift as a whole, its degrees of freedom are limited to those that the residuals
    of all cases have together (`independent_cases`).

    Args:
        baseline: shape (..., S, cases); NaN where a run does not have the case.
        candidate: shape (..., m, cases), in the same form.
        floor: a standard deviation of single runs known beforehand, one for all cases or one for
            each. Where s is smaller, the floor replaces it, with infinite degrees of freedom.

    Raises:
        ValueError: a case with fewer than three baseline runs or none of the candidate's.
    """
    import numpy as np

    held, own = (~np.isnan(baseline)).sum(-2), (~np.isnan(candidate)).sum(-2)
    if baseline.shape[-1] < 1 or held.min() < LEAST_RUNS or own.min() < 1:
        raise ValueError("each case needs three baseline runs and one of the candidate")
    means = [np.nanmean(group, -2, keepdims=True) for group in (baseline, candidate)]
    residuals = np.concatenate([baseline - means[0], candidate - means[1]], -2)
    own_freedom = (held - 1 + own - 1).astype(float)
    variances, freedom = scatter(residuals, own_freedom, len(means))
    least = np.square(floor)
    freedom = np.where(variances < least, np.inf, freedom)
    error = np.sqrt(np.maximum(variances, least) * (1 / own + 1 / held))
    return Estimate((means[1] - means[0])[..., 0, :], error, freedom)


def scatter(residuals: Array, own_freedom: Array, subtracted: int) -> tuple[Array, Array]:
    """(variance of a run, its degrees of freedom) of each case, shape (..., cases).

    It is pooled over groups of runs and moderated towards that of the other cases (`moderated`).
    Because runs drift as a whole, its degrees of freedom are limited to those that the residuals of
    all cases have together (`independent_cases`).

    Args:
        residuals: shape (..., runs, cases), each less the mean of its group; NaN where a run does
            not have the case.
        own_freedom: degrees of freedom of each case, shape (..., cases).
        subtracted: the number of means that were subtracted.
    """
    import numpy as np

    variances, freedom = moderated(np.nansum(residuals**2, -2) / own_freedom, own_freedom)
    complete = np.asarray(~np.isnan(residuals).any(-1))
    shared = np.maximum(1.0, complete.sum(-1) - subtracted)
    together = independent_cases(np.where(complete[..., None], residuals, 0.0), shared)
    most = np.minimum(MOST_FREEDOM, shared * np.minimum(MOST_CASES, together))[..., None]
    return variances, np.maximum(own_freedom, np.minimum(freedom, most))


def stored_test(found: Estimate, margin: float, level: float) -> StoredTest:
    """Test each case of a family against a margin, with one error rate for the family.

    t = (change - margin) / error, one-sided. Holm, "A simple sequentially rejective multiple
    test procedure", Scandinavian Journal of Statistics 6, 1979.

    Args:
        found: the result of `estimate`.
        margin: the allowed change, in the unit of the values.
        level: family-wise error rate.
    """
    import numpy as np
    from scipy.special import stdtrit

    p = one_sided(found, margin)
    # The cases of a suite mostly share their degrees of freedom, and quantiles are slow.
    freedom, which = np.unique(found.freedom, return_inverse=True)
    which = which.reshape(p.shape)
    needed = stdtrit(freedom, 1 - level / p.shape[-1])
    sure = needed + beyond(freedom)
    return StoredTest(
        found.change,
        p,
        holm(p, level),
        margin + needed[which] * found.error,
        margin + sure[which] * found.error,
    )


def beyond(freedom: Array) -> Array:
    """By how many standard errors a true change must exceed the threshold of a test.

    Above that, the test finds the change with a probability of `POWER`. The measured change
    scatters with the true error, of which only an estimate is known, and a check passes more
    easily where that estimate is too small. So the result is the normal quantile of `POWER` times
    the upper confidence limit of the true error (`doubted`). It is at least the t quantile of
    `POWER`: then a change as large as the gate is missed in at most 1 - POWER of checks, whatever
    the true error is.

    Args:
        freedom: degrees of freedom of the error, of any shape; infinite where it is known.
    """
    import numpy as np
    from scipy.special import ndtri, stdtrit

    return np.asarray(np.maximum(ndtri(POWER) * doubted(freedom), stdtrit(freedom, POWER)))


def doubted(freedom: Array) -> Array:
    """By what factor a true standard deviation may exceed its estimate: an upper limit.

    It is sqrt(d / chi2(d, DOUBT)) (any text on the variance of a normal sample), and 1 for
    infinite degrees of freedom.

    Args:
        freedom: d, of any shape.
    """
    import numpy as np
    from scipy.special import gammaincinv

    known = np.isinf(freedom)
    half = np.where(known, 1.0, freedom) / 2
    return np.where(known, 1.0, np.sqrt(half / gammaincinv(half, DOUBT)))


def one_sided(found: Estimate, margin: float) -> Array:
    """The p-value of each case against a change of at most `margin`; shape (..., cases).

    Where the error is 0, any excess over the margin is certain.
    """
    import numpy as np
    from scipy.special import stdtr

    excess = found.change - margin
    certain = np.where(excess > 0, -np.inf, np.inf)
    t = np.divide(-excess, found.error, out=certain, where=found.error > 0)
    return np.asarray(stdtr(found.freedom, t), dtype=float)


def moderated(variances: Array, freedom: Array) -> tuple[Array, Array]:
    """The variances of single cases moderated towards the prior of all cases.

    Returns the new variances, (d0 s0^2 + d s^2) / (d0 + d), and their degrees of freedom, d0 + d.
    G. K. Smyth, "Linear models and empirical Bayes methods for assessing differential
    expression in microarray experiments", Statistical Applications in Genetics and Molecular
    Biology 3, 2004, section 6.2.

    Args:
        variances: shape (..., cases).
        freedom: their degrees of freedom, of the same shape.
    """
    import numpy as np

    freedom = np.broadcast_to(freedom, variances.shape)
    if variances.shape[-1] == 1:
        return variances, freedom
    prior = fit_prior(variances, freedom)
    d0, s0 = prior.freedom[..., None], prior.variance[..., None]
    equal = np.isinf(d0)
    d0 = np.where(equal, 1.0, d0)
    drawn = np.where(equal, s0, (d0 * s0 + freedom * variances) / (d0 + freedom))
    whole = np.where(equal, np.inf, d0 + freedom)
    still = ~variances.any(-1, keepdims=True)
    return np.where(still, variances, drawn), np.where(still, freedom, whole)


def fit_prior(variances: Array, freedom: Array) -> Prior:
    """The prior that the variances of several cases imply, by the moments of their logs.

    With z = log s^2 and e = z - digamma(d/2) + log(d/2): trigamma(d0/2) = var(e) -
    mean(trigamma(d/2)) and s0^2 = exp(mean(e) + digamma(d0/2) - log(d0/2)) (Smyth 2004,
    section 6.2). Where the logs scatter no more than by chance, d0 is infinite and s0^2 is the
    mean of the variances.

    Args:
        variances: shape (..., cases), two cases or more.
        freedom: their degrees of freedom, of the same shape.
    """
    import numpy as np
    from scipy.special import digamma, polygamma

    known = np.maximum(variances, _LEAST_SHARE * np.median(variances, -1, keepdims=True))
    known = np.maximum(known, np.finfo(float).tiny)
    logs = np.log(known) - digamma(freedom / 2) + np.log(freedom / 2)
    spread = np.var(logs, -1, ddof=1) - polygamma(1, freedom / 2).mean(-1)
    mean = (freedom * variances).sum(-1) / freedom.sum(-1)
    half = inverse_trigamma(np.where(spread > 0, spread, 1.0))
    with np.errstate(over="ignore"):
        s0 = np.exp(logs.mean(-1) + digamma(half) - np.log(half))
    return Prior(np.where(spread > 0, s0, mean), np.where(spread > 0, 2 * half, np.inf))


def inverse_trigamma(value: Array) -> Array:
    """The x with trigamma(x) = `value`, for values above 0, of any shape.

    Newton's method on 1 / trigamma, which is convex and nearly linear (Smyth 2004, appendix).
    """
    import numpy as np
    from scipy.special import polygamma

    value = np.asarray(value, dtype=float)
    inner = np.clip(value, 1e-6, 1e7)
    x = 0.5 + 1 / inner
    for _ in range(_NEWTON_STEPS):
        trigamma, slope = polygamma(1, x), polygamma(2, x)
        step = trigamma * (1 - trigamma / inner) / slope
        x = x + step
        if np.all(-step / x < _NEWTON_ENOUGH):
            break
    x = np.where(value > 1e7, 1 / np.sqrt(value), x)
    return np.where(value < 1e-6, 1 / value, x)


def independent_cases(residuals: Array, freedom: Array) -> Array:
    """The effective number of independent cases in the residuals; shape (...).

    It is 1 where the machine drifts as a whole, and the number of cases where they do not
    correlate. The formula is n / (1 + (n - 1) r2), the ratio of squared traces in Satterthwaite's
    formula for a sum of equal, correlated variances. r2 is the mean squared correlation of two
    cases, corrected for chance: (d r^2 - 1) / (d - 1) (F. E. Satterthwaite, "An approximate
    distribution of estimates of variance components", Biometrics Bulletin 2, 1946).

    Args:
        residuals: shape (..., runs, cases), without NaN.
        freedom: d, the number of runs less the number of subtracted means; shape (...).
    """
    import numpy as np

    freedom = np.asarray(freedom, dtype=float)
    lengths = np.sqrt((residuals**2).sum(-2, keepdims=True))
    moving = np.divide(residuals, lengths, out=np.zeros_like(residuals), where=lengths > 0)
    n = np.asarray((lengths > 0).sum((-2, -1)), dtype=float)
    # The sum of all squared correlations is the same over pairs of runs as over pairs of cases.
    squares = ((moving @ np.swapaxes(moving, -1, -2)) ** 2).sum((-2, -1)) - n
    can = (n >= 2) & (freedom >= 2)
    pairs, chance = np.where(can, n * (n - 1), 1.0), np.where(can, freedom - 1, 1.0)
    shared = np.clip((freedom * squares / pairs - 1) / chance, 0.0, 1.0)
    return np.where(can, n / (1 + (n - 1) * shared), 1.0)


def holm(p: Array, level: float) -> NDArray[np.bool_]:
    """The hypotheses that Holm's step-down procedure rejects; shape (..., hypotheses).

    `level` is the family-wise error rate.
    """
    import numpy as np

    order = np.argsort(p, -1, kind="stable")
    within = np.take_along_axis(p, order, -1) <= level / np.arange(p.shape[-1], 0, -1)
    rejected = np.zeros(p.shape, dtype=bool)
    np.put_along_axis(rejected, order, np.logical_and.accumulate(within, -1), -1)
    return rejected
