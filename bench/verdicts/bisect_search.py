"""What a bisection does next, from the trials so far: another trial, or its end. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bench.schema.bisect import BisectPlan, Finding, Purpose, Trial
from bench.schema.errors import ExitCode
from bench.verdicts.bisect import WRONG, Change, change_of, confirming_error, picked, step_error

INTERRUPTED = "interrupted"


class CommitHistory(Protocol):
    """The commits between GOOD and BAD."""

    def candidates(self, bad: str, goods: Sequence[str]) -> Sequence[tuple[str, int]]:
        """The commits that `bad` contains and none of `goods` does, farthest first.

        Each with its distance: the smaller of the numbers of candidates that remain after it is
        found worse or not worse.
        """

    def parent(self, commit: str) -> str:
        """The first parent of a commit."""

    def in_order(self, commits: Sequence[str]) -> Sequence[str]:
        """These candidates, the oldest first."""


class Outcome(StrEnum):
    """How a bisection ended."""

    NAMED = "named"
    RANGE = "range"
    NO_CHANGE = "no_change"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The next trial; `least` is the change that a step must rule out."""

    purpose: Purpose
    against: str
    commit: str
    error: float
    least: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a bisection.

    Attributes:
        commit: the commit that is named; empty where none is.
        candidates: the commits that remain, of which one is the cause, the oldest first.
        reason: why it ended without a name.
    """

    outcome: Outcome
    commit: str = ""
    candidates: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BisectReport:
    """The outcome of a bisection, with its trials in order."""

    plan: BisectPlan
    trials: tuple[Trial, ...]
    end: Ended
    commits: int

    @property
    def exit_code(self) -> ExitCode:
        """1 where a commit is named, which is a confirmed regression; else as in a duel."""
        return {
            Outcome.NAMED: ExitCode.REGRESSION,
            Outcome.RANGE: ExitCode.INCONCLUSIVE,
            Outcome.NO_CHANGE: ExitCode.INCONCLUSIVE,
            Outcome.FAILED: ExitCode.WRONG_USE_OR_FAILED_CASE,
            Outcome.STOPPED: ExitCode.INTERRUPTED,
        }[self.end.outcome]

    @property
    def was_stopped(self) -> bool:
        """Whether it can be resumed."""
        return self.end.outcome in (Outcome.STOPPED, Outcome.FAILED)

    @property
    def proof(self) -> Trial | None:
        """The trial of the named commit against its parent; None where none is named."""
        of_it = [trial for trial in self.trials if trial.commit == self.end.commit]
        return of_it[-1] if of_it and self.end.outcome is Outcome.NAMED else None

    @property
    def change(self) -> Change | None:
        """The change of what was judged at the named commit, in the unit of a trial's values."""
        trial = self.proof
        return None if trial is None else change_of(trial.values(self.plan.what), WRONG / 2)


def next_of(plan: BisectPlan, history: CommitHistory, trials: Sequence[Trial]) -> Wanted | Ended:
    """The next trial of a bisection, or its end."""
    if not trials:
        return Wanted(Purpose.CONFIRM, plan.good, plan.bad, confirming_error())
    first, *later = trials
    every = history.candidates(plan.bad, [plan.good])
    if first.finding is Finding.SKIPPED:
        return Ended(Outcome.FAILED, reason=first.reason)
    if first.finding is not Finding.WORSE:
        return Ended(Outcome.NO_CHANGE, reason=first.reason)
    steps = [trial for trial in later if trial.purpose is Purpose.STEP]
    found = {trial.commit: trial.finding for trial in steps}
    # The newest commit that is known to be worse.
    bad = next(
        (trial.commit for trial in reversed(steps) if trial.finding is Finding.WORSE), plan.bad
    )
    goods = [commit for commit, finding in found.items() if finding is Finding.NOT_WORSE]
    left = history.candidates(bad, [plan.good, *goods])
    if steps and steps[-1].finding is Finding.UNDECIDED:
        return _range(history, left, _undecided(steps[-1]))
    skipped = [pair for pair in left if found.get(pair[0]) is Finding.SKIPPED]
    open_ = [pair for pair in left if pair[0] != bad and pair not in skipped]
    if open_:
        least = change_of(first.values(plan.what), first.error).low
        decided = sum(trial.finding is not Finding.SKIPPED for trial in steps)
        error = step_error(decided, len(every))
        commit = picked(open_, len(skipped))
        return Wanted(Purpose.STEP, plan.good, commit, error, least)
    if skipped:
        return _range(history, left, "the commits between could not be measured")
    if not left:
        return Ended(Outcome.RANGE, reason="no commit that touches the paths made it worse")
    return _proven(plan, history, trials, bad)


def _proven(
    plan: BisectPlan, history: CommitHistory, trials: Sequence[Trial], commit: str
) -> Wanted | Ended:
    """The end of a bisection whose steps lead to `commit`, or the trial that it still needs."""
    parent = history.parent(commit)
    pair = parent, commit
    proof = next((t for t in reversed(trials) if (t.against, t.commit) == pair), None)
    if proof is None:
        return Wanted(Purpose.PROOF, parent, commit, WRONG)
    if proof.finding is Finding.WORSE:
        return Ended(Outcome.NAMED, commit)
    every = history.candidates(plan.bad, [plan.good])
    why = proof.reason or "against its own parent it is not known to be worse"
    return _range(history, every, f"the steps lead to {commit[:12]}, but {why}")


def _range(history: CommitHistory, candidates: Sequence[tuple[str, int]], reason: str) -> Ended:
    named = history.in_order([commit for commit, _ in candidates])
    return Ended(Outcome.RANGE, "", tuple(named), reason)


def _undecided(step: Trial) -> str:
    blocks = len(step.speed)
    return f"{step.commit[:12]} could not be decided in {blocks} blocks" + (
        f": {step.reason}" if step.reason else ""
    )
