"""The figures that a check tests, as tables of times by cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING

from bench.schema.runs import MeasuredRun
from bench.schema.score import Scale

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Runs that began within this many seconds share the drift of the hour, so they count as one. If
# six stored runs of one hour counted as six, a host that drifts by 3% would raise an alarm in
# every eighth unchanged suite.
APART_S = 3600.0


def holders(runs: Sequence[MeasuredRun], case: str) -> list[MeasuredRun]:
    """The runs in which `case` ended ok."""
    return [run for run in runs if case in run.logs]


def scale_of(baseline: Sequence[MeasuredRun], case: str) -> Scale:
    """In what a change of the score of `case` is judged, from the stored runs that hold it."""
    rows = [run.rows[case] for run in holders(baseline, case)]
    return Scale.of(rows[0]["score"], rows[0]["better"], [row["val_score"] for row in rows])


def score(run: MeasuredRun, case: str) -> float | None:
    """The score on the validation data; None where not measured."""
    value: float | None = run.rows[case]["val_score"]
    return value


def broken_scores(
    baseline: Sequence[MeasuredRun], candidate: Sequence[MeasuredRun], case: str
) -> str:
    """What became of a score that was a finite number in the baseline alone; else empty."""
    stored = [score(run, case) for run in holders(baseline, case)]
    if not all(value is not None and math.isfinite(value) for value in stored):
        return ""
    for run in candidate:
        value = score(run, case)
        if value is not None and not math.isfinite(value):
            return f"{run.rows[case]['score']} is {value:g} in {run.path.name}"
    return ""


def times(runs: Sequence[MeasuredRun]) -> list[list[MeasuredRun]]:
    """The runs in groups by start time: a group holds those within an hour of its first run."""
    found: list[tuple[float, list[MeasuredRun]]] = []
    for began, run in sorted(((_began(run), run) for run in runs), key=lambda pair: pair[0]):
        if found and began - found[-1][0] < APART_S:
            found[-1][1].append(run)
        else:
            found.append((began, [run]))
    return [runs for _, runs in found]


def _began(run: MeasuredRun) -> float:
    """Start of the run in seconds since 1970; 0 where not known."""
    try:
        return datetime.fromisoformat(run.time_utc).timestamp()
    except ValueError:
        return 0.0


def tables(
    baseline: Sequence[MeasuredRun],
    candidate: Sequence[MeasuredRun],
    cases: Sequence[str],
    value: Callable[[MeasuredRun, str], float | None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values of baseline and candidate, each of shape (times, cases).

    A value is the mean over the runs of a time (`times`); NaN where none of them has the case.
    """
    import numpy as np

    def mean(runs: Sequence[MeasuredRun], case: str) -> float:
        """The mean of one case over the runs of a time that have it."""
        values = [value(run, case) for run in holders(runs, case)]
        known = [value for value in values if value is not None]
        return fmean(known) if known else math.nan

    sides = times(baseline), times(candidate)
    stored, now = (
        np.array([[mean(runs, case) for case in cases] for runs in groups]) for groups in sides
    )
    return stored, now
