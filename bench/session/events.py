"""The events of a session, for classes that show its progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.schema.bisect import BisectPlan, Trial
from bench.schema.case import Case
from bench.schema.duel import DuelPlan
from bench.schema.launch import LaunchRecord, Round
from bench.schema.plan import Plan
from bench.verdicts.bisect_search import Wanted
from bench.verdicts.duel import Standing


class DuelProgress(Protocol):
    """Shows the progress of a duel."""

    def waits(self, reason: str) -> None:
        """The duel waits for another run on this machine."""

    def duel_begins(self, plan: DuelPlan, folder: Path) -> None:
        """The first block begins."""

    def block_voided(self, case: Case, reason: str) -> None:
        """A block was disturbed, for the given reason, and is measured again."""

    def block_ends(self, standing: Standing, control: float) -> None:
        """A block of a case was measured; `control` is its control's log ratio."""

    def looked(self, standing: Standing) -> None:
        """A look was taken at a case."""


class BisectProgress(Protocol):
    """Shows the progress of a bisection."""

    def waits(self, reason: str) -> None:
        """It waits for another run on this machine."""

    def bisect_begins(self, plan: BisectPlan, folder: Path, commits: int, trials: int) -> None:
        """The first trial, or the first that is missing, begins.

        `commits` are the candidates, and `trials` are on disk already.
        """

    def setup_begins(self, commit: str) -> None:
        """The user's command begins in the checkout of a commit."""

    def trial_begins(self, number: int, wanted: Wanted, told: str) -> None:
        """Trial `number`, from 0, begins; `told` is the date and the subject of its commit."""

    def block_voided(self, case: Case, reason: str) -> None:
        """A block was disturbed, for the given reason, and is measured again."""

    def block_ends(self, plan: BisectPlan, standing: Standing, control: float) -> None:
        """A block was measured; `control` is its control's log ratio."""

    def trial_ends(self, plan: BisectPlan, trial: Trial) -> None:
        """A trial has ended, with any finding."""


class Progress:
    """Receives the events of a run; subclasses show them, this class shows nothing."""

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """The run begins; `remaining` are the launches to measure, in order."""

    def waits(self, reason: str) -> None:
        """The run waits for another run on this machine."""

    def ceilings_begin(self, moment: str) -> None:
        """The machine's ceilings are measured next, `before` or `after` the cases."""

    def ceilings_fail(self, reason: str) -> None:
        """One setting's ceilings could not be measured; the run goes on without them."""

    def launch_begins(self, case: Case, launch: int) -> None:
        """A launch begins."""

    def together_begins(self, cases: Sequence[Case], launch: int) -> None:
        """Launches of these cases begin whose rounds alternate.

        Each of them is told as any other launch, once all have ended.
        """

    def round_ends(self, round_: Round) -> None:
        """A round of the launch ended."""

    def launch_voided(self, record: LaunchRecord) -> None:
        """The launch was disturbed, for the reason in its record, and is measured again."""

    def launch_lost(self, case_id: str, launch: int, reason: str) -> None:
        """A launch that had ended ok is measured again, because its rounds cannot be used."""

    def launch_ends(self, record: LaunchRecord) -> None:
        """The launch ended, with any status."""

    def run_ends(self) -> None:
        """The last launch ended, or the run was stopped."""
