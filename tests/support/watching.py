"""Whoever watches a duel or a bisection, and remembers."""

from __future__ import annotations

from pathlib import Path

from bench.schema.bisect import BisectPlan, Trial
from bench.schema.case import Case
from bench.schema.duel import DuelPlan
from bench.session.events import BisectProgress, DuelProgress
from bench.verdicts.bisect_search import Wanted
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


class WatchingBisect(BisectProgress):
    """Remembers the trials, and can stop the bisection after a number of blocks."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.tried: list[str] = []
        self.blocks, self._stop_after = 0, stop_after

    def waits(self, reason: str) -> None:
        pass

    def bisect_begins(self, plan: BisectPlan, folder: Path, commits: int, trials: int) -> None:
        pass

    def setup_begins(self, commit: str) -> None:
        pass

    def trial_begins(self, number: int, wanted: Wanted, told: str) -> None:
        self.tried.append(wanted.commit)

    def block_voided(self, case: Case, reason: str) -> None:
        pass

    def block_ends(self, plan: BisectPlan, standing: Standing, control: float) -> None:
        self.blocks += 1
        if self.blocks >= self._stop_after:
            raise KeyboardInterrupt

    def trial_ends(self, plan: BisectPlan, trial: Trial) -> None:
        pass
