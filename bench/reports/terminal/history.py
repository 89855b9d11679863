"""The lines and tables of a history, for 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.stats import student_interval
from bench.schema.cells import counted, few_of
from bench.schema.history import HistoryPoint, HistorySeries, Revision
from bench.schema.warnings import read
from bench.store.history.history import Outcome
from bench.store.history.reading import KnownRun
from bench.store.history.record import KeptRun

# Digits of an id that tell a thousand runs apart, and of a commit as Git shortens it.
SHORT, COMMIT = 8, 9


def added_line(path: Path, run: KeptRun, outcome: Outcome) -> str:
    """What became of a run that was to be added."""
    cases = counted(len(run.cases), "case")
    return f"{path}: {outcome}: run {run.id[:SHORT]}, {cases} on {run.machine.name}"


def print_runs(runs: Sequence[KnownRun], console: Console) -> None:
    """Print the runs of each machine, the earliest first."""
    for machine, group in groupby(runs, lambda run: run.machine):
        own = list(group)
        title = f"{machine.name} (machine {machine.id[:SHORT]}): {counted(len(own), 'run')}"
        console.print(Text(title), soft_wrap=True)
        table = _table("run", "began (UTC)", "revision", "ok", "label")
        for run in own:
            table.add_row(
                run.id[:SHORT],
                minute(run.time_utc),
                commit(run.revision),
                f"{run.ok}/{run.cases}",
                Text(run.label),
            )
        console.print(table)
    if not runs:
        console.print("no runs", highlight=False)


def print_series(series: Sequence[HistorySeries], console: Console) -> None:
    """Print a table of each series: a run a row, with what of the environment changed before it."""
    for one in series:
        title = f"{one.case} on {one.machine_name}, work {one.workload[:SHORT] or 'not known'}"
        console.print(Text(title), soft_wrap=True)
        table = _table("run", "began (UTC)", "revision", "samples/s", "±", one.score, "notes")
        before: HistoryPoint | None = None
        for point in one.points:
            table.add_row(*_cells(point), Text(_notes(before, point)))
            before = point
        console.print(table)


def commit(revision: Revision | None) -> str:
    """A commit as Git shortens it, with a `+` where files differed from it; empty for none."""
    if revision is None:
        return ""
    return f"{revision.id[:COMMIT]}{'+' if revision.dirty else ''}"


def facts_text(changed: Sequence[tuple[str, str, str]]) -> str:
    """Some of the facts that changed, as text: (name, then, now) of each; empty for none."""
    return few_of([f"{name} {then} -> {now}" for name, then, now in changed])


def minute(time_utc: str) -> str:
    """A time to the minute, as people read it."""
    return time_utc[:16].replace("T", " ")


def _cells(point: HistoryPoint) -> list[str]:
    speed = f"{math.exp(-point.log):,.0f}" if point.logs else point.status
    interval = student_interval(point.logs) if point.logs else None
    half = "" if interval is None else f"{math.exp((interval[1] - interval[0]) / 2) - 1:.1%}"
    score = f"{fmean(point.scores):.4f}" if point.scores else ""
    return [
        point.run[:SHORT],
        minute(point.time_utc),
        commit(point.revision),
        speed,
        half,
        score,
    ]


def _notes(before: HistoryPoint | None, point: HistoryPoint) -> str:
    """What of the environment is new, and whether others disturbed the run."""
    told = []
    if before is not None:
        told.append(facts_text(point.changed_since(before)))
    if any(read(text).disturbs for text in point.warnings):
        told.append("disturbed")
    return "; ".join(filter(None, told))


def _table(*headings: str) -> Table:
    numbers = ("samples/s", "±", "ok")
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        last = heading == headings[-1]
        right = heading in numbers
        table.add_column(
            Text(heading), justify="right" if right else "left", no_wrap=not last, overflow="fold"
        )
    return table
