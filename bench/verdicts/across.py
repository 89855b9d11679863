"""Gives the cases of runs on several set-ups common names, so that they can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.columns import Row
from bench.schema.runs import MeasuredRun

# The axes by which set-ups differ: a comparison is of them, where each run has one value.
SET_UPS = ("threads", "backend")


def across_machines(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """The same runs, with `gpu` as the device of the cases on each machine's first GPU.

    A run calls that GPU `gpu` or `gpu:N`. With one name, a machine with one GPU can be compared
    with a machine with several.
    """
    found = []
    for run in runs:
        names = _names(run.rows, run.environment)
        rows = {
            name: {**run.rows[case], "case": name, "device": "gpu"}
            if name != case
            else run.rows[case]
            for case, name in names.items()
        }
        found.append(_renamed(run, rows, names))
    return found


def _names(rows: Mapping[str, Row], environment: Mapping[str, Any]) -> dict[str, str]:
    """The common name of each case; unchanged where a run used both names of its first GPU."""
    gpus = environment.get("gpus") or ()
    first = f"gpu:{gpus[0].get('index')}" if gpus else None
    names = {}
    for case, row in rows.items():
        name = case
        if row["device"] == first:
            axes = {axis.name: row[axis.name] for axis in fields(Case)}
            name = Case(**{**axes, "device": "gpu"}).id
        names[case] = case if name in rows else name
    return names


def across_axes(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """The same runs, with case names without the axes of `SET_UPS` that tell the runs apart.

    An axis tells them apart where each run used one value for all its networks, and the runs
    differ in it. With backends that differ, names are without the processes too, where each run
    spread its replicas in one form: not every backend has both.
    """
    apart = [axis for axis in SET_UPS if _tells_apart(axis, runs)]
    if "backend" in apart and all(len(_forms(run)) == 1 for run in runs):
        apart.append("processes")
    return [_without(run, apart) for run in runs] if apart else list(runs)


def _tells_apart(axis: str, runs: Sequence[MeasuredRun]) -> bool:
    values = [values_of(run, axis) for run in runs]
    return all(len(own) == 1 for own in values) and len(set(values)) > 1


def _forms(run: MeasuredRun) -> set[bool]:
    """Whether the replicas of a run's cases of several have a process each."""
    return {row["processes"] > 1 for row in run.rows.values() if row["replicas"] > 1}


def values_of(run: MeasuredRun, axis: str) -> tuple[Any, ...]:
    """The values of an axis of a run's networks, each once."""
    return tuple(
        dict.fromkeys(row[axis] for row in run.rows.values() if row["loop"] != SKLEARN_LOOP)
    )


def _without(run: MeasuredRun, axes: Sequence[str]) -> MeasuredRun:
    """The run, whose networks have the defaults of these axes in their names."""
    defaults = {f.name: f.default for f in fields(Case) if f.name in axes}
    names = {}
    for case, row in run.rows.items():
        kept = {f.name: row[f.name] for f in fields(Case)}
        is_network = row["loop"] != SKLEARN_LOOP
        is_other = is_network and any(row[axis] != value for axis, value in defaults.items())
        names[case] = Case(**{**kept, **defaults}).id if is_other else case
    rows = {names[case]: {**row, "case": names[case]} for case, row in run.rows.items()}
    return _renamed(run, rows, names)


def _renamed(run: MeasuredRun, rows: Mapping[str, Row], names: Mapping[str, str]) -> MeasuredRun:
    """The run with these rows, and its figures under the new name of each case."""
    logs = {names[case]: own for case, own in run.logs.items()}
    efficiencies = {names[case]: own for case, own in run.efficiencies.items()}
    targets = {names[case]: own for case, own in run.target_logs.items()}
    return replace(run, rows=rows, logs=logs, efficiencies=efficiencies, target_logs=targets)
