"""Gives the cases of runs on several set-ups common names, so that they can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.columns import Row
from bench.schema.runs import MeasuredRun


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
        found.append(replace(run, rows=rows, logs={names[c]: own for c, own in run.logs.items()}))
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


def across_threads(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """The same runs, with case names without the number of threads where it is no axis.

    It is no axis where each run used one number for all its cases, and the runs differ in it.
    """
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
    """The numbers of threads of a run's networks, each once; None stands for the default."""
    return tuple(
        dict.fromkeys(row["threads"] for row in run.rows.values() if row["loop"] != SKLEARN_LOOP)
    )


def _without_threads(case: str, row: Row) -> str:
    if row["threads"] is None:
        return case
    return Case(**{f.name: row[f.name] for f in fields(Case) if f.name != "threads"}).id
