"""The output of a bisection: a line for each block and trial, and the commit at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bench.reports.terminal.duel import ratio_words
from bench.schema.bisect import BisectPlan, Finding, Purpose, Trial, What
from bench.schema.case import Case
from bench.schema.cells import counted
from bench.verdicts.bisect import LOOKS, WRONG, Change, change_of, usual_steps
from bench.verdicts.bisect_search import BisectReport, Outcome, Wanted
from bench.verdicts.bisect_told import score_of, see_again, speed_of, unit_of
from bench.verdicts.duel import Standing
from bench.verdicts.sequential import LAST_LOOK

_SHORT = 12
# As many candidates of a range are named; the others are counted.
_MOST_NAMED = 10
_PURPOSE = {
    Purpose.CONFIRM: "GOOD against BAD",
    Purpose.STEP: "a step",
    Purpose.PROOF: "the commit against its parent",
}
_FINDING = {
    Finding.WORSE: "is worse",
    Finding.NOT_WORSE: "is not worse",
    Finding.UNDECIDED: "could not be decided",
    Finding.SKIPPED: "was skipped",
}


class BisectLines:
    """Prints a line for each block, and two for each trial."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def waits(self, reason: str) -> None:
        """Print why it waits."""
        self._print(f"waiting: {reason}")

    def bisect_begins(self, plan: BisectPlan, folder: Path, commits: int, trials: int) -> None:
        """Print what is searched, and how many trials there will be."""
        steps = usual_steps(commits) if commits > 1 else 0
        looks = ", ".join(map(str, LOOKS))
        self._print(
            f"{counted(commits, 'commit')} after GOOD {plan.good[:_SHORT]} up to BAD "
            f"{plan.bad[:_SHORT]}: {what_of(plan)} of {plan.case.id}"
        )
        told = f"; {counted(trials, 'trial')} measured before" if trials else ""
        self._print(
            f"GOOD against BAD, about {counted(steps, 'step')}, and the commit against its parent; "
            f"looks after {looks} blocks{told}; in {folder}"
        )

    def setup_begins(self, commit: str) -> None:
        """Print where the user's command runs."""
        self._print(f"  setting up {commit[:_SHORT]} ...")

    def trial_begins(self, number: int, wanted: Wanted, told: str) -> None:
        """Print the commit that is tried."""
        self._print(f"trial {number + 1}, {_PURPOSE[wanted.purpose]}: {wanted.commit[:_SHORT]}")
        self._print(f"  {told}")

    def block_voided(self, case: Case, reason: str) -> None:
        """Print why a block is measured again."""
        self._print(f"  {reason} (measured again)")

    def block_ends(self, plan: BisectPlan, standing: Standing, control: float) -> None:
        """Print what is measured so far."""
        so_far = ratio_words(standing)
        if plan.what is What.ACCURACY and standing.score:
            scale, mean = standing.scale, sum(standing.score) / len(standing.score)
            so_far = f"{so_far}, {scale.name} {scale.change(mean):+.2f} {unit_of(scale)}"
        self._print(
            f"  block {len(standing.speed)}/{LAST_LOOK}: B over A {so_far}, control "
            f"{math.exp(control):.3f}"
        )

    def trial_ends(self, plan: BisectPlan, trial: Trial) -> None:
        """Print the finding."""
        self._print(f"  {trial_words(plan, trial)}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def what_of(plan: BisectPlan) -> str:
    """What is searched for."""
    return "what made training slower" if plan.what is What.SPEED else "what lowered the score"


def trial_words(plan: BisectPlan, trial: Trial) -> str:
    """What a trial found, as text."""
    said = f"{trial.commit[:_SHORT]} {_FINDING[trial.finding]}"
    if trial.finding in (Finding.WORSE, Finding.NOT_WORSE):
        return f"{said} than {trial.against[:_SHORT]}"
    if trial.finding is Finding.UNDECIDED:
        said = f"{said} in {counted(len(trial.speed), 'block')}"
    return f"{said}: {trial.reason}" if trial.reason else said


def print_bisect(report: BisectReport, console: Console, told: Callable[[str], str]) -> None:
    """Print how a bisection ended.

    Args:
        report: the bisection.
        console: where to print.
        told: the date and the subject of a commit.
    """
    for line in ending_lines(report, told):
        console.print(Text(line), soft_wrap=True)


def ending_lines(report: BisectReport, told: Callable[[str], str]) -> Iterator[str]:
    """The lines of `print_bisect`."""
    code = f"(exit {int(report.exit_code)})"
    end = report.end
    if end.outcome is Outcome.NAMED and report.proof is not None:
        yield from _named(report, report.proof, told)
    elif end.outcome is Outcome.NO_CHANGE:
        yield f"no change was confirmed between GOOD and BAD: {_unconfirmed(report)} {code}"
    elif end.outcome is Outcome.FAILED:
        yield f"GOOD against BAD could not be measured: {end.reason} {code}"
    elif end.outcome is Outcome.STOPPED:
        yield f"stopped: {end.reason} {code}"
    else:
        few = end.candidates[-_MOST_NAMED:]
        yield f"no single commit is known {code}: {end.reason}"
        if few:
            yield f"the cause, if it is one commit, is one of {len(end.candidates)}:"
        if len(few) < len(end.candidates):
            yield f"  {len(end.candidates) - len(few)} older ones"
        yield from (f"  {commit} {told(commit)}" for commit in few)


def _named(report: BisectReport, proof: Trial, told: Callable[[str], str]) -> Iterator[str]:
    plan = report.plan
    did = "made training slower" if plan.what is What.SPEED else f"lowered the {proof.scale.name}"
    if plan.what is What.ACCURACY and proof.scale.fall == "rise":
        did = f"raised the {proof.scale.name}"
    yield f"{proof.commit} {did} (exit {int(report.exit_code)})"
    yield f"  {told(proof.commit)}"
    blocks = counted(len(proof.speed), "block")
    yield (
        f"  {_ratio(speed_of(proof))} times the time of its parent {proof.against[:_SHORT]} (99% "
        f"interval, {blocks})"
    )
    found = score_of(proof)
    if found is not None:
        change, ends = found
        between = "" if ends is None else f" ({ends[0]:+.2f} to {ends[1]:+.2f}, 95% interval)"
        yield f"  {proof.scale.name} {change:+.2f} {unit_of(proof.scale)}{between}"
    yield f"  a wrong commit is named in at most {WRONG:.0%} of bisections"
    yield f"see it again: {see_again(plan, proof)}"


def _unconfirmed(report: BisectReport) -> str:
    """What the trial of GOOD and BAD saw."""
    plan, first = report.plan, report.trials[0]
    if first.reason:
        return first.reason
    seen = change_of(first.values(plan.what), first.error)
    blocks = counted(len(first.speed), "block")
    if plan.what is What.ACCURACY:
        ends = sorted(map(first.scale.change, (seen.low, seen.high)))
        return (
            f"{first.scale.name} {first.scale.change(seen.mean):+.2f} ({ends[0]:+.2f} to "
            f"{ends[1]:+.2f}) {unit_of(first.scale)} in {blocks}"
        )
    faster = "; BAD is faster" if seen.high < -plan.margin else ""
    return f"BAD takes {_ratio(seen)} times the time of GOOD in {blocks}{faster}"


def _ratio(change: Change) -> str:
    mean, low, high = (math.exp(min(end, 700)) for end in (change.mean, change.low, change.high))
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"
