"""A run's folder: what was measured goes to disk as it comes, and is never changed.

plan.json          the cases and settings that `--resume` finishes
environment.json   machine and software
rounds.csv         a row a round, appended when the round ends
launches.jsonl     a line a launch, appended when the launch ends
results.csv        a row a case, derived from the two above, replaced as they grow
logs/              what a launch printed, kept where it did not end well
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from bench.case import Case
from bench.errors import UserError
from bench.record import (
    LATER_COLUMNS,
    RESULT_COLUMNS,
    ROUND_COLUMNS,
    LaunchRecord,
    LaunchRequest,
    Round,
    RunSettings,
)
from bench.roofline import Ceilings

PLAN_VERSION = 1
_TEXT_COLUMNS = frozenset(
    ("case", "status", "reason", "model", "optimizer", "loop", "backend", "device")
) | frozenset(
    (
        "device_name",
        "precision",
        "bound",
        "energy_covers",
        "warnings",
        "first",
        "order",
        "side",
        "after",
    )
)
# What helps where a folder cannot be written: a new one, and one that holds something already.
ELSEWHERE = "name another --output"
RESUME = "what was measured so far is kept there: make room, then --resume"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to measure.

    Attributes:
        matrix: name of the matrix that the cases came from.
        command: the words that repeat the run.
    """

    cases: tuple[Case, ...]
    settings: RunSettings
    matrix: str = ""
    label: str | None = None
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {"version": PLAN_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The plan that `to_json` wrote."""
        fields = {k: v for k, v in values.items() if k != "version"}
        fields["cases"] = tuple(Case(**case) for case in values["cases"])
        fields["settings"] = RunSettings(**values["settings"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A `Round` with the launch that it belongs to."""

    case: str
    launch: int
    attempt: int
    round: Round


class RunFolder:
    """One folder of results, being written or read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Self:
        """A new run's folder.

        Raises:
            UserError: the folder holds a run already, or cannot be written.
        """
        if (path / "plan.json").exists():
            raise UserError(
                f"{path} already holds a run: name another --output, or finish it with "
                f"--resume {path}"
            )
        folder = cls(path)
        with explained(path, ELSEWHERE):
            folder.logs.mkdir(parents=True, exist_ok=True)
            write_json(path / "plan.json", plan.to_json())
        return folder

    @classmethod
    def resume(cls, path: Path) -> tuple[Self, Plan]:
        """A run's folder and what it was to measure; half-written last lines are cut off.

        Raises:
            UserError: the folder holds no run, or its plan cannot be read.
        """
        try:
            plan = Plan.from_json(json.loads((path / "plan.json").read_text("utf-8")))
        except FileNotFoundError:
            raise UserError(f"{path} holds no run to resume: plan.json is missing") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, UserError) as error:
            raise UserError(f"{path / 'plan.json'} cannot be read: {error}") from error
        folder = cls(path)
        with explained(path):
            folder.logs.mkdir(exist_ok=True)
            cut_half_line(path / "rounds.csv")
            cut_half_line(path / "launches.jsonl")
        return folder, plan

    def append_round(self, request: LaunchRequest, round_: Round) -> StoredRound:
        """Put a round on disk."""
        stored = StoredRound(request.case.id, request.launch, request.attempt, round_)
        values = {**asdict(stored), **round_.to_json()}
        file = self.path / "rounds.csv"
        with explained(self.path):
            header = () if file.exists() and file.stat().st_size else (ROUND_COLUMNS,)
            rows = [*header, [as_cell(values[name]) for name in ROUND_COLUMNS]]
            with file.open("a", newline="", encoding="utf-8") as out:
                csv.writer(out, lineterminator="\n").writerows(rows)
        return stored

    def append_launch(self, record: LaunchRecord) -> None:
        """Put the end of a launch on disk."""
        file = self.path / "launches.jsonl"
        with explained(self.path), file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(record.to_json(), ensure_ascii=False) + "\n")

    def rounds(self) -> list[StoredRound]:
        """Every round on disk, in order.

        Raises:
            UserError: a line cannot be read; the message names it.
        """
        rounds = []
        for number, row in enumerate(read_csv(self.path / "rounds.csv", ROUND_COLUMNS), 2):
            try:
                own = {name: row.pop(name) for name in ("case", "launch", "attempt")}
                rounds.append(StoredRound(**own, round=Round(**row)))
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"{self.path / 'rounds.csv'} line {number} cannot be read: {error}"
                ) from error
        return rounds

    def launches(self) -> list[LaunchRecord]:
        """Every launch on disk, in order.

        Raises:
            UserError: a line cannot be read; the message names it.
        """
        file = self.path / "launches.jsonl"
        if not file.exists():
            return []
        records = []
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            try:
                records.append(LaunchRecord.from_json(json.loads(line)))
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{file} line {number} cannot be read: {error}") from error
        return records

    def write_results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace results.csv in one move."""
        with explained(self.path):
            write_csv(self.path / "results.csv", RESULT_COLUMNS, rows)

    def results(self) -> list[dict[str, Any]]:
        """The rows of results.csv as typed values; an empty cell is None.

        Raises:
            UserError: the file is missing or is not a results.csv.
        """
        file = self.path / "results.csv"
        if not file.exists():
            raise UserError(f"{self.path} holds no results.csv: name the folder of a run")
        return read_csv(file, RESULT_COLUMNS, later=LATER_COLUMNS)

    def environment(self) -> dict[str, Any] | None:
        """What environment.json holds; None where there is none."""
        try:
            return dict(json.loads((self.path / "environment.json").read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / 'environment.json'} cannot be read: {error}") from error

    def ceilings(self) -> list[Ceilings]:
        """What environment.json holds of the machine's ceilings, in order.

        Raises:
            UserError: an entry cannot be read.
        """
        try:
            found = (self.environment() or {}).get("ceilings", [])
            return [Ceilings.from_json(values) for values in found]
        except (TypeError, AttributeError) as error:
            raise UserError(
                f"{self.path / 'environment.json'}: its ceilings cannot be read: {error}"
            ) from error

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Replace environment.json in one move."""
        with explained(self.path):
            write_json(self.path / "environment.json", environment)


def read_csv(
    file: Path, columns: Iterable[str], later: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The rows of a CSV file of this suite as typed values; [] where there is no file.

    Args:
        file: written by `RunFolder`.
        columns: those that are wanted, in any order of the file's.
        later: columns that files of an earlier version lack; there their cells are empty.

    Raises:
        UserError: a column is missing or a row is cut short.
    """
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        # Not DictReader, which takes twice as long over the rounds of ten runs.
        reader = csv.reader(lines)
        here = {name: place for place, name in enumerate(next(reader, ()))}
        missing = [name for name in columns if name not in here and name not in later]
        if missing:
            raise UserError(f"{file} has no column {missing[0]!r}: it is not a file of this suite")
        wanted = [(name, here[name], name in _TEXT_COLUMNS) for name in columns if name in here]
        absent = {name: "" if name in _TEXT_COLUMNS else None for name in columns}
        rows = []
        for row in filter(None, reader):
            if len(row) != len(here):
                raise UserError(f"{file} line {reader.line_num} is cut short or too long")
            values = {n: row[place] if text else from_cell(row[place]) for n, place, text in wanted}
            rows.append({**absent, **values})
    return rows


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a CSV file in one move; each row has the keys `columns`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([as_cell(row[name]) for name in columns] for row in rows)
    write_text(file, text.getvalue())


def as_cell(value: Any) -> str:
    """A value as CSV holds it: shortest digits that give the same float again, SI units."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def from_cell(cell: str) -> Any:
    """The value, other than text, that `as_cell` wrote."""
    if cell in ("", "true", "false"):
        return {"": None, "true": True, "false": False}[cell]
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def write_json(file: Path, value: Any) -> None:
    """Replace a JSON file in one move."""
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Replace a file in one move, so that a crash never leaves half of it."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def cut_half_line(file: Path) -> None:
    """Take away what a killed process left of its last line."""
    if not file.exists():
        return
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with file.open("r+b") as out:
            out.truncate(len(whole))


@contextlib.contextmanager
def explained(path: Path, remedy: str = RESUME) -> Iterator[None]:
    """A full disk or a read-only folder is one line; what is on disk stays there."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}; {remedy}") from error
