"""Finished runs as `compare` and `check` read them: what was measured, and on what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from bench import stats
from bench.case import SKLEARN_LOOP, Case
from bench.compatibility import (
    Purpose,
    refuse_copies,
    refuse_other_machine,
    refuse_other_work,
)
from bench.errors import UserError
from bench.record import Status
from bench.results import measured_launches
from bench.store import RunFolder

Row = Mapping[str, Any]
# results.csv is derived from rounds.csv by the same sums; more is another file's figure.
_SAME_FIGURE = 1e-9


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One folder of results, read.

    Attributes:
        rows: the rows of results.csv by case, in their order.
        logs: by case that ended ok, the log seconds per sample of each launch, or of each
            run where it stands for several.
        unit: what one of the `logs` is.
    """

    path: Path
    environment: Mapping[str, Any]
    rows: Mapping[str, Row]
    logs: Mapping[str, tuple[float, ...]]
    unit: Literal["launch", "run"] = "launch"

    @property
    def label(self) -> str:
        """The user's word for the set-up; empty where there is none."""
        return str(self.environment.get("label") or "")

    @property
    def time_utc(self) -> str:
        """When the run began, ISO 8601; empty where not known."""
        return str(self.environment.get("time_utc") or "")

    def run_log(self, case: str) -> float:
        """Log seconds per sample of `case` in this run: the mean over its launches."""
        return fmean(self.logs[case])


def read_run(path: Path) -> MeasuredRun:
    """The run in the folder `path`.

    Raises:
        UserError: no run is there, a file is cut short, or results.csv does not follow
            from rounds.csv.
    """
    folder = RunFolder(path)
    rows = {row["case"]: row for row in folder.results()}
    measured = measured_launches(folder.launches(), folder.rounds())
    logs = {}
    for case, row in rows.items():
        if row["status"] != Status.OK:
            continue
        launches = [
            ([r.samples for r in rounds], [r.seconds for r in rounds])
            for _, rounds in measured.get(case, [])
        ]
        if not launches or not all(samples for samples, _ in launches):
            raise _disagree(path, case)
        logs[case] = tuple(stats.launch_log(*launch) for launch in launches)
        speed = math.exp(-fmean(logs[case]))
        same = math.isclose(speed, row["samples_per_s"] or 0.0, rel_tol=_SAME_FIGURE)
        if not same or len(launches) != row["launches"]:
            raise _disagree(path, case)
    return MeasuredRun(path, folder.environment() or {}, rows, logs)


def run_folders(path: Path) -> list[Path]:
    """The runs that a folder of runs holds, by name.

    Raises:
        UserError: there is no such folder.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: name one that holds runs")
    return sorted(file.parent for file in path.glob("*/results.csv"))


def read_runs(path: Path) -> list[MeasuredRun]:
    """The runs of the folder of runs `path`, the earliest first.

    Raises:
        UserError: there is no such folder, a run cannot be read, or two are the same.
    """
    runs = sorted(map(read_run, run_folders(path)), key=lambda run: run.time_utc)
    refuse_copies(runs)
    return runs


def read_machine(path: Path) -> MeasuredRun:
    """The run in the folder `path`, or the runs of one machine in it taken as one.

    Of several runs only the cases that ended ok in all of them count; a figure is the mean
    over the runs (of logs for throughput).

    Raises:
        UserError: neither is there, a run cannot be read, or two are the same.
        NotComparable: the runs are of different machines, data sets or epochs.
    """
    if (path / "results.csv").exists() or not path.is_dir() or not run_folders(path):
        return read_run(path)
    runs = read_runs(path)
    refuse_other_machine(runs)
    refuse_other_work(runs, Purpose.COMPARE)
    first = runs[0]
    rows: dict[str, Row] = {}
    logs: dict[str, tuple[float, ...]] = {}
    for case in dict.fromkeys(case for run in runs for case in run.rows):
        own = [run.rows[case] for run in runs if case in run.rows]
        if all(case in run.logs for run in runs):
            logs[case] = tuple(run.run_log(case) for run in runs)
            accuracies = [row["val_accuracy"] for row in own]
            rows[case] = {
                **own[0],
                "samples_per_s": math.exp(-fmean(logs[case])),
                "val_accuracy": None if None in accuracies else fmean(accuracies),
            }
        elif len(own) == len(runs):
            rows[case] = next(row for row in own if row["status"] != Status.OK)
    return MeasuredRun(path, first.environment, rows, logs, "run")


def across_threads(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """The same runs, their cases named without the number of threads where that is a fact of
    the set-up rather than an axis: each run has one number throughout, and they differ."""
    numbers = [threads_of(run) for run in runs]
    if any(len(own) != 1 for own in numbers) or len(set(numbers)) == 1:
        return list(runs)
    found = []
    for run in runs:
        names = {case: _without_threads(case, row) for case, row in run.rows.items()}
        rows = {names[case]: {**row, "case": names[case]} for case, row in run.rows.items()}
        logs = {names[case]: logs for case, logs in run.logs.items()}
        found.append(replace(run, rows=rows, logs=logs))
    return found


def threads_of(run: MeasuredRun) -> tuple[int | None, ...]:
    """The numbers of threads that the networks of a run were trained with, None being the
    default."""
    return tuple(
        dict.fromkeys(row["threads"] for row in run.rows.values() if row["loop"] != SKLEARN_LOOP)
    )


def _without_threads(case: str, row: Row) -> str:
    if row["threads"] is None:
        return case
    return Case(**{f.name: row[f.name] for f in fields(Case) if f.name != "threads"}).id


def _disagree(path: Path, case: str) -> UserError:
    return UserError(
        f"{path}: results.csv and rounds.csv disagree about {case}: one was cut short or "
        f"changed; fmnist-bench run --resume {path} mends it"
    )
