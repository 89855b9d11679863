"""A baseline: a folder of runs that only `fmnist-bench baseline` changes."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from bench.schema.bounds import shortened
from bench.schema.cells import counted
from bench.schema.launch import Status
from bench.schema.runs import MeasuredRun
from bench.store.measured import read_baseline, read_run, run_folders
from bench.store.reader import kind_of
from bench.verdicts.compatibility import refuse_copies, refuse_other_machine, refuse_other_work
from bench.verdicts.facts import Purpose
from bench.verdicts.work import refuse_apart
from fmnist_models.errors import UserError

# The files of a run that a baseline needs; duels, pages, pictures and logs are left out.
_NEEDED = ("plan.json", "environment.json", "rounds.csv", "launches.jsonl", "results.csv")
# Prefix of an unfinished copy. It is hidden, so nothing reads it; the next change removes it.
_UNDER_WAY = ".adding-"
_LOCK = ".lock"


def add(folder: Path, runs: Sequence[Path]) -> list[Path]:
    """Copy runs into the baseline `folder`, which is created where it is missing.

    Either all runs are added or none. A copy that is killed or runs out of space leaves no part
    of a run.

    Returns:
        the folders of the new copies.

    Raises:
        UserError: a folder is no run, or its run holds a failed case, is already in the baseline
            or has a name that is used there; a run of the baseline cannot be read; or the folder
            cannot be written.
        NotComparable: a run is of another machine, data set or work than the others.
    """
    new = [read_run(path) for path in runs]
    for run in new:
        _refuse_unfit(run)
    kind = kind_of(folder)
    if kind not in ("folder", None):
        raise UserError(f"{folder} is not a folder: name another")
    # Checked here as well, so that runs that do not fit each other create no folder.
    _refuse_together(new)
    with _changing(folder):
        _refuse_together([*read_baseline(folder), *new])
        targets = [folder / run.path.resolve().name for run in new]
        for number, target in enumerate(targets):
            if os.path.lexists(target) or target in targets[:number]:
                raise UserError(f"{target} is there already: rename the run's folder")
            if target.name.startswith(".") or not target.name:
                raise UserError(f"{new[number].path}: rename the run's folder, its name is hidden")
        _copy(folder, [run.path for run in new], targets)
    return targets


def remove(folder: Path, names: Sequence[str]) -> list[Path]:
    """Delete runs of the baseline `folder` by name, whatever they hold.

    Of a symbolic link only the link is deleted.

    Returns:
        the deleted folders.

    Raises:
        UserError: the baseline has no folder of a name (then none is deleted), or it cannot be
            changed.
    """
    if kind_of(folder) != "folder":
        raise UserError(f"{folder} is not a folder: name one that holds runs")
    removed = [folder / name for name in dict.fromkeys(names)]
    with _changing(folder):
        known = _names(folder)
        for name in names:
            if name not in known:
                raise UserError(
                    f"{folder} holds no run {shortened(name)}: choose from "
                    f"{', '.join(known) or 'none'}"
                )
        for path in removed:
            if path.is_symlink():
                path.unlink()
                continue
            # Hidden first, so that a kill leaves no visible part of a run.
            hidden = Path(tempfile.mkdtemp(prefix=_UNDER_WAY, dir=folder))
            path.rename(hidden / path.name)
            shutil.rmtree(hidden)
    return removed


def describe(folder: Path) -> list[str]:
    """One line for each run of the baseline `folder`, the earliest first, and a count.

    Runs that cannot be read follow the others.

    Raises:
        UserError: there is no such folder.
    """
    runs: list[MeasuredRun] = []
    broken = []
    for path in run_folders(folder):
        try:
            runs.append(read_run(path))
        except UserError as error:
            broken.append(f"{path.name}  cannot be read: {error}")
    runs.sort(key=lambda run: run.time_utc)
    lines = [
        "  ".join(
            filter(None, (run.path.name, run.time_utc, counted(len(run.logs), "case"), run.label))
        )
        for run in runs
    ]
    lines += broken
    more = f", {len(broken)} more cannot be read" if broken else ""
    return [*lines, counted(len(runs), "run") + more]


def _names(folder: Path) -> list[str]:
    """The names of the visible folders and links in the baseline."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if not path.name.startswith(".") and (path.is_symlink() or path.is_dir())
    )


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """Hold the baseline's lock, and remove what a killed process left there.

    The folder is created where it is missing.

    Raises:
        UserError: another process changes it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Mode 0o666, so that other users can take a lock file that a killed process left.
        with FileLock(folder / _LOCK, timeout=0, mode=0o666):
            for left in folder.glob(f"{_UNDER_WAY}*"):
                # Errors are ignored: another user's copy cannot be removed, but it is hidden.
                shutil.rmtree(left, ignore_errors=True)
            try:
                yield
            finally:
                # A process that finds the lock file gone makes a new one.
                with contextlib.suppress(OSError):
                    (folder / _LOCK).unlink()
    except Timeout as error:
        raise UserError(
            f"{folder} is being changed by another process: try again when it has ended"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def _copy(folder: Path, sources: Sequence[Path], targets: Sequence[Path]) -> None:
    """Copy runs into a hidden folder, sync them to disk, then rename all to their targets."""
    hidden = Path(tempfile.mkdtemp(prefix=_UNDER_WAY, dir=folder))
    try:
        for source, target in zip(sources, targets, strict=True):
            copy = hidden / target.name
            copy.mkdir()
            for name in _NEEDED:
                if kind_of(source / name):
                    shutil.copyfile(source / name, copy / name)
                    _sync(copy / name)
            _sync(copy)
        for target in targets:
            (hidden / target.name).rename(target)
        _sync(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file to the disk; a folder too, except on Windows, which cannot."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_together(runs: Sequence[MeasuredRun]) -> None:
    refuse_copies(runs)
    refuse_other_machine(runs)
    refuse_other_work(runs, Purpose.BASELINE)
    refuse_apart(runs)


def _refuse_unfit(run: MeasuredRun) -> None:
    for case, row in run.rows.items():
        if row["status"] not in (Status.OK, Status.SKIPPED):
            raise UserError(
                f"{run.path}: {case} is {row['status']}: {row['reason']}; finish it with "
                f"fmnist-bench run --resume {run.path}, or add another run"
            )
