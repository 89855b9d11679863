"""Runs duels with a known truth on this machine: of equals, and of a side with a slower step.

Every duel keeps its folder, so nothing is measured twice.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.launch.origin import child_command
from bench.reports.terminal.duel import DuelLines
from bench.schema.case import Case
from bench.schema.draws import SIDES
from bench.schema.duel import DuelPlan, Spec
from bench.schema.errors import explained
from bench.schema.plan import RunSettings
from bench.schema.sizes import DUEL_GATE
from bench.session.duel import begin, fight, resume
from bench.store.run_folder import RunFolder
from bench.store.tables import write_json

# The builder of the slower model, and the variable with its number of iterations.
BURNING, TURNS = "bench.evidence.burn:relu_mlp", "FMNIST_BURN_TURNS"
SESSIONS = 10
SLOWER = (0.05, 0.10)
# Sessions in which slower sides are measured too.
INJECTED = range(3, 5)


@dataclass(frozen=True, slots=True)
class Setting:
    """The work of the duels of one loop, small enough that a duel takes a minute or two.

    Attributes:
        batch_size: samples a step.
        rows: number of training images.
        gate: gate of duels of equals; a wider one is decided sooner, with as many alarms.
        budget_s: no block begins after this many seconds; None runs to a verdict. Duels with a
            short budget are used only for the re-randomized duels and the checks.
    """

    batch_size: int
    rows: int
    gate: float = DUEL_GATE
    budget_s: float | None = None


SETTINGS = {
    "fit": Setting(32, 1_000, gate=0.10),
    "multistep": Setting(64, 8_000, budget_s=30.0),
    "compiled": Setting(512, 8_000, gate=0.10),
}
INJECTED_LOOPS = ("fit", "compiled")


@dataclass(frozen=True, slots=True)
class LiveDuel:
    """One duel of the evidence.

    Attributes:
        session: number from 1; the sessions are at different times.
        loop: the loop of its case.
        slower: nominal slow-down of B's step, as a share; 0 for equals.
    """

    session: int
    loop: str
    slower: float = 0.0

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.session:02d}-{self.loop}-{100 * self.slower:g}"

    def plan(self, turns: int) -> DuelPlan:
        """The plan of the duel; `turns` is the number of iterations in B's step."""
        setting = SETTINGS[self.loop]
        sides = (Spec(), Spec())
        model = "relu_mlp"
        if self.slower:
            model = BURNING
            sides = (Spec(variables=((TURNS, "0"),)), Spec(variables=((TURNS, str(turns)),)))
        case = Case(model, "adam", self.loop, batch_size=setting.batch_size)
        settings = RunSettings(epochs=1, seed=1_000 + 100 * self.session)
        return DuelPlan(
            *sides,
            (case,),
            settings,
            DUEL_GATE if self.slower else setting.gate,
            budget_s=setting.budget_s,
            rows=setting.rows,
            command="python -m bench.evidence live",
        )


def duels() -> Iterator[LiveDuel]:
    """All duels, in the order in which they run."""
    for session in range(1, SESSIONS + 1):
        due = [LiveDuel(session, loop) for loop in SETTINGS]
        if session in INJECTED:
            due += [LiveDuel(session, loop, s) for loop in INJECTED_LOOPS for s in SLOWER]
        random.Random(session).shuffle(due)
        yield from due


def fight_all(work: Path, pause_s: float, lines: DuelLines) -> None:
    """Run the duels that `work` does not have yet, with a pause between the sessions.

    Raises:
        UserError: a duel cannot be run.
    """
    turn_s = turn_seconds(work)
    session = 1
    for duel in duels():
        folder = work / duel.name
        if (folder / "verdict.json").exists():
            continue
        if duel.session > session:
            time.sleep(pause_s)
        session = duel.session
        if (folder / "duel.json").exists():
            plan = resume(folder)
        else:
            step_s = _step_s(work / LiveDuel(1, duel.loop).name, duel.loop) if duel.slower else 0.0
            plan = begin(duel.plan(round(duel.slower * step_s / turn_s)), folder)
        fight(plan, folder, lines, wait=True)


def turn_seconds(work: Path) -> float:
    """Seconds of one iteration of the burning loop, measured once for all sessions."""
    file = work / "turn_s.json"
    if file.exists():
        return float(json.loads(file.read_text("utf-8")))
    seconds = calibrated_turn_s()
    with explained(work):
        work.mkdir(parents=True, exist_ok=True)
        write_json(file, seconds)
    return seconds


def calibrated_turn_s() -> float:
    """Seconds of one iteration of the burning loop, measured now in a fresh process."""
    done = subprocess.run(
        child_command("bench.evidence.burn"),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return float(done.stdout.splitlines()[-1])


def _step_s(folder: Path, loop: str) -> float:
    """Seconds of a step of side A, as the median over its rounds."""
    rounds = RunFolder(folder / SIDES[0]).rounds()
    return median(stored.round.seconds / stored.round.updates for stored in rounds)
