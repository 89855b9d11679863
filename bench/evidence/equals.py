"""Runs and reads many short duels of equals: p-values, control, places and templates.

Every duel keeps its folder. An unfinished one is resumed, a finished one is only read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.schema.case import Case
from bench.schema.draws import SIDES
from bench.schema.duel import DuelPlan, Spec
from bench.schema.launch import Status
from bench.schema.plan import RunSettings
from bench.session.control import readings_of
from bench.session.duel import begin, fight, resume
from bench.session.events import DuelProgress
from bench.store.filetypes import BLOCKS as BLOCK_ROWS
from bench.store.reader import read_table
from bench.store.run_folder import RunFolder
from bench.verdicts.sequential import FIRST_LOOK

Pairs = tuple[tuple[float, float], ...]
BLOCKS = FIRST_LOOK
# So wide that every duel ends at the first look; only the p-value of its blocks is needed.
GATE = 10.0
# (case, number of training images), few enough that a duel takes a minute or two.
CASES = {
    "compiled": (Case("relu_mlp", "adam", "compiled", batch_size=512), 8_000),
    "fit": (Case("relu_mlp", "adam", "fit", batch_size=32), 1_000),
}
# The default seed, with which all duels of earlier revisions had the same order.
SEED = 42


@dataclass(frozen=True, slots=True)
class EqualBlock:
    """A block of equals, read from disk.

    Attributes:
        speed, control: its log ratios, B over A.
        templates: the templates of A and of B.
        order: the side that was first in each pair of turns; the first letter is the warm-up's.
        rounds: (seconds of the first round, seconds of the second round) of each pair.
        readings: the same for the control's readings, without the warm-up's pair.
        repeated: whether the first turn of a pair was of the side that had the turn before, for
            each of these pairs.
    """

    speed: float
    control: float
    templates: tuple[int, int]
    order: str
    rounds: Pairs
    readings: Pairs
    repeated: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class EqualDuel:
    """A finished duel of equals."""

    name: str
    loop: str
    time_utc: str
    blocks: tuple[EqualBlock, ...]


def names(duels: int) -> Iterator[tuple[str, str]]:
    """The folder and the loop of each duel; the loops alternate."""
    for number in range(1, duels + 1):
        loop = tuple(CASES)[(number - 1) % len(CASES)]
        yield f"{number:02d}-{loop}", loop


def plan_of(loop: str) -> DuelPlan:
    """The plan of a duel of equals; only the gate differs from that of a user's duel."""
    case, rows = CASES[loop]
    settings = RunSettings(epochs=1, seed=SEED)
    command = "python -m bench.evidence equals"
    return DuelPlan(Spec(), Spec(), (case,), settings, GATE, rows=rows, command=command)


def fight_equals(work: Path, duels: int, progress: DuelProgress) -> None:
    """Run the duels that `work` does not have yet.

    Raises:
        UserError: a duel cannot be run.
        KeyboardInterrupt: a duel was interrupted; it can be resumed.
    """
    for name, loop in names(duels):
        folder = work / name
        if (folder / "verdict.json").exists():
            continue
        plan = resume(folder) if (folder / "duel.json").exists() else begin(plan_of(loop), folder)
        if fight(plan, folder, progress, wait=True).stopped:
            # The verdict of an unfinished duel would be taken for that of a finished one.
            (folder / "verdict.json").unlink()
            raise KeyboardInterrupt


def read_duels(work: Path, duels: int) -> list[EqualDuel]:
    """The finished ones of the duels in `work`."""
    return [
        read_duel(work / name, loop)
        for name, loop in names(duels)
        if (work / name / "verdict.json").exists()
    ]


def read_duel(folder: Path, loop: str) -> EqualDuel:
    """Read a finished duel of one case."""
    verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
    (told,) = verdict["cases"]
    described = RunFolder(folder / SIDES[0]).environment() or {}
    blocks = read_blocks(folder, [*zip(told["speed"], verdict["control"], strict=True)])
    return EqualDuel(folder.name, loop, str(described.get("time_utc")), blocks)


def read_blocks(folder: Path, logs: list[tuple[float, float]]) -> tuple[EqualBlock, ...]:
    """Read the blocks of a duel of one case.

    Args:
        folder: the duel's folder.
        logs: (log ratio of speed, log ratio of the control) of each block, in order.
    """
    seconds = {side: _seconds(RunFolder(folder / side)) for side in SIDES}
    readings = {
        (number, reading.pair, reading.place): reading
        for (_, number), own in readings_of(folder / "control.csv").items()
        for reading in own
    }
    rows = {row["block"]: row for row in read_table(folder / "blocks.csv", BLOCK_ROWS)[0]}
    blocks = []
    for row, (speed, control) in zip(rows.values(), logs, strict=True):
        number, firsts = row["block"], row["order"][1:]
        pairs = range(1, len(firsts) + 1)
        own = [[readings[number, pair, place] for place in (1, 2)] for pair in pairs]
        rounds = [
            tuple(seconds[side][number][pair - 1] for side in _in_order(firsts[pair - 1]))
            for pair in pairs
        ]
        blocks.append(
            EqualBlock(
                speed,
                control,
                (row["template_a"], row["template_b"]),
                row["order"],
                tuple(rounds),  # type: ignore[arg-type]
                tuple((first.seconds, second.seconds) for first, second in own),
                tuple(first.side == first.after for first, _ in own),
            )
        )
    return tuple(blocks)


def _in_order(first: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((first, *SIDES)))


def _seconds(folder: RunFolder) -> dict[int, list[float]]:
    """Seconds of each round, by launch; of the launches that ended ok."""
    attempts = {r.launch: r.attempt for r in folder.launches() if r.status is Status.OK}
    found: dict[int, list[float]] = {}
    for stored in folder.rounds():
        if attempts.get(stored.launch) == stored.attempt:
            found.setdefault(stored.launch, []).append(stored.round.seconds)
    return found
