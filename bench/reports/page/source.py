"""Reads the folders of runs for a page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis.rows import measured_launches
from bench.machine.redact import scrub
from bench.reports import selection
from bench.reports.selection import Point
from bench.schema.bounds import shortened
from bench.schema.ceilings import Ceilings
from bench.schema.columns import Row
from bench.schema.launch import Status, StoredRound
from bench.schema.runs import MeasuredRun
from bench.store.filetypes import PHASES, Profiled
from bench.store.measured import is_run, run_folders
from bench.store.named import named_runs
from bench.store.reader import kind_of, read_json_lines, read_table
from bench.store.run_folder import RunFolder
from fmnist_models.errors import UserError

PROFILE_COLUMNS = ("case", "phase", "share", "seconds_per_step")
# The largest rounding error of the sum of a case's shares.
_SHARES = 1e-6
# Options that are left out of the command that repeats a run, because they name its folder.
_OF_ONE_FOLDER = ("--output", "--fmnist-output", "--resume")
# What is read of a round for its case's point (`bench.reports.selection`).
_OF_A_POINT = ("samples", "seconds", "val_score")


@dataclass(frozen=True, slots=True)
class Source:
    """One run as the page needs it.

    Attributes:
        name: its label where no other run has it, else its folder's name.
        run: its rows and its environment.
        rounds: (place in rounds.csv, round) of the rounds that count, in the file's order.
        points: the measured cases as the pictures show them, by case.
        ceilings: the machine's ceilings.
        command: the command line that repeats the run, without its folder; empty where not known.
    """

    name: str
    run: MeasuredRun
    rounds: tuple[tuple[int, StoredRound], ...]
    points: Mapping[str, Point]
    ceilings: tuple[Ceilings, ...]
    command: str

    @property
    def rows(self) -> list[Row]:
        """The rows of results.csv, in order."""
        return list(self.run.rows.values())


@dataclass(frozen=True, slots=True)
class Profile:
    """The rows of a profile.csv with the keys `PROFILE_COLUMNS`.

    Attributes:
        name: name of its folder.
        measured: date and revision, as far as its environment.json has them.
    """

    name: str
    measured: str
    rows: tuple[Mapping[str, Any], ...]


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """The runs in these folders, or below them where they hold several.

    Folders with a profile and no run are ignored here; `read_profiles` reads them.

    Raises:
        UserError: a folder holds neither, or a run without a case, a file cannot be read, or
            one run is named twice.
    """
    runs = [path for path in paths if not _holds_a_profile(path)]
    if paths and not runs:
        raise UserError(f"{paths[0]} holds a profile: name the folder of a run beside it")
    folders = [folder for path in runs for folder in _folders(path)]
    return [_read(name, run) for name, run in named_runs(folders).items()]


def read_profiles(paths: Sequence[Path]) -> list[Profile]:
    """The profiles in these folders, or below them.

    Raises:
        UserError: a profile.csv cannot be read.
    """
    return [
        Profile(folder.resolve().name, _measured(folder), _profile(folder / "profile.csv"))
        for path in paths
        for folder in _folders(path)
        if kind_of(folder / "profile.csv")
    ]


def _holds_a_profile(path: Path) -> bool:
    """Whether the folder holds a profile and no run."""
    return kind_of(path / "profile.csv") is not None and not is_run(path)


def _folders(path: Path) -> list[Path]:
    if kind_of(path) == "folder" and not is_run(path):
        return run_folders(path) or [path]
    return [path]


def _read(name: str, run: MeasuredRun) -> Source:
    if not run.rows:
        raise UserError(f"{run.path}: results.csv holds no case, so there is nothing to report")
    if run.whole is None:
        raise UserError(f"{run.path} holds several runs: name each")
    whole = run.whole()
    stored = whole.rounds
    counted = {
        (record.case, record.launch, record.attempt)
        for launches in measured_launches(whole.launches, stored).values()
        for record, _ in launches
    }
    rounds = tuple(
        (place, round_)
        for place, round_ in enumerate(stored, 1)
        if (round_.case, round_.launch, round_.attempt) in counted
    )
    plan = whole.plan
    command = _command(plan.command if plan else "")
    return Source(name, run, rounds, _points(run, rounds), tuple(whole.ceilings), command)


def _points(run: MeasuredRun, rounds: Sequence[tuple[int, StoredRound]]) -> dict[str, Point]:
    by_case: dict[str, list[Row]] = {}
    for _, stored in rounds:
        # Only what `selection.points` reads: all fields of 50,000 rounds take seconds.
        own = {"case": stored.case, "launch": stored.launch, "attempt": stored.attempt}
        timed = {name: getattr(stored.round, name) for name in _OF_A_POINT}
        by_case.setdefault(stored.case, []).append(own | timed)
    found = {}
    for case, row in run.rows.items():
        for point in selection.points([row], by_case.get(case, [])):
            found[case] = point
    return found


def _command(command: str) -> str:
    """The command of plan.json, without the options of its folder and without private paths."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in _OF_ONE_FOLDER:
            next(rest, None)
        elif word.partition("=")[0] not in _OF_ONE_FOLDER:
            kept.append(scrub(word))
    return shlex.join(kept)


def _measured(folder: Path) -> str:
    environment = RunFolder(folder).environment() or {}
    git = environment.get("git") or {}
    parts = [str(environment.get("time_utc") or "")[:10]]
    parts += [f"revision {str(git['revision'])[:9]}"] if git.get("revision") else []
    return ", ".join(filter(None, parts))


def _profiled(file: Path) -> list[str]:
    """The cases in profiles.jsonl; empty where there is no such file."""
    return [record["case"].id for record in read_json_lines(file, Profiled)]


def _profile(file: Path) -> tuple[Mapping[str, Any], ...]:
    """The rows of profile.csv with a share; a failed case has none.

    Raises:
        UserError: a share is missing, or the shares of a case do not add up to 1.
    """
    rows, cells = read_table(file, PHASES)
    shares: dict[str, float] = {}
    for line, row in zip(cells.lines, rows, strict=True):
        failed = row["status"] not in (None, Status.OK) or not row["phase"]
        if (row["share"] is None) != failed:
            wanted = "must be empty, for the case failed" if failed else "must be a number"
            raise cells.refused(line, ["share"], shortened(row["share"]), wanted)
        if not failed:
            shares[row["case"]] = shares.get(row["case"], 0.0) + row["share"]
    told = {row["case"] for row in rows}
    for case in _profiled(file.with_name("profiles.jsonl")):
        if case not in told:
            raise UserError(f"{file}: the rows of {case} were lost: {cells.remedy}")
    for case, total in shares.items():
        if not math.isclose(total, 1.0, abs_tol=_SHARES):
            raise UserError(
                f"{file}: the shares of {case} come to {total:.6g} and not to 1: rows were lost "
                f"or changed; {cells.remedy}"
            )
    return tuple(
        {name: row[name] for name in (*PROFILE_COLUMNS, "step_s")}
        for row in rows
        if row["share"] is not None
    )
