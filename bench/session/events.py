"""What whoever watches a session is told, as it happens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.schema.case import Case
from bench.schema.duel import DuelPlan
from bench.schema.launch import LaunchRecord, Round
from bench.schema.plan import Plan
from bench.verdicts.duel import (
    Standing,
)


class DuelProgress(Protocol):
    """What a person sees while a duel goes on."""

    def waits(self, reason: str) -> None:
        """Another run has the machine."""

    def duel_begins(self, plan: DuelPlan, folder: Path) -> None:
        """The first block is next."""

    def block_voided(self, case: Case, reason: str) -> None:
        """A block was disturbed, as the reason says, and starts again."""

    def block_ends(self, standing: Standing, control: float) -> None:
        """A block of a case was measured; `control` is its log ratio."""

    def looked(self, standing: Standing) -> None:
        """A look was taken at a case."""


class Progress:
    """What a person sees while a run goes on: nothing, unless a subclass shows it."""

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """The launches that will be measured, in order."""

    def waits(self, reason: str) -> None:
        """Another run has the machine."""

    def ceilings_begin(self, moment: str) -> None:
        """What the machine does at best is measured next, `before` or `after` the cases."""

    def ceilings_fail(self, reason: str) -> None:
        """One setting's ceilings could not be measured; the run goes on without them."""

    def launch_begins(self, case: Case, launch: int) -> None:
        """A launch starts."""

    def round_ends(self, round_: Round) -> None:
        """A round of the launch ended."""

    def launch_voided(self, record: LaunchRecord) -> None:
        """The launch was disturbed, as its reason says, and starts again."""

    def launch_lost(self, case_id: str, launch: int, reason: str) -> None:
        """A launch that had ended ok is measured again, for its rounds are not all there."""

    def launch_ends(self, record: LaunchRecord) -> None:
        """The launch ended, well or not."""

    def run_ends(self) -> None:
        """The last launch ended, or the run was stopped."""
