"""Measures the blocks of a duel: one fresh launch of each side, alternating round by round.

The load of other processes changes within seconds, so two launches one after the other run under
different conditions. Alternating rounds run under the same. Where launches cannot alternate, they
run one after the other: on a GPU, whose memory one process takes, and with workers of an earlier
revision.
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
from bench.schema.plan import RunSettings
from bench.session.attempts import MOST_ATTEMPTS
from bench.session.control import Reading, control_cells, control_probe, refuse_other_control
from bench.session.duel_side import DuelSide
from bench.store.filetypes import BLOCKS, CONTROL
from bench.store.reader import read_table
from bench.store.tables import cut_half_line, in_own_form, write_csv
from bench.verdicts.sequential import even_log
from bench.verdicts.work import first_row_of, other_score, other_work, row_of

# The last attempt of a launch and its rounds; None where there is none.
Launch = tuple[LaunchRecord | None, list[Round]]
# A launch that has ended.
EndedLaunch = tuple[LaunchRecord, list[Round]]
COLUMNS, CONTROL_COLUMNS = BLOCKS.columns, CONTROL.columns
# Passes of one control reading: few before each round, many where a launch has one reading only.
_PASSES, _PASSES_ALONE = 1, 20


class Blocks:
    """Measures blocks; writes them to blocks.csv, and the control's readings to control.csv.

    Args:
        path: the duel's folder.
        sides: the run of each side, by name.
        settings: of the duel; the last of a case's documented epochs gives its score.
        on_void: called with the case and the reason of a block that is measured again.
        turns: alternate the rounds where that is possible; False measures one launch after the
            other.
        other_work: of a launch of A and one of B, why they cannot be compared; empty where they
            can.
    """

    def __init__(
        self,
        path: Path,
        sides: Mapping[str, DuelSide],
        settings: RunSettings,
        on_void: Callable[[Case, str], None] = lambda *_: None,
        *,
        turns: bool = True,
        other_work: Callable[[EndedLaunch, EndedLaunch], str] | None = None,
    ) -> None:
        self._on_void = on_void
        self._turns = turns
        self._path = path
        self._file = path / "blocks.csv"
        self._sides = sides
        self._settings = settings
        self._other_work = other_work or same_work
        self._kept = {(row["case"], row["block"]): row for row in self._on_disk()}
        self._probe = control_probe()
        self._always_disturbed = False

    def holds(self, case: Case, number: int) -> bool:
        """Whether the block is on disk, with the rounds of both launches."""
        epochs = self._settings.epochs_of(case)
        return (case.id, number) in self._kept and all(
            record is not None and record.status is Status.OK and len(rounds) >= epochs
            for record, rounds in (side.measured(case, number) for side in self._sides.values())
        )

    def measured(self, case: Case, number: int, draw: BlockDraw) -> Block:
        """A block, from disk or measured now.

        Args:
            case: the case, the same for both sides.
            number: number of the block, from 0; both launches train with the run's seed plus it.
            draw: the templates, and the side that goes first in the warm-up and in each pair of
                rounds.

        Raises:
            UserError: the files cannot be written, such as where the disk is full.
        """
        # Drawn even where the block is on disk: the random numbers of an earlier revision's draw
        # continue from here to the next case.
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
        """The result of a block, from its launches and its row of blocks.csv."""
        launches = {side: self._sides[side].measured(case, number) for side in SIDES}
        epochs = self._settings.epochs_of(case)
        failure = _failure(launches, epochs)
        if failure:
            return Block(math.nan, None, row["control_log_ratio"], failure)
        (judged, a), (other, b) = launches.values()
        assert judged is not None
        assert other is not None
        failure = self._other_work((judged, a), (other, b))
        if failure:
            return Block(math.nan, None, row["control_log_ratio"], failure)
        scores = a[epochs - 1].val_score, b[epochs - 1].val_score
        failure = _no_score(judged.score, scores)
        if failure:
            return Block(math.nan, None, row["control_log_ratio"], failure)
        known = None if scores[0] is None or scores[1] is None else (scores[0], scores[1])
        a_s, b_s = ([r.seconds / r.samples for r in rounds] for rounds in (a, b))
        speed = even_log(a_s, b_s, row["order"][1:])
        return Block(speed, known, row["control_log_ratio"], "", judged.score, str(judged.better))

    def _measure(self, case: Case, number: int, draw: BlockDraw) -> tuple[str, list[Reading]]:
        """Measure both launches; measure both again where one was disturbed.

        As in a run, the last of `MOST_ATTEMPTS` counts, and no other block is repeated until one
        is undisturbed.
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
        """Measure one attempt of each launch: both warm up, then their rounds alternate.

        Returns:
            the records by side, the side that was first in each pair, and the control's readings.
        """
        pauses = self._turns and case.device == "cpu"
        passes = _PASSES if pauses else _PASSES_ALONE
        order, readings = "", []
        records: dict[str, LaunchRecord] = {}
        with ExitStack() as stack:
            running: dict[str, Turns[LaunchRecord]] = {}
            for side in SIDES:
                # Missing templates import in parallel.
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
        """The rows of blocks.csv.

        A file of an earlier revision, or one that another program saved again, is rewritten in
        the present form.
        """
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
        # The block last, so that a block on disk always has its readings.
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


def _no_score(name: str, scores: Sequence[float | None]) -> str:
    """Why two scores cannot be compared; empty where they can, or where there are none."""
    for side, score in zip(SIDES, scores, strict=True):
        if score is not None and not math.isfinite(score):
            return f"the validation {name} of side {side.upper()} is {score:g}"
    known = [score is not None for score in scores]
    return f"the validation {name} of one side is missing" if known[0] != known[1] else ""


def _failure(launches: Mapping[str, Launch], epochs: int) -> str:
    """Why a block gives no result: a launch did not end ok, or the sides did different work."""
    for side, (record, rounds) in launches.items():
        if record is None or record.status is not Status.OK:
            why = f"{record.status}: {record.reason}" if record else "it was not measured"
            return f"side {side.upper()} {why}"
        if len(rounds) < epochs:
            return f"side {side.upper()} ended ok with {len(rounds)} rounds of {epochs} epochs"
    return ""


def same_work(a: EndedLaunch, b: EndedLaunch) -> str:
    """In what a launch of B did other work than one of A; empty where their times compare."""
    work = [[(r.samples, r.updates) for r in rounds[:1]] for _, rounds in (a, b)]
    if work[0] != work[1]:
        return f"A trained {work[0]} samples and updates a round, B {work[1]}"
    said = other_work(first_row_of(b[0]), first_row_of(a[0]))
    return f"B {said} than A" if said else ""


def same_score(a: EndedLaunch, b: EndedLaunch) -> str:
    """In what a launch of B was judged otherwise than one of A; empty where scores compare."""
    said = other_score(row_of(b[0]), row_of(a[0]))
    return f"B {said} than A" if said else ""
