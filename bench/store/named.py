"""Reads the runs of several folders, and finds one by a name that the user gives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.schema.runs import MeasuredRun
from bench.store.measured import read_machine
from bench.store.reader import kind_of
from bench.verdicts.compatibility import refuse_copies
from fmnist_models.errors import UserError


def named_runs(folders: Sequence[Path]) -> dict[str, MeasuredRun]:
    """The runs in these folders, in this order; the key is label, else folder name, else path.

    A name that another of the runs also has is not used. A folder of runs of one machine gives
    one record (`read_machine`).

    Raises:
        UserError: a folder holds no run, cannot be read, or is named twice, such as by a link.
        NotComparable: a folder of runs holds those of several machines.
    """
    seen: dict[Path, Path] = {}
    for folder in folders:
        # Before realpath, because a link to itself cannot be resolved.
        kind_of(folder)
        before = seen.setdefault(Path(os.path.realpath(folder)), folder)
        if before is not folder:
            raise UserError(f"{folder} is the same folder as {before}: name it once")
    runs = [read_machine(folder) for folder in folders]
    refuse_copies(runs)
    return {_own_name(run, runs): run for run in runs}


def _names(run: MeasuredRun) -> list[str]:
    """The possible names of a run, the best first; the last one is unique."""
    resolved = Path(os.path.realpath(run.path))
    return [name for name in (run.label, resolved.name, str(run.path), str(resolved)) if name]


def _own_name(run: MeasuredRun, runs: Sequence[MeasuredRun]) -> str:
    taken = {name for other in runs if other is not run for name in _names(other)}
    *names, last = _names(run)
    return next((name for name in names if name not in taken), last)


def called(name: str, runs: Mapping[str, MeasuredRun], option: str = "--baseline") -> str:
    """The key of the run that `option` names by key, label, folder or path.

    Raises:
        UserError: no run or several runs have that name.
    """
    if name in runs:
        return name
    here = os.path.realpath(name) if kind_of(Path(name)) else name
    meant = [key for key, run in runs.items() if {name, here} & {*_names(run)}]
    if len(meant) > 1:
        raise UserError(f"{option} {name}: may mean {' or '.join(meant)}; write one of these")
    if not meant:
        raise UserError(f"{option} {name}: no run of that name; choose from {', '.join(runs)}")
    return meant[0]
