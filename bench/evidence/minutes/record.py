"""Records blocks of equals as a user's duel measures them, with the minutes that each takes.

What is decided from them, and when, is computed later (`bench.evidence.minutes.sample`), so that
one recording serves every rule. Nobody looks while it is recorded, so all 24 blocks are there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.lock import the_machine
from bench.schema.case import Case
from bench.schema.draws import SIDES
from bench.schema.duel import DuelPlan, Spec
from bench.schema.launch import Status
from bench.schema.matrix import DUEL, EPOCHS
from bench.schema.plan import RunSettings
from bench.session.blocks import Blocks
from bench.session.duel import begin
from bench.session.under_way import sides_under_way
from bench.store.filetypes import BLOCKS
from bench.store.reader import read_table
from bench.store.run_folder import RunFolder
from bench.store.tables import write_json
from bench.verdicts.sequential import LAST_LOOK
from fmnist_models.errors import UserError

LOOPS = ("compiled", "fit")
# Processes that keep a core busy each while a duel is measured.
LOADS = (0, 1)
_TAKEN = "minutes.json"
_BUSY = "while True: pass"


@dataclass(frozen=True, slots=True)
class Setting:
    """A default duel of one loop, beside so many busy processes."""

    loop: str
    load: int

    @property
    def case(self) -> Case:
        """The case of the default duel, in this loop."""
        return Case("relu_mlp", "adam", self.loop, "cpu", 512)

    def plan(self, session: int) -> DuelPlan:
        """The plan of its duel of equals, with seeds of its own in each session."""
        settings = RunSettings(epochs=EPOCHS[DUEL], launches=1, seed=1_000 * session)
        command = "python -m bench.evidence minutes"
        return DuelPlan(Spec(), Spec(), (self.case,), settings, command=command)


SETTINGS = tuple(itertools.starmap(Setting, itertools.product(LOOPS, LOADS)))


def record(work: Path, sessions: int, told: Callable[[str], None]) -> None:
    """Measure the duels that `work` does not have yet; those of a session come in a drawn order.

    Raises:
        UserError: a duel cannot be measured.
    """
    for session in range(1, sessions + 1):
        order = random.Random(session).sample(SETTINGS, len(SETTINGS))
        for setting in order:
            path = work / f"{session:02d}-{setting.loop}-{setting.load}"
            if not (path / _TAKEN).exists():
                # Half a duel has no minutes.
                shutil.rmtree(path, ignore_errors=True)
                _measure(setting, session, path, told)


def _measure(setting: Setting, session: int, path: Path, told: Callable[[str], None]) -> None:
    began = time.perf_counter()
    plan = begin(setting.plan(session), path)
    (case,) = plan.cases
    seconds = []
    with busy(setting.load), the_machine(told, True), sides_under_way(plan, path) as sides:
        blocks = Blocks(path, sides, plan.settings)
        for number in range(LAST_LOOK):
            block = blocks.measured(case, number, plan.draws.block(case, number))
            if block.failure:
                raise UserError(f"{path}: block {number}: {block.failure}")
            now = time.perf_counter()
            seconds.append(now - began)
            began = now
            told(f"{path.name}, block {number + 1} of {LAST_LOOK}: {seconds[-1]:.1f} s")
    write_json(path / _TAKEN, {"block_s": seconds})


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that each keep a core busy, as a neighbour on the machine would."""
    running = [
        subprocess.Popen([sys.executable, "-S", "-c", _BUSY], stdin=subprocess.DEVNULL)
        for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def recorded(work: Path) -> list[dict[str, Any]]:
    """A row for each launch of the finished duels in `work`: where it stood, and its seconds.

    The seconds of a block, `block_s`, hold everything from the end of the block before; those of
    the first block hold the start of the duel.

    Raises:
        UserError: there is no finished duel, or one cannot be read.
    """
    rows = [
        row
        for folder in sorted(work.glob("*-*-*"))
        if (folder / _TAKEN).exists()
        for row in _launches(folder)
    ]
    if not rows:
        raise UserError(f"{work} holds no finished duel: measure some with --sessions")
    return rows


def _launches(folder: Path) -> Iterator[dict[str, Any]]:
    session, loop, load = folder.name.split("-")
    taken: Sequence[float] = json.loads((folder / _TAKEN).read_text("utf-8"))["block_s"]
    orders = {row["block"]: row["order"] for row in read_table(folder / "blocks.csv", BLOCKS)[0]}
    for side in SIDES:
        run = RunFolder(folder / side)
        began = (run.environment() or {}).get("time_utc", "")
        rounds = run.rounds()
        for launch in run.launches():
            if launch.status is not Status.OK:
                continue
            own = [r for r in rounds if (r.launch, r.attempt) == (launch.launch, launch.attempt)]
            noise = launch.noise
            yield {
                "session": int(session),
                "time_utc": began,
                "loop": loop,
                "load": int(load),
                "block": launch.launch,
                "side": side,
                "order": orders[launch.launch],
                "block_s": round(taken[launch.launch], 4),
                "launch_s": launch.total_s,
                "warmup_s": launch.warmup_s,
                "steal_share": noise and noise.steal_share,
                "other_work_share": noise and noise.other_work_share,
                "cpu_pressure_share": noise and noise.cpu_pressure_share,
                "seconds": " ".join(f"{each.round.seconds:.6f}" for each in own),
            }
