"""A baseline: a folder of runs, to which only `fmnist-bench baseline` adds or takes away."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.compatibility import (
    Purpose,
    refuse_copies,
    refuse_other_machine,
    refuse_other_work,
)
from bench.errors import UserError
from bench.record import Status
from bench.runs import MeasuredRun, read_run, read_runs

_LEFT_OUT = shutil.ignore_patterns("logs", "*.png", "check.*")


def add(folder: Path, runs: Sequence[Path]) -> list[Path]:
    """Copy runs into the baseline `folder`, which is made where it is not there.

    Nothing is copied unless every run may be added.

    Raises:
        UserError: a run is no run, holds a case that failed, is in the baseline already or
            under a name that is taken there, or the folder cannot be written.
        NotComparable: it is of another machine, data set or work than those there.
    """
    new = [read_run(path) for path in runs]
    every = [*(read_runs(folder) if folder.is_dir() else []), *new]
    for run in new:
        _refuse_unfit(run)
    refuse_copies(every)
    refuse_other_machine(every)
    refuse_other_work(every, Purpose.BASELINE)
    targets = [folder / run.path.resolve().name for run in new]
    for number, target in enumerate(targets):
        if target.exists() or target in targets[:number]:
            raise UserError(f"{target} is there already: rename the run's folder")
    try:
        for run, target in zip(new, targets, strict=True):
            shutil.copytree(run.path, target, ignore=_LEFT_OUT)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    return targets


def remove(folder: Path, names: Sequence[str]) -> list[Path]:
    """Delete runs of the baseline `folder` by name.

    Raises:
        UserError: the baseline holds no run of that name; none is deleted then.
    """
    known = {run.path.name: run.path for run in read_runs(folder)}
    for name in names:
        if name not in known:
            raise UserError(
                f"{folder} holds no run {name!r}: choose from {', '.join(known) or 'none'}"
            )
    for name in names:
        shutil.rmtree(known[name])
    return [known[name] for name in names]


def describe(folder: Path) -> list[str]:
    """A line a run of the baseline `folder`, the earliest first.

    Raises:
        UserError: there is no such folder, or a run in it cannot be read.
    """
    runs = read_runs(folder)
    lines = [
        "  ".join(filter(None, (run.path.name, run.time_utc, f"{len(run.logs)} cases", run.label)))
        for run in runs
    ]
    return [*lines, f"{len(runs)} run{'s' if len(runs) != 1 else ''}"]


def _refuse_unfit(run: MeasuredRun) -> None:
    for case, row in run.rows.items():
        if row["status"] not in (Status.OK, Status.SKIPPED):
            raise UserError(
                f"{run.path}: {case} is {row['status']}: {row['reason']}; finish it with "
                f"fmnist-bench run --resume {run.path}, or add another run"
            )
