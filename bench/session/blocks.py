"""The blocks of a duel: one fresh launch of each side, taking turns round by round.

What others take of a machine comes and goes within seconds, so that two launches one after
the other see different machines. Rounds that alternate see the same one. Where launches cannot
take turns (on a GPU, whose memory one process has; workers of an earlier revision), the block is
one launch after the other.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import astuple, replace
from itertools import chain
from pathlib import Path
from typing import Any

from bench.analysis import noise
from bench.launch.stepwise import Turns
from bench.schema.case import Case
from bench.schema.cells import as_cell
from bench.schema.draws import SIDES, BlockDraw
from bench.schema.duel import Block
from bench.schema.errors import explained
from bench.schema.launch import LaunchRecord, Round, Status
from bench.session.attempts import MOST_ATTEMPTS, RunUnderWay
from bench.session.control import Reading, control_cells, control_probe, refuse_other_control
from bench.store.filetypes import BLOCKS, CONTROL
from bench.store.reader import read_table
from bench.store.tables import cut_half_line, in_own_form, write_csv
from bench.verdicts.sequential import even_log

COLUMNS, CONTROL_COLUMNS = BLOCKS.columns, CONTROL.columns
# Of one reading: few before each round, many where there is but one reading a launch.
_PASSES, _PASSES_ALONE = 1, 20


class Blocks:
    """Measures blocks, and keeps them in blocks.csv, and the control's readings in control.csv.

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
        self._kept = {(row["case"], row["block"]): row for row in self._on_disk()}
        self._probe = control_probe()
        self._always_disturbed = False

    def holds(self, case: Case, number: int) -> bool:
        """Whether the block is on disk, with the rounds of both launches."""
        return (case.id, number) in self._kept and all(
            record is not None and record.status is Status.OK and len(rounds) >= self._epochs
            for record, rounds in (side.measured(case, number) for side in self._sides.values())
        )

    def measured(self, case: Case, number: int, draw: BlockDraw) -> Block:
        """A block, measured unless it is on disk.

        Args:
            case: of both sides.
            number: from 0; both launches train with the seed of the run plus it.
            draw: which templates serve, and who goes first, in the warm-up and in each pair
                of rounds.

        Raises:
            UserError: the disk is full.
        """
        # Taken before a block on disk is passed over: the draw of an earlier revision goes on
        # from here to the next case.
        firsts = chain([next(draw.firsts)], draw.firsts)
        if self.holds(case, number):
            return self._block(case, number, self._kept[case.id, number])
        order, readings = self._measure(case, number, replace(draw, firsts=firsts))
        forked = self._sides[SIDES[0]].forks(case)
        row = {
            "case": case.id,
            "block": number,
            "first": order[0],
            **{f"template_{side}": draw.templates[side] if forked else None for side in SIDES},
            "order": order,
            **control_cells(order, readings),
        }
        block = self._block(case, number, row)
        if not block.failure:
            self._keep(row, readings)
        return block

    def _block(self, case: Case, number: int, row: Mapping[str, Any]) -> Block:
        """What the launches of a block come to, whose row of blocks.csv is given."""
        launches = {side: self._sides[side].measured(case, number) for side in SIDES}
        failure = _failure(launches, self._epochs)
        if failure:
            return Block(math.nan, None, row["control_log_ratio"], failure)
        (_, a), (_, b) = launches.values()
        accuracies = [rounds[self._epochs - 1].val_accuracy for rounds in (a, b)]
        drop = None
        if accuracies[0] is not None and accuracies[1] is not None:
            drop = accuracies[0] - accuracies[1]
        elif accuracies != [None, None]:
            failure = "the validation accuracy of one side is missing"
            return Block(math.nan, None, row["control_log_ratio"], failure)
        a_s, b_s = ([r.seconds / r.samples for r in rounds] for rounds in (a, b))
        speed = even_log(a_s, b_s, row["order"][1:])
        return Block(speed, drop, row["control_log_ratio"])

    def _measure(self, case: Case, number: int, draw: BlockDraw) -> tuple[str, list[Reading]]:
        """Both launches; again, both of them, where a signal of noise voids one.

        As in a run, the last of `MOST_ATTEMPTS` stands, and until a block is undisturbed again
        no other is repeated.
        """
        most = 1 if self._always_disturbed else MOST_ATTEMPTS
        for left in reversed(range(most)):
            records, order, readings = self._take_turns(case, number, draw)
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
        return order, readings

    def _take_turns(
        self, case: Case, number: int, draw: BlockDraw
    ) -> tuple[dict[str, LaunchRecord], str, list[Reading]]:
        """One attempt of each launch: the first warms up, then the other, then a round of
        each, until both have ended; who was first in each pair, and the control's readings."""
        pauses = self._turns and case.device == "cpu"
        passes = _PASSES if pauses else _PASSES_ALONE
        order, readings = "", []
        records: dict[str, LaunchRecord] = {}
        with ExitStack() as stack:
            running: dict[str, Turns[LaunchRecord]] = {}
            for side in SIDES:
                # Those that are not there yet import side by side.
                self._sides[side].get_ready(case, number, draw.templates[side])
            for side in SIDES:
                template = draw.templates[side]
                attempt = self._sides[side].attempt(case, number, pauses=pauses, template=template)
                running[side] = stack.enter_context(closing(attempt))
            after = ""
            for pair, first in enumerate(draw.firsts):
                if not running:
                    break
                order += first if len(running) == len(SIDES) else ""
                turns = [side for side in (first, *SIDES) if side in running]
                for place, side in enumerate(dict.fromkeys(turns), 1):
                    readings.append(Reading(pair, place, side, after, self._probe(passes)))
                    after = side
                    try:
                        next(running[side])
                    except StopIteration as end:
                        records[side] = end.value
                        del running[side]
        return records, order, readings

    def _on_disk(self) -> list[dict[str, Any]]:
        """The rows of blocks.csv; a file of an earlier revision, or one that another program saved
        again, gets the form of this one."""
        with explained(self._path):
            cut_half_line(self._file)
            cut_half_line(self._path / "control.csv")
        tables = {self._file: BLOCKS, self._path / "control.csv": CONTROL}
        found = {file: read_table(file, schema, grows=True)[0] for file, schema in tables.items()}
        rows: list[dict[str, Any]] = found[self._file]
        refuse_other_control(self._file, rows, self._path / "control.csv")
        for file, schema in tables.items():
            if not in_own_form(file, schema.columns):
                with explained(self._path):
                    write_csv(file, schema.columns, found[file])
        return rows

    def _keep(self, row: Mapping[str, Any], readings: Sequence[Reading]) -> None:
        key = (row["case"], row["block"])
        told = [(*key, *astuple(reading)) for reading in readings]
        # The block last: one that is on disk has its readings there as well.
        self._append(self._path / "control.csv", CONTROL_COLUMNS, told)
        self._append(self._file, COLUMNS, [[row[name] for name in COLUMNS]])
        self._kept[key] = dict(row)

    def _append(self, file: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        with explained(self._path):
            fresh = not file.exists() or not file.stat().st_size
            with file.open("a", newline="", encoding="utf-8") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerows([columns] if fresh else [])
                writer.writerows([as_cell(value) for value in row] for row in rows)


def _failure(launches: Mapping[str, tuple[LaunchRecord | None, list[Round]]], epochs: int) -> str:
    """Why a block says nothing: a launch that did not end well, or other work on one side."""
    for side, (record, rounds) in launches.items():
        if record is None or record.status is not Status.OK:
            why = f"{record.status}: {record.reason}" if record else "it was not measured"
            return f"side {side.upper()} {why}"
        if len(rounds) < epochs:
            return f"side {side.upper()} ended ok with {len(rounds)} rounds of {epochs} epochs"
    work = [[(r.samples, r.updates) for r in rounds[:1]] for _, rounds in launches.values()]
    if work[0] != work[1]:
        return f"A trained {work[0]} samples and updates a round, B {work[1]}"
    return ""
