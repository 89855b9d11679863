"""Which of several alike nodes is slow: each against the others. Pure functions over arrays.

The unit is a run of a node, because runs differ by the node's drift, which the launches inside one
run cannot show. Values are logs of seconds per sample: larger is slower.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.verdicts.regression import Estimate, StoredTest, beyond, scatter, stored_test

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# One run of each shows no scatter of runs, only that of nodes, and few nodes hardly show that.
LEAST_NODES_OF_ONE_RUN = 6
# The variance of a median of many is that of the mean times so much, and of two or one the same
# (any text on order statistics).
_MEDIAN = 1.5707963267948966
# A median of absolute deviations is a standard deviation of normal values over so much, and knows
# as much as this share of them (P. J. Huber, "Robust Statistics", 1981, section 5.1).
_MAD, _MAD_EFFICIENCY = 1.482602218505602, 0.37
_MOST_RUNS, _TINY = 100, 1e-300
# Probabilities: that a node without more scatter is taken for one with more, and that a variance is
# larger than the test is said to meet.
_UNLIKELY, _SELDOM = 0.01, 0.05
# The most degrees of freedom by the number of runs of each node, the last for more runs: launches
# have heavy tails, and the more nodes and cases, the farther out in the tails the thresholds are.
# Simulated fleets of alike nodes hold the error rate with these (results/evidence/fleet.csv).
_MOST_FREEDOM = (4.0, 12.0, 20.0)


@dataclass(frozen=True, slots=True)
class NodesTest:
    """The outcome for the nodes and cases of a fleet, arrays of shape (..., nodes, cases).

    Attributes:
        found: change of each node against the others, its p-value, and what would be found.
        scatter: the standard deviation of a run, shape (..., cases).
        slow: shape (..., nodes): whether a case of the node is slower beyond the margin.
    """

    found: StoredTest
    scatter: Array
    slow: NDArray[np.bool_]


def compare_nodes(
    logs: Array, margin: float, level: float, alike: NDArray[np.bool_] | None = None
) -> NodesTest:
    """Test each node against the median of the others, with one error rate for the whole fleet.

    A node is compared with the median of the others' means, which a few slow ones do not move. The
    scatter of runs is pooled over the nodes and moderated over the cases, as in `regression`; a
    node that scatters more has its own. Holm's procedure is over all nodes and cases.

    Args:
        logs: shape (..., nodes, runs, cases); NaN where a node does not have the case in a run.
        margin: the slow-down that is tolerated, as a log.
        level: family-wise error rate.
        alike: shape (nodes,): the nodes that the others are compared with, where that are not all.

    Raises:
        ValueError: fewer than two nodes, or too few runs to know a scatter.
    """
    import numpy as np

    nodes, runs = logs.shape[-3:-1]
    alike = np.ones(nodes, bool) if alike is None else alike
    if nodes < 2 or (runs < 2 and alike.sum() < LEAST_NODES_OF_ONE_RUN):
        raise ValueError("two nodes of two runs are needed, or six of one")
    held = (~np.isnan(logs)).sum(-2)
    with np.errstate(invalid="ignore"):
        means = np.where(held > 0, np.nansum(logs, -2) / np.maximum(held, 1), np.nan)
    usual = np.where(alike[:, None], means, np.nan)
    centre, others = _median_of_others(usual)
    if runs > 1:
        variances, freedom, own = _of_runs(logs, means, held)
    else:
        variances, freedom = _of_nodes(usual)
        own = np.zeros(means.shape)
    typical = np.median(np.maximum(1, held), -2, keepdims=True)
    freedom = np.minimum(freedom, _most_freedom(typical[..., 0, :]))
    pooled = variances[..., None, :]
    of_median = np.where(others > 2, _MEDIAN, 1.0) / np.maximum(others, 1)
    of_others = pooled * of_median / typical
    error = np.sqrt(np.maximum(pooled, own) / np.maximum(held, 1) + of_others)
    change = means - centre
    freedom = np.broadcast_to(freedom[..., None, :], change.shape)
    found = _tested(change, error, freedom, margin, level)
    assumed = pooled * _expected(own, pooled, held)
    smallest = np.sqrt(assumed / np.maximum(held, 1) + of_others)
    found = replace(
        found, smallest=margin + (found.smallest - margin) * smallest / np.maximum(error, _TINY)
    )
    return NodesTest(found, np.sqrt(variances), np.asarray(found.rejected.any(-1)))


def runs_needed(
    found: NodesTest, margin: float, gate: float, nodes: int, level: float
) -> int | None:
    """The least runs of each node with which a slow-down as large as the gate is found.

    It takes the scatter that was seen as that of further runs, of all nodes alike. None above 100.

    Args:
        found: the outcome of fewer runs.
        margin: the slow-down that is tolerated, as a log.
        gate: the slow-down that is to be found, as a log.
        nodes: their number.
        level: family-wise error rate.
    """
    import numpy as np
    from scipy.special import chdtri, stdtrit

    worst = float(np.nanmax(found.scatter))
    cases = found.scatter.shape[-1]
    others = nodes - 1
    of_median = (_MEDIAN if others > 2 else 1.0) / others
    for runs in range(2, _MOST_RUNS + 1):
        freedom = np.minimum(float(nodes * (runs - 1)), _most_freedom(np.asarray(runs)))
        needed = stdtrit(freedom, 1 - level / (nodes * cases)) + beyond(np.asarray(freedom))
        own = max(1.0, float(chdtri(runs - 1, _SELDOM)) / (runs - 1))
        if margin + float(needed) * worst * np.sqrt((own + of_median) / runs) <= gate:
            return runs
    return None


def _most_freedom(runs: Array) -> Array:
    """The most degrees of freedom with so many runs of each node."""
    import numpy as np

    place = np.clip(np.floor(runs).astype(int), 1, len(_MOST_FREEDOM)) - 1
    return np.asarray(np.asarray(_MOST_FREEDOM)[place])


def _of_runs(logs: Array, means: Array, held: Array) -> tuple[Array, Array, Array]:
    """(variance of a run, its degrees of freedom, each node's own variance)."""
    import numpy as np

    residuals = logs - means[..., None, :]
    own_freedom = np.maximum(held - 1, 0)
    own = np.nansum(residuals**2, -2) / np.maximum(own_freedom, 1)
    nodes, runs, cases = logs.shape[-3:]
    stacked = residuals.reshape(*logs.shape[:-3], nodes * runs, cases)
    variances, freedom = scatter(stacked, own_freedom.sum(-2).astype(float), nodes)
    return variances, freedom, own


def _expected(own: Array, pooled: Array, held: Array) -> Array:
    """The variance that the test of a node will hardly exceed, in units of the pooled one.

    The test takes the larger of both variances, and that of few runs is by chance larger in one
    case of many. A node that scatters more in most of its cases, beyond chance, has its own.
    """
    import numpy as np
    from scipy.special import gammainccinv

    nodes = own.shape[-2]
    halves = np.maximum(held - 1, 1) / 2
    by_chance = np.where(held > 1, np.maximum(1.0, gammainccinv(halves, _SELDOM) / halves), 1.0)
    most = gammainccinv(halves, _UNLIKELY / nodes) / halves
    known = np.where(held > 1, own / np.maximum(pooled, np.finfo(float).tiny), np.nan)
    ratio = _median(known)[..., None]
    return np.asarray(np.where(ratio > most, np.maximum(ratio, by_chance), by_chance))


def _median(values: Array) -> Array:
    """The median along the last axis without NaN; 0 where there is nothing else."""
    import numpy as np

    held = ~np.isnan(values)
    count = held.sum(-1, keepdims=True)
    ordered = np.sort(values, -1)
    ends = [
        np.take_along_axis(ordered, np.clip(place, 0, values.shape[-1] - 1), -1)[..., 0]
        for place in ((count - 1) // 2, count // 2)
    ]
    return np.asarray(np.where(count[..., 0] > 0, (ends[0] + ends[1]) / 2, 0.0))


def _of_nodes(means: Array) -> tuple[Array, Array]:
    """(variance of a run, its degrees of freedom) from one run of each node."""
    import numpy as np

    apart = np.abs(means - np.nanmedian(means, -2, keepdims=True))
    count = (~np.isnan(means)).sum(-2)
    freedom = np.maximum(1.0, _MAD_EFFICIENCY * (count - 1.0))
    return np.square(_MAD * np.nanmedian(apart, -2)), freedom


def _median_of_others(means: Array) -> tuple[Array, Array]:
    """(median of the other nodes' means, their number), of shape (..., nodes, cases)."""
    import numpy as np

    order = np.argsort(means, -2, kind="stable")
    rank = np.argsort(order, -2, kind="stable")
    ordered = np.take_along_axis(means, order, -2)
    count = (~np.isnan(means)).sum(-2, keepdims=True)
    others = np.broadcast_to(count - (~np.isnan(means)), means.shape)
    ends = []
    for middle in ((others - 1) // 2, others // 2):
        at = np.clip(middle + (middle >= rank), 0, means.shape[-2] - 1)
        ends.append(np.take_along_axis(ordered, at, -2))
    centre = np.where(others > 0, (ends[0] + ends[1]) / 2, np.nan)
    return centre, others


def compare_scores(
    losses: Array, scatter_of: Array, margin: float, level: float, alike: NDArray[np.bool_]
) -> StoredTest:
    """Test the score of each node against the median of the others; arrays of (nodes, cases).

    The runs of a node have the same seeds, so several tell no more of its score than one: the error
    is that of one run, which is known beforehand.

    Args:
        losses: shape (nodes, runs, cases), larger is worse; NaN where a node has none.
        scatter_of: the standard deviation of a run's score, shape (cases,).
        margin: the change for the worse that is tolerated.
        level: family-wise error rate.
        alike: shape (nodes,): the nodes that the others are compared with.
    """
    import numpy as np

    held = (~np.isnan(losses)).sum(-2)
    means = np.where(held > 0, np.nansum(losses, -2) / np.maximum(held, 1), np.nan)
    centre, others = _median_of_others(np.where(alike[:, None], means, np.nan))
    of_median = np.where(others > 2, _MEDIAN, 1.0) / np.maximum(others, 1)
    error = scatter_of * np.sqrt(1 + of_median)
    return _tested(means - centre, error, np.full(error.shape, np.inf), margin, level)


def _tested(change: Array, error: Array, freedom: Array, margin: float, level: float) -> StoredTest:
    """The test of all nodes and cases as one family; NaN is no change."""
    import numpy as np

    absent = np.isnan(change)
    family = Estimate(
        *(
            np.broadcast_to(part, change.shape).reshape(*change.shape[:-2], -1)
            for part in (
                np.where(absent, -np.inf, change),
                np.where(absent, 1.0, error),
                freedom,
            )
        )
    )
    tested = stored_test(family, margin, level)
    return StoredTest(
        change,
        *(
            getattr(tested, name).reshape(change.shape)
            for name in ("p", "rejected", "threshold", "smallest")
        ),
    )
