"""When a duel may stop: paired blocks, looked at three times. Pure functions over numbers.

A block is one fresh launch of A and one of B whose rounds alternate; its value is one log
ratio, seconds of B over seconds of A, so that larger is worse. Both share the hour and the
host, so the values do not drift.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, median, stdev
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Blocks at which the data may be looked at, and the error spent there: 1% in all.
SPENDING: Mapping[int, float] = MappingProxyType({8: 0.0005, 16: 0.003, 24: 0.0065})
LAST_LOOK = max(SPENDING)
# So many pairs give each order a median that one disturbed pair does not move.
_LEAST_EVEN = 6
# How often a B that is worse by the gate may pass, over all looks.
MISSED = 0.1
# Of that so much is spent by name: launches have heavier tails than Student's t allows for
# (results/evidence).
_MISSED_BY_NAME = 0.09
# Of the error of a case: an accuracy that falls is a gross fault, so it needs less of it.
SPEED_SHARE, ACCURACY_SHARE = 0.9, 0.1
# 2^24 signs are counted as the sums of two halves, 2^12 each; twice as many would not fit.
_MOST_VALUES = 32


class Decision(StrEnum):
    """What a look came to."""

    WORSE = "worse"
    GO_ON = "go_on"
    NOT_WORSE = "not_worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the blocks of one case.

    Attributes:
        blocks: how many there are.
        mean: of their values.
        p: of the one-sided paired t-test against the margin.
        level: what p must not exceed: this test's share of the error spent at this look.
        smallest: the least mean that would have been called worse at this look.
        sign_flip_p: of the permutation test; reported, never decisive.
        decision: `UNDECIDED` only at the last look.
    """

    blocks: int
    mean: float
    p: float
    level: float
    smallest: float
    sign_flip_p: float
    decision: Decision


def block_log(a: Sequence[float], b: Sequence[float]) -> float:
    """The log of B's seconds over A's: the median over their rounds, the first of one with the
    first of the other and so on; rounds that one of them has beyond the other's are left out.

    Neighbours share what slows both, and a median leaves out the few that do not.

    Raises:
        ValueError: one has no rounds, or seconds that are not above 0.
    """
    return median(math.log(y / x) for x, y in zip(a, b, strict=False))


def even_log(a: Sequence[float], b: Sequence[float], firsts: str) -> float:
    """The log of B's seconds over A's, however often each was first: the mean of `block_log`
    over the pairs in which A was first and of that over those in which B was.

    What the place in a pair adds to one of the two, the other lacks. Pairs whose order is not
    known (of an earlier revision), or too few for two medians, are taken all as one.

    Args:
        a: seconds of A, in order.
        b: seconds of B.
        firsts: the side that was first in each pair.
    """
    pairs = list(zip(a, b, strict=False))
    if len(pairs) < _LEAST_EVEN or len(firsts) < len(pairs):
        return block_log(a, b)
    by_first = [
        [pair for pair, first in zip(pairs, firsts, strict=False) if first == side]
        for side in ("a", "b")
    ]
    return fmean(block_log(*zip(*own, strict=True)) for own in by_first if own)


def look(values: Sequence[float], margin: float, gate: float, share: float) -> Look:
    """What the blocks of one case say at a look.

    Worse where p of `paired_p` is at most the error that `SPENDING` holds for this number of
    blocks, times `share`: where the shares of all tests add up to 1, the chance of a false
    alarm over all looks and tests is below 1% (Bonferroni). Not worse where the same test the
    other way round rules out that the mean is as large as `gate`: at the same level, and at the
    last look at what the others left of 9%. So B passes in at most one of ten duels in
    which it is worse by the gate, however noisy they are. To stop early as not worse raises no
    alarm, so it costs none of that error.

    Args:
        values: one a block, in any order; as many as one of the looks.
        margin: what is allowed, in the unit of the values.
        gate: what must be ruled out, likewise.
        share: of the error, above 0 and at most 1.

    Raises:
        ValueError: no look at this number of blocks, a share or gate out of range, or a value
            that is not finite.
    """
    from scipy.special import stdtrit

    if not 0 < share <= 1:
        raise ValueError(f"share {share}: must be above 0 and at most 1")
    if not gate > margin:
        raise ValueError(f"gate {gate}: must be above the margin {margin}")
    blocks = len(values)
    if blocks not in SPENDING:
        raise ValueError(f"{blocks} blocks: look at {', '.join(map(str, SPENDING))} only")
    p, level = paired_p(values, margin), SPENDING[blocks] * share
    beyond = float(stdtrit(blocks - 1, 1 - level)) * stdev(values) / math.sqrt(blocks)
    excluded = paired_p([-value for value in values], -gate) <= passing_level(blocks, share)
    if p <= level:
        decision = Decision.WORSE
    elif excluded:
        decision = Decision.NOT_WORSE
    else:
        decision = Decision.UNDECIDED if blocks == LAST_LOOK else Decision.GO_ON
    return Look(
        blocks,
        fmean(values),
        p,
        level,
        margin + beyond,
        sign_flip_p(values, margin),
        decision,
    )


def passing_level(blocks: int, share: float) -> float:
    """At which level a look must rule the gate out: over all looks they add up to what of `MISSED`
    is spent."""
    if blocks < LAST_LOOK:
        return SPENDING[blocks] * share
    return _MISSED_BY_NAME - share * sum(
        spent for look, spent in SPENDING.items() if look < LAST_LOOK
    )


def paired_p(values: Sequence[float], margin: float) -> float:
    """The one-sided p-value of Student's paired t against a mean of at most `margin`.

    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    from scipy.special import stdtr

    if len(values) < 2:
        raise ValueError(f"{len(values)} blocks: two at least")
    for value in (*values, margin):
        if not math.isfinite(value):
            raise ValueError(f"values: {value} is not finite")
    excess, error = fmean(values) - margin, stdev(values) / math.sqrt(len(values))
    if error == 0:
        return 0.0 if excess > 0 else 1.0
    return float(stdtr(len(values) - 1, -excess / error))


def sign_flip_p(values: Sequence[float], margin: float) -> float:
    """The exact one-sided p-value of Fisher's sign-flip test against `margin`.

    The share of the 2^n ways to choose the signs of value - margin whose sum is at least
    the one seen (R. A. Fisher, "The design of experiments", 1935, section 21). Two sorted halves
    count them at once; scipy's `permutation_test` would go through all of them.

    Raises:
        ValueError: no values, or more than 32.
    """
    import numpy as np

    if not 0 < len(values) <= _MOST_VALUES:
        raise ValueError(f"{len(values)} blocks: 1 to {_MOST_VALUES}")
    excess = np.asarray(values, dtype=float) - margin
    half = len(values) // 2
    first, second = _signed_sums(excess[:half]), np.sort(_signed_sums(excess[half:]))
    # Sums that are equal but for rounding count as equal.
    least = float(excess.sum()) - 1e-12 * float(np.abs(excess).sum())
    below = np.searchsorted(second, least - first, side="left")
    return float(first.size * second.size - below.sum()) / (first.size * second.size)


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of `values` under every choice of signs."""
    import numpy as np

    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums
