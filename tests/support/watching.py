"""Whoever watches a duel, and remembers."""

from __future__ import annotations

from pathlib import Path

from bench.schema.case import Case
from bench.schema.duel import DuelPlan
from bench.session.events import DuelProgress
from bench.verdicts.duel import Standing
from bench.verdicts.sequential import Decision


class Watching(DuelProgress):
    """A progress that remembers, and can stop the duel in the middle of a block."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Case, int, float]] = []
        self.looks: list[tuple[Case, Decision]] = []
        self.reasons: list[str] = []

    def block_voided(self, case: Case, reason: str) -> None:
        self.reasons.append(reason)

    def waits(self, reason: str) -> None:
        self.reasons.append(reason)

    def duel_begins(self, plan: DuelPlan, folder: Path) -> None:
        pass

    def block_ends(self, standing: Standing, control: float) -> None:
        self.blocks.append((standing.case, len(standing.speed), control))

    def looked(self, standing: Standing) -> None:
        assert standing.speed_look is not None
        self.looks.append((standing.case, standing.speed_look.decision))
