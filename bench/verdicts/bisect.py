"""Decides the trials of a bisection, and which commit is tried next. Pure functions.

A trial is a duel of a commit (B) against an earlier one (A), of at most 24 blocks. Its values are
those of a duel: larger is worse. All tests are one-sided paired t-tests (`paired_p`).

1. GOOD against BAD confirms the change, and measures how large it is at least.
2. Each step tests a commit between them against GOOD: no change, or one that large. It ends when
   one of both is ruled out.
3. The commit that the steps lead to is tried against its own parent.

The steps and the first trial together err in at most 1% of bisections, whatever their number. The
third trial errs in at most 1% by itself. A wrong commit is named only where both err.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from types import MappingProxyType

from bench.schema.bisect import Finding, What
from bench.schema.sizes import MARGIN
from bench.verdicts.sequential import LAST_LOOK, paired_p

# The largest probability of naming a wrong commit.
WRONG = 0.01
# The share of a trial's error that each look spends, by the number of blocks.
LOOKS: Mapping[int, float] = MappingProxyType({4: 0.2, 8: 0.2, 16: 0.25, LAST_LOOK: 0.35})
# Four values can agree by chance, so the first look decides about large changes alone: launches
# that come in two modes are less than half of this apart. As a log ratio, and as a share of score.
FIRST_LOOK = min(LOOKS)
LARGE: Mapping[What, float] = MappingProxyType({What.SPEED: math.log1p(0.25), What.ACCURACY: 0.1})
# The error is shared: a tenth for the first trial, a tenth for steps beyond the usual number,
# which skipped commits cause, and the rest for the usual steps.
_OF_CONFIRMING, _OF_STEPS, _OF_MORE_STEPS = 0.1, 0.8, 0.1
# The first trial goes on until the change is known well enough: steps must rule its lower end out.
_PRECISE = 2 / 3


@dataclass(frozen=True, slots=True)
class Change:
    """A mean over blocks with its interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def confirming_error() -> float:
    """The error of the trial of GOOD against BAD."""
    return _OF_CONFIRMING * WRONG


def usual_steps(commits: int) -> int:
    """The number of steps that lead to one of so many commits, where none is skipped."""
    return max(1, math.ceil(math.log2(max(1, commits))))


def step_error(number: int, commits: int) -> float:
    """The error of a step; those of all steps add up to at most nine tenths of 1%.

    Args:
        number: how many steps were decided before.
        commits: the number of candidates at the beginning.
    """
    usual = usual_steps(commits)
    if number < usual:
        return _OF_STEPS * WRONG / usual
    return float(_OF_MORE_STEPS * WRONG * 0.5 ** (number - usual + 1))


def change_of(values: Sequence[float], error: float) -> Change:
    """The mean of a trial's values at a look, with its interval.

    Each end is missed with a probability of at most `error` over all looks, by Student's t.

    Raises:
        ValueError: there is no look at this number of values.
    """
    from scipy.special import stdtrit

    blocks = len(values)
    if blocks not in LOOKS:
        raise ValueError(f"{blocks} blocks: look at {', '.join(map(str, LOOKS))} only")
    quantile = float(stdtrit(blocks - 1, 1 - error * LOOKS[blocks]))
    mean, half = fmean(values), quantile * stdev(values) / math.sqrt(blocks)
    return Change(mean, mean - half, mean + half)


def confirmed(values: Sequence[float], what: What, margin: float, error: float) -> Finding | None:
    """The finding at a look of a trial that asks whether B is worse at all.

    None: go on. It goes on after B is known to be worse, until the interval's lower end is at
    least two thirds of the mean, or the blocks are used up.
    """
    seen = change_of(values, error)
    is_last = len(values) == LAST_LOOK
    if len(values) == FIRST_LOOK and seen.low < LARGE[what]:
        return None
    if seen.low > margin and (is_last or seen.low >= _PRECISE * seen.mean):
        return Finding.WORSE
    if seen.high < margin:
        return Finding.NOT_WORSE
    return Finding.UNDECIDED if is_last else None


def judged(
    values: Sequence[float], what: What, margin: float, least: float, error: float
) -> Finding | None:
    """The finding at a look of a step; None: go on.

    Args:
        values: one for each block; as many as one of the looks.
        what: what is judged.
        margin: a change up to this counts as none.
        least: the change that must be ruled out before the commit counts as not worse.
        error: the largest probability of a wrong finding over all looks, in each direction.
    """
    none, some = margin, least
    if len(values) == FIRST_LOOK:
        if least < LARGE[what]:
            return None
        none = some = max(margin, least / 2)
    level = error * LOOKS[len(values)]
    if paired_p(values, none) <= level:
        return Finding.WORSE
    if paired_p([-value for value in values], -some) <= level:
        return Finding.NOT_WORSE
    return Finding.UNDECIDED if len(values) == LAST_LOOK else None


def control_off(values: Sequence[float], error: float) -> bool:
    """Whether the control was slower before one side than before the other, beyond the margin.

    Args:
        values: log of the control's time before B over its time before A, one for each block.
        error: the largest probability of a false alarm over all looks.
    """
    level = error * LOOKS[len(values)] / 2
    margin = math.log1p(MARGIN)
    return any(paired_p(way, margin) <= level for way in (values, [-value for value in values]))


def picked(candidates: Sequence[tuple[str, int]], skipped: int) -> str:
    """The commit that is tried next.

    Args:
        candidates: (commit, distance) of those that can be tried, farthest first: the distance is
            the smaller of the numbers of candidates that remain after a finding.
        skipped: how many of the remaining candidates were skipped. Their neighbours often cannot be
            measured either, so the more there are, the farther from them one is picked.
    """
    return candidates[skipped * len(candidates) // (skipped + 2)][0]
