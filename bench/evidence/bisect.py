"""Counts how bisections of simulated histories end: the right commit, a wrong one, a range.

The decisions and the search are those of `fmnist-bench bisect`; only the blocks are simulated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bench.evidence.exits import upper_bound
from bench.evidence.worlds import LAUNCH_SD, Array, World, block_logs
from bench.schema.bisect import BisectPlan, Finding, Purpose, Trial
from bench.schema.case import Case
from bench.schema.duel import DuelPlan, Spec
from bench.schema.plan import RunSettings
from bench.verdicts.bisect import LOOKS, confirmed, judged
from bench.verdicts.bisect_search import Ended, Outcome, Wanted, next_of
from bench.verdicts.sequential import LAST_LOOK

Row = dict[str, Any]
COMMITS = (8, 40, 1_000)
SLOWER = (0.0, 0.02, 0.05, 0.10, 0.20, 1.0)
# Of a launch that comes in two modes: how often the slow one, and how much slower it is.
_SLOW_MODE, _MODE = 0.15, 0.10


@dataclass(frozen=True, slots=True)
class Noise:
    """A simulated machine.

    Attributes:
        name: of the row.
        world: the drift and the autocorrelation of its level.
        modes: some launches are slower as a whole.
    """

    name: str
    world: World
    modes: bool = False

    def blocks(self, rng: np.random.Generator) -> Array:
        """The log ratios of a trial of equals."""
        values: Array = block_logs(rng, self.world, 1, 1, LAST_LOOK, LAUNCH_SD)[0, 0]
        slow = math.log1p(_MODE) * (rng.random((2, LAST_LOOK)) < _SLOW_MODE) * self.modes
        return np.asarray(values + slow[1] - slow[0])


NOISES = (
    Noise("quiet", World(0.0, 0.0)),
    Noise("wandering", World(0.8, 0.03)),
    Noise("two modes", World(0.0, 0.0), modes=True),
)


@dataclass(frozen=True, slots=True)
class Linear:
    """A history without merges: the commits are the numbers from 1, and GOOD is 0.

    Attributes:
        effects: the change of log seconds at each commit.
        broken: the commits that cannot be measured.
    """

    effects: Sequence[float]
    broken: frozenset[int] = frozenset()

    def candidates(self, bad: str, goods: Sequence[str]) -> list[tuple[str, int]]:
        """As `CommitHistory.candidates`."""
        first, last = max(map(int, goods)), int(bad)
        found = [(str(n), min(n - first, last - n)) for n in range(first + 1, last + 1)]
        return sorted(found, key=lambda pair: -pair[1])

    def parent(self, commit: str) -> str:
        """As `CommitHistory.parent`."""
        return str(int(commit) - 1)

    def in_order(self, commits: Sequence[str]) -> list[str]:
        """As `CommitHistory.in_order`."""
        return sorted(commits, key=int)

    def slower(self, against: str, commit: str) -> float:
        """The true log ratio of two commits."""
        return math.fsum(self.effects[int(against) : int(commit)])


def plan_of(commits: int) -> BisectPlan:
    """The plan of a bisection of so many commits."""
    case = Case("relu_mlp", "adam", "compiled")
    good, bad = (Spec(checkout=".", revision=str(number)) for number in (0, commits))
    return BisectPlan(DuelPlan(good, bad, (case,), RunSettings()))


def bisected(
    plan: BisectPlan, history: Linear, blocks: Callable[[], Array]
) -> tuple[Ended, list[Trial]]:
    """The end of one simulated bisection, with its trials.

    Args:
        plan: the bisection.
        history: its commits.
        blocks: draws the values of a trial of equals, 24 of them.
    """
    trials: list[Trial] = []
    while isinstance(wanted := next_of(plan, history, trials), Wanted):
        trials.append(_tried(plan, history, wanted, blocks))
    return wanted, trials


def _tried(plan: BisectPlan, history: Linear, wanted: Wanted, blocks: Callable[[], Array]) -> Trial:
    own = wanted.purpose, wanted.against, wanted.commit, wanted.error
    if int(wanted.commit) in history.broken:
        return Trial(*own, Finding.SKIPPED, "broken")
    values = (blocks() + history.slower(wanted.against, wanted.commit)).tolist()
    finding = None
    for look in LOOKS:
        seen, told = values[:look], (plan.what, plan.margin)
        if wanted.purpose is Purpose.STEP:
            finding = judged(seen, *told, wanted.least, wanted.error)
        else:
            finding = confirmed(seen, *told, wanted.error)
        if finding is not None:
            return Trial(*own, finding, speed=tuple(seen))
    raise AssertionError("the last look decides")


def _one_change(rng: np.random.Generator, commits: int, slower: float) -> list[float]:
    """All of the change at one commit."""
    effects = [0.0] * commits
    effects[int(rng.integers(commits))] = math.log1p(slower)
    return effects


def _two_changes(rng: np.random.Generator, commits: int, slower: float) -> list[float]:
    """Half of the change at each of two commits."""
    effects = [0.0] * commits
    for place in rng.choice(commits, 2, replace=False):
        effects[int(place)] = math.log1p(slower) / 2
    return effects


def _creep(rng: np.random.Generator, commits: int, slower: float) -> list[float]:
    """An equal part of the change at every commit."""
    return [math.log1p(slower) / commits] * commits


def _broken(rng: np.random.Generator, commits: int) -> frozenset[int]:
    """A fifth of the commits between, in a row."""
    length = max(1, commits // 5)
    first = int(rng.integers(1, commits - length))
    return frozenset(range(first, first + length))


HISTORIES: dict[str, Callable[[np.random.Generator, int, float], list[float]]] = {
    "one change": _one_change,
    "two changes": _two_changes,
    "creep": _creep,
    "one change, a fifth broken": _one_change,
}


def rows(trials: int, seed: int) -> Iterator[Row]:
    """The rows of bisect.csv: one for each kind of history, machine, length and change."""
    asked = product(HISTORIES, NOISES, COMMITS, SLOWER)
    for number, (kind, noise, commits, slower) in enumerate(asked):
        if slower or kind == "one change":
            rng = np.random.default_rng((seed, number))
            yield _row(rng, kind, noise, (commits, slower, trials))


def _row(rng: np.random.Generator, kind: str, noise: Noise, sizes: tuple[int, float, int]) -> Row:
    commits, slower, trials = sizes
    plan, ends, blocks, longest = plan_of(commits), Counter[str](), 0, 0
    for _ in range(trials):
        broken = _broken(rng, commits) if kind.endswith("broken") else frozenset[int]()
        history = Linear(HISTORIES[kind](rng, commits, slower), broken)
        end, tried = bisected(plan, history, lambda: noise.blocks(rng))
        ends[_judged(plan, history, end)] += 1
        blocks += sum(len(trial.speed) for trial in tried)
        longest = max(longest, len(tried))
    return {
        "history": kind,
        "machine": noise.name,
        "commits": commits,
        "slower": slower,
        "bisections": trials,
        **{name: ends[name] for name in ("right", "wrong", "range", "wrong_range", "no_change")},
        "wrong_upper": upper_bound(ends["wrong"], trials),
        "mean_blocks": blocks / trials,
        "most_trials": longest,
    }


def _judged(plan: BisectPlan, history: Linear, end: Ended) -> str:
    """Whether an end is right: the named commit, or one of the range, is worse than its parent."""
    if end.outcome is Outcome.NO_CHANGE:
        return "no_change"
    worse = [number for number, by in enumerate(history.effects, 1) if by > plan.margin]
    if end.outcome is Outcome.NAMED:
        return "right" if int(end.commit) in worse else "wrong"
    holds = any(int(commit) in worse for commit in end.candidates)
    return "range" if holds or not worse else "wrong_range"
