"""The blocks of a duel: one fresh launch of each side, taking turns round by round.

What others take of a machine comes and goes within seconds, so that two launches one after
the other see different machines. Rounds that alternate see the same one. Where launches cannot
take turns (on a GPU, whose memory one process has; workers of an earlier revision), the block is
one launch after the other.
"""

from __future__ import annotations

import csv
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench import noise
from bench.case import Case
from bench.filetypes import BLOCKS
from bench.reader import read_table
from bench.record import LaunchRecord, Round, Status
from bench.run import MOST_ATTEMPTS, RunUnderWay
from bench.sequential import block_log
from bench.store import cut_half_line, explained
from bench.worker_process import Turns

SIDES = ("a", "b")
COLUMNS = ("case", "block", "first", "control_a_s", "control_b_s", "control_log_ratio")
# The control: 2 x 32 MiB, beyond the caches of most machines, read and written.
_CONTROL_FLOATS = 2**22
# Of one reading: few before each round, many where there is but one reading a launch.
_PASSES, _PASSES_ALONE = 1, 20
Probe = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a case, measured.

    Attributes:
        speed: log of B's time over A's, the median over the rounds that took turns.
        accuracy: how far B's validation accuracy is below A's; None where the loop has none.
        control: log of the control's time before B over that before A, likewise a median.
        failure: why the block says nothing; empty where it does.
    """

    speed: float
    accuracy: float | None
    control: float
    failure: str = ""


class Blocks:
    """Measures blocks, and keeps them in blocks.csv.

    Args:
        path: the duel's folder.
        sides: a run under way each, by name.
        epochs: documented ones, the last of which gives the accuracy.
        on_void: is told of a block that is measured again, and why.
        turns: rounds alternate where they can; False measures one launch after the other.
    """

    def __init__(
        self,
        path: Path,
        sides: Mapping[str, RunUnderWay],
        epochs: int,
        on_void: Callable[[Case, str], None] = lambda *_: None,
        *,
        turns: bool = True,
    ) -> None:
        self._on_void = on_void
        self._turns = turns
        self._path = path
        self._file = path / "blocks.csv"
        self._sides = sides
        self._epochs = epochs
        with explained(path):
            cut_half_line(self._file)
        self._kept = {
            (row["case"], row["block"]): row
            for row in read_table(self._file, BLOCKS, grows=True)[0]
        }
        self._probe = control_probe()
        self._always_disturbed = False

    def holds(self, case: Case, number: int) -> bool:
        """Whether the block is on disk."""
        return (case.id, number) in self._kept

    def measured(self, case: Case, number: int, draw: random.Random) -> Block:
        """A block, measured unless it is on disk.

        Args:
            case: of both sides.
            number: from 0; both launches train with the seed of the run plus it.
            draw: decides who is first, in the block and in each pair of rounds.

        Raises:
            UserError: the disk is full.
        """
        first = draw.choice(SIDES)
        row = self._kept.get((case.id, number))
        if row is not None and _failure(self._launches(case, number)):
            # A block is kept where both launches ended ok, so one of them lost its rounds.
            del self._kept[case.id, number]
            row = None
        if row is None:
            control = self._measure(case, number, first, draw)
            row = {"case": case.id, "block": number, "first": first, **control}
        launches = self._launches(case, number)
        failure = _failure(launches)
        if failure:
            return Block(math.nan, None, row["control_log_ratio"], failure)
        self._keep(row)
        (_, a), (_, b) = launches.values()
        accuracies = [rounds[self._epochs - 1].val_accuracy for rounds in (a, b)]
        drop = None
        if accuracies[0] is not None and accuracies[1] is not None:
            drop = accuracies[0] - accuracies[1]
        seconds = [[r.seconds / r.samples for r in rounds] for rounds in (a, b)]
        return Block(block_log(*seconds), drop, row["control_log_ratio"])

    def _launches(
        self, case: Case, number: int
    ) -> dict[str, tuple[LaunchRecord | None, list[Round]]]:
        return {side: self._sides[side].measured(case, number) for side in SIDES}

    def _measure(
        self, case: Case, number: int, first: str, draw: random.Random
    ) -> dict[str, float]:
        """Both launches; again, both of them, where a signal of noise voids one.

        As in a run, the last of `MOST_ATTEMPTS` stands, and until a block is undisturbed again
        no other is repeated.
        """
        most = 1 if self._always_disturbed else MOST_ATTEMPTS
        for left in reversed(range(most)):
            records, control = self._take_turns(case, number, first, draw)
            reasons = [noise.voids(r.noise) for r in records.values() if r.status is Status.OK]
            disturbed = next(filter(None, reasons), "")
            again = disturbed and left
            for side, record in records.items():
                void = replace(record, status=Status.INVALID, reason=disturbed)
                self._sides[side].keep(void if again and record.status is Status.OK else record)
            if not again:
                break
            self._on_void(case, disturbed)
        if reasons:
            self._always_disturbed = bool(disturbed)
        return control

    def _take_turns(
        self, case: Case, number: int, first: str, draw: random.Random
    ) -> tuple[dict[str, LaunchRecord], dict[str, float]]:
        """One attempt of each launch: the first warms up, then the other, then a round of
        each in random order, until both have ended."""
        order: Sequence[str] = SIDES if first == "a" else SIDES[::-1]
        pauses = self._turns and case.device == "cpu"
        passes = _PASSES if pauses else _PASSES_ALONE
        controls: dict[str, list[float]] = {side: [] for side in SIDES}
        records: dict[str, LaunchRecord] = {}
        with ExitStack() as stack:
            running: dict[str, Turns[LaunchRecord]] = {}
            for side in order:
                attempt = self._sides[side].attempt(case, number, pauses=pauses)
                running[side] = stack.enter_context(closing(attempt))
            while running:
                for side in order:
                    if side not in running:
                        continue
                    controls[side].append(self._probe(passes))
                    try:
                        next(running[side])
                    except StopIteration as end:
                        records[side] = end.value
                        del running[side]
                order = draw.sample(SIDES, 2)
        return records, {
            **{f"control_{side}_s": median(own) for side, own in controls.items()},
            "control_log_ratio": block_log(controls["a"], controls["b"]),
        }

    def _keep(self, row: Mapping[str, Any]) -> None:
        key = (row["case"], row["block"])
        if key in self._kept:
            return
        with explained(self._path):
            fresh = not self._file.exists() or not self._file.stat().st_size
            with self._file.open("a", newline="", encoding="utf-8") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerows([COLUMNS] if fresh else [])
                writer.writerow([row[name] for name in COLUMNS])
        self._kept[key] = dict(row)


def control_probe() -> Probe:
    """A probe of the memory's bandwidth that neither side can change: seconds of one pass,
    the best of so many.

    It runs in this process, so no interpreter, checkout or variable of a side reaches it.
    """
    import numpy as np

    source = np.ones(_CONTROL_FLOATS)
    target = np.zeros(_CONTROL_FLOATS)

    def probe(passes: int) -> float:
        """Copy the array to and fro."""
        seconds = []
        for _ in range(passes):
            started = time.perf_counter()
            np.copyto(target, source)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return probe


def _failure(launches: Mapping[str, tuple[LaunchRecord | None, list[Round]]]) -> str:
    """Why a block says nothing: a launch that did not end well, or other work on one side."""
    for side, (record, _) in launches.items():
        if record is None or record.status is not Status.OK:
            why = f"{record.status}: {record.reason}" if record else "it was not measured"
            return f"side {side.upper()} {why}"
    work = [[(r.samples, r.updates) for r in rounds[:1]] for _, rounds in launches.values()]
    if work[0] != work[1]:
        return f"A trained {work[0]} samples and updates a round, B {work[1]}"
    return ""
