"""Runs of several set-ups made to meet: their cases under names that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.columns import Row
from bench.schema.runs import MeasuredRun


def across_machines(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """The same runs, cases on the first GPU of each named by `gpu`, whichever of its two names the
    run used: a machine with one GPU so meets one with several."""
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
    """What each case is compared as; where a run used both names of its first GPU, each as it
    is."""
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
