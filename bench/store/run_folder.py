"""A run's folder: measurements are written at once, and never changed afterwards.

plan.json          the cases and settings that `--resume` finishes
environment.json   machine and software
rounds.csv         one row per round, appended when the round ends
launches.jsonl     one line per launch, appended when the launch ends
results.csv        one row per case, computed from the two above, replaced when they grow
find_batch.csv     one row per try of --find-batch
proof.json         what reading the finished run found (`bench.store.proof`)
logs/              what a launch printed, kept where it did not end ok
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from bench.schema.ceilings import Ceilings
from bench.schema.cells import as_cell, csv_text, result_line
from bench.schema.columns import RESULT_COLUMNS, ROUND_COLUMNS
from bench.schema.earlier import as_written
from bench.schema.errors import ELSEWHERE, explained
from bench.schema.launch import LaunchRecord, Round, Status, StoredRound
from bench.schema.plan import PLAN_VERSION, Plan
from bench.schema.requests import LaunchRequest
from bench.schema.score import ACCURACY
from bench.schema.tries import TRY_COLUMNS, BatchTry
from bench.store.files import (
    clear_leftovers,
)
from bench.store.filetypes import RESULTS, ROUNDS, Environment
from bench.store.reader import (
    COPY,
    Cells,
    kind_of,
    read_cells,
    read_json,
    read_json_lines,
    read_table,
    read_text,
)
from bench.store.tables import (
    cut_half_line,
    encoded,
    in_own_form,
    write_csv,
    write_json,
    write_text,
)
from bench.store.taken import refuse_taken
from fmnist_models.errors import UserError


class RunFolder:
    """One folder of results, being written or read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self._sizes: dict[str, int] = {}

    @classmethod
    def create(cls, path: Path, plan: Plan, environment: Mapping[str, Any] | None = None) -> Self:
        """Create a new run's folder.

        plan.json is written last, so that a kill leaves no folder that looks like a run. Files
        that such a kill left are replaced.

        Raises:
            UserError: the folder already holds a run or another program's files, or cannot be
                written.
        """
        refuse_taken(path)
        folder = cls(path)
        with explained(path, ELSEWHERE):
            folder.logs.mkdir(parents=True, exist_ok=True)
            clear_leftovers(path)
            if environment is not None:
                write_json(path / "environment.json", environment)
            write_json(path / "plan.json", plan.to_json())
        return folder

    @classmethod
    def resume(cls, path: Path) -> tuple[Self, Plan]:
        """Open the folder of a run that is to be resumed; returns it with its plan.

        Half-written last lines are cut off, and a rounds.csv that another program saved again is
        rewritten in the suite's form. So no other run may be writing to the folder.

        Raises:
            UserError: the folder holds no run, or its plan or its rounds cannot be read.
        """
        folder, plan = cls(path), read_plan(path)
        with explained(path):
            folder.logs.mkdir(exist_ok=True)
            clear_leftovers(path)
            cut_half_line(path / "rounds.csv")
            cut_half_line(path / "launches.jsonl")
            if not in_own_form(path / "rounds.csv", ROUND_COLUMNS):
                rows = [{**asdict(s), **s.round.to_json()} for s in folder.rounds()]
                write_csv(path / "rounds.csv", ROUND_COLUMNS, rows)
        return folder, plan

    def append_round(self, request: LaunchRequest, round_: Round) -> StoredRound:
        """Append a round to rounds.csv."""
        stored = StoredRound(request.case.id, request.launch, request.attempt, round_)
        values = {**asdict(stored), **round_.to_json()}
        row = [as_cell(values[name]) for name in ROUND_COLUMNS]
        self._append("rounds.csv", csv_text([row]), csv_text([ROUND_COLUMNS]))
        return stored

    def append_launch(self, record: LaunchRecord) -> None:
        """Append the record of an ended launch to launches.jsonl."""
        line = json.dumps(record.to_json(), ensure_ascii=False) + "\n"
        self._append("launches.jsonl", line)

    def _append(self, name: str, text: str, header: str = "") -> None:
        """Append to a file, with the header where it is empty.

        Raises:
            UserError: another program changed the file since the last append, or it cannot be
                written.
        """
        file = self.path / name
        with explained(self.path), file.open("ab") as out:
            size = out.tell()
            if size != self._sizes.get(name, size):
                raise UserError(
                    f"{file} was changed or removed while the run went on, and what it held is "
                    "not all there: leave the folder alone, and measure again into another"
                )
            out.write(encoded(text if size else header + text))
            self._sizes[name] = out.tell()

    def plan(self) -> Plan | None:
        """The run's plan; None where there is no plan.json.

        Raises:
            UserError: it cannot be read, holds a wrong value, or is of a later version.
        """
        found = read_json(self.path / "plan.json", Plan, newest=PLAN_VERSION)
        return None if found is None else found[0]

    def rounds(self) -> list[StoredRound]:
        """Every round on disk, in order.

        Raises:
            UserError: a line cannot be read; the message names it.
        """
        cells = read_cells(self.path / "rounds.csv", ROUNDS, self._again(), grows=True)
        values = [
            {"case": row["case"], "launch": row["launch"], "attempt": row["attempt"], "round": row}
            for row in cells.rows
        ]
        stored = cells.typed(values, StoredRound)
        columns = ("train_score", "val_score")
        outside = [
            (number, scores)
            for number, one in enumerate(stored)
            if (scores := {name: getattr(one.round, name) for name in columns})
            and not all(value is None or 0 <= value <= 1 for value in scores.values())
        ]
        names = self._scores() if outside else {}
        for number, scores in outside:
            one = stored[number]
            # Of a launch that has not ended ok, only the user's own model may have another score.
            unknown = "" if ":" in one.case else ACCURACY
            if names.get((one.case, one.launch, one.attempt), unknown) == ACCURACY:
                cells.refuse_no_share(number, columns, scores)
        return stored

    def _scores(self) -> dict[tuple[str, int, int], str]:
        """The name of the score of each launch that ended ok; others did not tell it."""
        ok = (r for r in self.launches() if r.status is Status.OK)
        return {(r.case, r.launch, r.attempt): r.score for r in ok}

    def launches(self) -> list[LaunchRecord]:
        """Every launch on disk, in order.

        Raises:
            UserError: a line cannot be read, or is of the same attempt as an earlier one; the
                message names the line.
        """
        file = self.path / "launches.jsonl"
        records = read_json_lines(file, LaunchRecord, self._again())
        seen: dict[tuple[str, int, int], int] = {}
        for number, record in enumerate(records, 1):
            self._refuse_no_accuracy(file, number, record)
            key = (record.case, record.launch, record.attempt)
            if key in seen:
                raise UserError(
                    f"{file} line {number} is of {record.case}, launch {record.launch}, attempt "
                    f"{record.attempt}, as line {seen[key]} is: take one of them out"
                )
            seen[key] = number
        return records

    def _refuse_no_accuracy(self, file: Path, number: int, record: LaunchRecord) -> None:
        """Refuse the line of a launch whose accuracy on the test data is not between 0 and 1."""
        score = record.test_score
        if record.score != ACCURACY or score is None or 0 <= score <= 1:
            return
        line = (read_text(file) or "").split("\n")[number - 1]
        (name,) = as_written(["test_score"], json.loads(line))
        wanted = f"must be a number {'<= 1' if score > 1 else '>= 0'}"
        raise UserError(f"{file} line {number}, {name}: {score:g} {wanted}: {self._again()}")

    def _again(self) -> str:
        if kind_of(self.path / "plan.json") is None:
            return COPY
        return (
            f"{COPY}, or take the line out, and fmnist-bench run --resume {self.path} measures "
            "its launch again"
        )

    def write_results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace results.csv in one move."""
        self.write_result_lines(map(result_line, rows))

    def write_result_lines(self, lines: Iterable[str]) -> None:
        """Replace results.csv in one move by lines that `result_line` made."""
        with explained(self.path):
            text = "".join((csv_text([RESULT_COLUMNS]), *lines))
            write_text(self.path / "results.csv", text)

    def results(self) -> list[dict[str, Any]]:
        """The rows of results.csv as typed values; an empty cell is None, or "" for text.

        Raises:
            UserError: the file is missing or is not a results.csv, or a cell has a wrong value;
                the message names file, line and column.
        """
        return self.results_cells()[0]

    def results_cells(self) -> tuple[list[dict[str, Any]], Cells]:
        """The rows as of `results`, and the cells that they were read from."""
        file = self.path / "results.csv"
        if not self.holds_results():
            refuse_absent(self.path)
            raise UserError(f"{self.path} holds no results.csv: name the folder of a run")
        rows, cells = read_table(file, RESULTS, self.derived_again())
        columns = ("train_score", "val_score", "test_score", "score_target")
        for number, row in enumerate(rows):
            # In a file of an earlier version each score is an accuracy.
            if row["score"] == ACCURACY or "score" not in cells.columns:
                cells.refuse_no_share(number, columns, row)
        return rows, cells

    def write_tries(self, tries: Iterable[BatchTry]) -> None:
        """Write find_batch.csv, the tries of `--find-batch`."""
        with explained(self.path):
            write_csv(self.path / "find_batch.csv", TRY_COLUMNS, map(asdict, tries))

    def holds_results(self) -> bool:
        """Whether there is a results.csv."""
        return kind_of(self.path / "results.csv") is not None

    def derived_again(self) -> str:
        """The remedy where results.csv was changed, as the end of an error message."""
        if kind_of(self.path / "plan.json") is None:
            return COPY
        return f"{COPY}, or delete it, for its rows follow from the run's other files"

    def environment(self) -> dict[str, Any] | None:
        """The contents of environment.json; None where there is none.

        Raises:
            UserError: it cannot be read or holds a wrong value; the message names the value.
        """
        found = self._environment()
        return None if found is None else dict(found[1])

    def ceilings(self) -> list[Ceilings]:
        """The machine's ceilings in environment.json, in order.

        Raises:
            UserError: it cannot be read or holds a wrong value; the message names the value.
        """
        return self.described()[1]

    def described(self) -> tuple[dict[str, Any] | None, list[Ceilings]]:
        """The results of `environment` and `ceilings`, with the file read once."""
        found = self._environment()
        return (None, []) if found is None else (dict(found[1]), found[0].get("ceilings", []))

    def _environment(self) -> tuple[Environment, Any] | None:
        return read_json(self.path / "environment.json", Environment)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Replace environment.json in one move."""
        with explained(self.path):
            write_json(self.path / "environment.json", environment)


def copy_run(source: Path, target: Path) -> None:
    """Copy the files of a run into a new or empty folder.

    Raises:
        UserError: the folder holds files, or cannot be written.
    """
    if kind_of(target) not in (None, "folder") or (target.is_dir() and any(target.iterdir())):
        raise UserError(f"{target} is there already, and not empty: name another folder")
    with explained(target, ELSEWHERE):
        shutil.copytree(source, target, dirs_exist_ok=True)


def refuse_absent(path: Path) -> None:
    """Refuse a path at which there is nothing, because it is most often mistyped.

    Raises:
        UserError: there is nothing at `path`.
    """
    if kind_of(path) is None:
        raise UserError(f"{path}: there is no such folder: name the folder of a run")


def read_plan(path: Path) -> Plan:
    """The plan of the run in the folder `path`; nothing there is changed.

    Raises:
        UserError: the folder holds no run, or its plan cannot be read.
    """
    plan = RunFolder(path).plan()
    if plan is None:
        refuse_absent(path)
        raise UserError(f"{path} holds no run to resume: plan.json is missing; name a run's folder")
    return plan
