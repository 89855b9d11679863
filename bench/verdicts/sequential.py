"""Decides when a duel may stop: paired blocks and a few looks at them. Pure functions.

A block is one fresh launch of A and one of B whose rounds alternate. Its value is one log ratio,
seconds of B over seconds of A: larger is worse. A and B run on one host at the same time, so the
values do not drift.
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

# The error of alarms spent at each look from eight blocks on, by number of blocks: 1% in all. Of
# fewer blocks no alarm is raised: where blocks fall to either side of the truth by chance, four of
# them fall to the same side in one duel of sixteen, and then nothing seems to scatter.
SPENDING: Mapping[int, float] = MappingProxyType({8: 0.002, 12: 0.002, 16: 0.0025, 24: 0.0035})
# With at least this many pairs, each order has a median that one disturbed pair does not move.
_LEAST_EVEN = 6
# The probability, over all looks, that a B which is worse by the gate passes; and the level at
# which each look must rule the gate out. The levels add up to more, because the looks see the same
# blocks. What passes in all was simulated, also where launches have heavier tails than Student's t
# assumes (results/evidence). Chosen, with those above, for the fewest blocks
# (results/experiments.md).
MISSED = 0.1
PASSING: Mapping[int, float] = MappingProxyType(
    {4: 0.02, 6: 0.015, 8: 0.015, 12: 0.015, 16: 0.015, 24: 0.04}
)
FIRST_LOOK, LAST_LOOK = min(PASSING), max(PASSING)
# Before the last look, nothing passes that seems worse than the margin at this level. So a change
# between margin and gate that can be found is found, rather than passed at once.
DOUBT = 0.05


@dataclass(frozen=True, slots=True)
class Looks:
    """When a duel is looked at, and the errors that it may make there.

    Attributes:
        passing: the level at which a look must rule the gate out, by the number of its blocks.
        spending: the error of alarms spent at those looks that may raise one.
        doubt: before the last one nothing passes that seems worse than the margin at this level.
    """

    passing: Mapping[int, float]
    spending: Mapping[int, float]
    doubt: float

    @property
    def last(self) -> int:
        """The number of blocks of the last look."""
        return max(self.passing)


LOOKS = Looks(PASSING, SPENDING, DOUBT)
# Shares of the error of a case. A fault of the score shows as a large change, so it gets less.
SPEED_SHARE, SCORE_SHARE = 0.9, 0.1
# 2^24 choices of signs are counted as pairs of sums of two halves, 2^12 each. 32 values are two
# halves of 2^16; more values would not fit in memory.
_MOST_VALUES = 32


class Decision(StrEnum):
    """The decision at a look."""

    WORSE = "worse"
    GO_ON = "go_on"
    NOT_WORSE = "not_worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the blocks of one case.

    Attributes:
        blocks: number of blocks.
        mean: mean of their values.
        p: p-value of the one-sided paired t-test against the margin.
        level: the largest p that counts as worse: this test's share of the error of this look; 0
            of a look that raises no alarm.
        smallest: the least mean that would have been called worse at this look; infinite of a look
            that raises no alarm.
        sign_flip_p: p-value of the permutation test; reported only, it decides nothing.
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
    """The log of B's seconds over A's: the median over pairs of rounds.

    Round n of A is paired with round n of B; surplus rounds of one side are left out. A pair is
    measured in close succession, so most disturbances slow both rounds, and the median ignores the
    few that slow only one.

    Raises:
        ValueError: a side has no rounds, or seconds that are not above 0.
    """
    return median(math.log(y / x) for x, y in zip(a, b, strict=False))


def even_log(a: Sequence[float], b: Sequence[float], firsts: str) -> float:
    """The log of B's seconds over A's, independent of how often each side was first in a pair.

    It is the mean of two `block_log`: of the pairs in which A was first, and of those in which B
    was. So an effect of the place in a pair cancels. One `block_log` of all pairs is taken where
    their order is not known (earlier revisions) or they are too few for two medians.

    Args:
        a: seconds of A's rounds, in order.
        b: seconds of B's rounds, in order.
        firsts: the side that was first in each pair, as a text of `a` and `b`.

    Raises:
        ValueError: a side has no rounds, or seconds that are not above 0.
    """
    pairs = list(zip(a, b, strict=False))
    if len(pairs) < _LEAST_EVEN or len(firsts) < len(pairs):
        return block_log(a, b)
    by_first = [
        [pair for pair, first in zip(pairs, firsts, strict=False) if first == side]
        for side in ("a", "b")
    ]
    return fmean(block_log(*zip(*own, strict=True)) for own in by_first if own)


def look(
    values: Sequence[float], margin: float, gate: float, share: float, looks: Looks = LOOKS
) -> Look:
    """Decide on the blocks of one case at a look.

    Worse: p of `paired_p` is at most the error of this look in `spending` times `share`. Where the
    shares of all tests add up to 1, the probability of a false alarm over all looks and tests is
    below 1% (Bonferroni).

    Not worse: the test in the other direction rules out a mean as large as `gate`, at the level of
    `passing`, whatever the share: what is worse must pass all tests. With these levels B passes in
    at most one of ten duels in which it is worse by the gate, however noisy they are. Stopping
    early as not worse raises no alarm, so it spends none of the error of alarms. Before the last
    look B does not pass where it is in doubt.

    Args:
        values: one for each block, in any order; as many as one of the looks.
        margin: the allowed change, in the unit of the values.
        gate: the change that must be ruled out, in the same unit.
        share: share of the error, above 0 and at most 1.
        looks: when is looked, and what may be spent.

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
    if blocks not in looks.passing:
        raise ValueError(f"{blocks} blocks: look at {', '.join(map(str, looks.passing))} only")
    p, level = paired_p(values, margin), looks.spending.get(blocks, 0.0) * share
    error = stdev(values) / math.sqrt(blocks)
    beyond = float(stdtrit(blocks - 1, 1 - level)) * error if level else math.inf
    excluded = paired_p([-value for value in values], -gate) <= looks.passing[blocks]
    in_doubt = blocks < looks.last and p <= looks.doubt
    if level and p <= level:
        decision = Decision.WORSE
    elif excluded and not in_doubt:
        decision = Decision.NOT_WORSE
    else:
        decision = Decision.UNDECIDED if blocks == looks.last else Decision.GO_ON
    return Look(
        blocks,
        fmean(values),
        p,
        level,
        margin + beyond,
        sign_flip_p(values, margin),
        decision,
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

    It is the share of the 2^n choices of signs of value - margin whose sum is at least the
    observed one (R. A. Fisher, "The design of experiments", 1935, section 21). Two sorted halves
    count them at once; scipy's `permutation_test` would compute all of them.

    Raises:
        ValueError: no values, or more than 32.
    """
    import numpy as np

    if not 0 < len(values) <= _MOST_VALUES:
        raise ValueError(f"{len(values)} blocks: 1 to {_MOST_VALUES}")
    excess = np.asarray(values, dtype=float) - margin
    half = len(values) // 2
    first, second = _signed_sums(excess[:half]), np.sort(_signed_sums(excess[half:]))
    # Sums that differ only by rounding count as equal.
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
