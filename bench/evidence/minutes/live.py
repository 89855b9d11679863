"""Runs default duels with a known change on this machine, and notes the minutes until each ended.

They stand beside the duels that are drawn from recorded blocks: nothing of them is computed.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.evidence.live import BURNING, TURNS, turn_seconds
from bench.evidence.minutes.designs import CHANGES
from bench.evidence.minutes.record import SETTINGS, Setting, busy
from bench.evidence.recorded import duel_row
from bench.reports.terminal.duel import DuelLines
from bench.schema.draws import SIDES
from bench.schema.duel import DuelPlan, Spec
from bench.session.duel import begin, fight
from bench.store.run_folder import RunFolder
from bench.store.tables import write_json
from fmnist_models.errors import UserError

_TAKEN = "fought.json"
_KEPT = ("truth", "blocks", "ratio", "ratio_low", "ratio_high", "verdict", "exit_code")


@dataclass(frozen=True, slots=True)
class LiveDuel:
    """A default duel, in which B's step takes longer by the share `change`."""

    setting: Setting
    change: float
    repetition: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        own = f"{self.setting.loop}-{self.setting.load}-{100 * self.change:g}"
        return f"live-{self.repetition:02d}-{own}"

    def plan(self, turns: int) -> DuelPlan:
        """Its plan; `turns` is the number of iterations in B's step."""
        plan = self.setting.plan(500 + self.repetition)
        sides = (Spec(variables=((TURNS, str(number)),)) for number in (0, turns))
        a, b = sides
        return replace(plan, a=a, b=b, cases=(replace(self.setting.case, model=BURNING),))


def fight_all(
    work: Path, repetitions: int, lines: DuelLines, told: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for each duel; those that `work` does not have yet are fought, in a drawn order.

    Raises:
        UserError: no blocks of a setting were recorded in `work`, or a duel cannot be run.
    """
    turn_s = turn_seconds(work)
    duels = [
        LiveDuel(setting, change, repetition)
        for repetition in range(1, repetitions + 1)
        for setting in SETTINGS
        for change in CHANGES
    ]
    for duel in random.Random(repetitions).sample(duels, len(duels)):
        path = work / duel.name
        if (path / _TAKEN).exists():
            continue
        # Half a duel has no minutes.
        shutil.rmtree(path, ignore_errors=True)
        turns = round(duel.change * _step_s(work, duel.setting) / turn_s)
        told(f"{duel.name}: {turns} turns in the step of B")
        with busy(duel.setting.load):
            began = time.perf_counter()
            fight(begin(duel.plan(turns), path), path, lines, wait=True)
            minutes = (time.perf_counter() - began) / 60
        write_json(path / _TAKEN, {"minutes": minutes, "burned_s": turns * turn_s})
    return list(_rows(work, duels))


def _rows(work: Path, duels: list[LiveDuel]) -> Iterator[dict[str, Any]]:
    for duel in duels:
        path = work / duel.name
        taken = json.loads((path / _TAKEN).read_text("utf-8"))
        verdict = json.loads((path / "verdict.json").read_text("utf-8"))
        row = duel_row(path, verdict, taken["burned_s"])
        yield {
            "repetition": duel.repetition,
            "loop": duel.setting.loop,
            "load": duel.setting.load,
            "change": duel.change,
            "minutes": taken["minutes"],
            **{name: row[name] for name in _KEPT},
        }


def _step_s(work: Path, setting: Setting) -> float:
    """Seconds of a step of side A in the first recorded duel of a setting."""
    folder = work / f"01-{setting.loop}-{setting.load}" / SIDES[0]
    rounds = RunFolder(folder).rounds()
    if not rounds:
        raise UserError(f"{folder} holds no rounds: record some with --sessions")
    return median(stored.round.seconds / stored.round.updates for stored in rounds)
