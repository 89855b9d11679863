"""Reads the runs of all nodes of one or more fleets, each cut to what `fleet check` looks at."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.schema.runs import MeasuredRun, NodeRuns
from bench.store.fleet_folder import asked_nodes, is_fleet, node_runs
from bench.store.measured import read_run
from bench.store.reader import kind_of
from bench.store.run_folder import refuse_absent
from bench.verdicts.compatibility import COLUMNS
from bench.verdicts.facts import Purpose
from bench.verdicts.work import WORK
from fmnist_models.errors import UserError

# A thousand nodes of fifty cases would not fit in memory with all columns.
_KEPT = (
    "status",
    "reason",
    "loop",
    "samples_per_s",
    "val_score",
    "initial_weights",
    "warnings",
    *WORK,
    *COLUMNS[Purpose.BASELINE],
)


def fleet_folders(paths: Sequence[Path]) -> list[Path]:
    """The folders of fleets among `paths` and right below them, each once.

    Raises:
        UserError: a path is no folder of a fleet and holds none, or a folder is named twice.
    """
    found: list[Path] = []
    for path in paths:
        if is_fleet(path):
            below = [path]
        else:
            refuse_absent(path)
            children = sorted(path.iterdir()) if kind_of(path) == "folder" else []
            below = [child for child in children if is_fleet(child)]
        if not below:
            raise UserError(
                f"{path} is no folder of fleet run and holds none: name one that has fleet.json"
            )
        found += below
    seen: dict[Path, Path] = {}
    for folder in found:
        before = seen.setdefault(folder.resolve(), folder)
        if before is not folder:
            raise UserError(f"{folder} is named twice: leave one out, for it would count as two")
    return found


def read_fleets(folders: Sequence[Path]) -> list[NodeRuns]:
    """The nodes of these fleets by name, each with its runs.

    A run that cannot be read is told in `NodeRuns.broken`, so that one node does not hide the rest.
    A node in whose place another has measured is left out.

    Raises:
        UserError: a folder cannot be read, or holds no node.
    """
    with _uncollected():
        return _read(folders)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Leave out the search for cycles, which takes an eighth of the time and finds nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read(folders: Sequence[Path]) -> list[NodeRuns]:
    runs: dict[str, list[MeasuredRun]] = {}
    broken: dict[str, list[str]] = {}
    for folder in folders:
        nodes = node_runs(folder)
        if not nodes:
            raise UserError(
                f"{folder} holds no run of a node: finish it with fmnist-bench fleet run --resume "
                f"{folder}, or leave it out"
            )
        asked = {each.node.name: each for each in asked_nodes(folder)}
        for name in (n for n in asked if n not in nodes and not asked[n].replaced_by):
            runs.setdefault(name, [])
            broken.setdefault(name, []).append(f"it has measured nothing in {folder}")
        for name, path in nodes.items():
            if name in asked and asked[name].replaced_by:
                # Another node has measured the whole plan in its place.
                continue
            own = runs.setdefault(name, [])
            try:
                own.append(_cut(read_run(path)))
            except UserError as error:
                broken.setdefault(name, []).append(str(error))
    return [
        NodeRuns(name, tuple(own), tuple(broken.get(name, ())))
        for name, own in sorted(runs.items())
    ]


def _cut(run: MeasuredRun) -> MeasuredRun:
    """The run with the columns of `_KEPT` alone, its equal texts once in memory."""
    rows = {
        sys.intern(case): {name: _once(row[name]) for name in _KEPT}
        for case, row in run.rows.items()
    }
    logs = {sys.intern(case): own for case, own in run.logs.items()}
    return replace(run, rows=rows, logs=logs, whole=None, efficiencies={})


def _once(value: object) -> object:
    return sys.intern(value) if type(value) is str else value
