"""The figures that a check tests, as tables of times by cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from statistics import fmean, variance
from typing import TYPE_CHECKING

from bench.schema.runs import MeasuredRun
from bench.schema.score import Scale
from bench.verdicts.regression import doubted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Runs that began within this many seconds share the drift of the hour, so they count as one. If
# six stored runs of one hour counted as six, a host that drifts by 3% would raise an alarm in
# every eighth unchanged suite.
APART_S = 3600.0


# The least standard deviation of one launch's score, as a share (`Scale`). Stored runs of one seed
# may agree in every sample and show no scatter; over seeds, accuracies of the documented networks
# scattered by 0.5 to 0.7 points.
SEED_SCATTER = 0.007


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


def launch_scatter(runs: Sequence[MeasuredRun], case: str, scale: Scale) -> float | None:
    """The standard deviation that one launch's score may have over its seeds, as a share.

    Of the embedded images it is known. Of other data it is an upper limit, from the launches of
    each run, for each launch has a seed of its own. The runs have the same seeds, so several of
    them tell no more than one. None where no run has two launches.
    """
    import numpy as np

    held = [run.scores[case] for run in runs if case in run.scores]
    if not held:
        return SEED_SCATTER
    several = [[scale.loss(value) for value in scores] for scores in held if len(scores) > 1]
    if not several:
        return None
    freedom = max(map(len, several)) - 1
    most = float(doubted(np.asarray(float(freedom))))
    return max(SEED_SCATTER, most * math.sqrt(fmean(map(variance, several))))


def why_untold(runs: Sequence[MeasuredRun], case: str, scale: Scale) -> str:
    """Why the score of a case cannot be tested; empty where no run has one."""
    known = [score(run, case) is not None for run in runs]
    if all(known) and launch_scatter(runs, case, scale) is None:
        return f"one launch a run does not show how {scale.name} scatters: measure with --launches"
    return f"validation {scale.name} is missing in some of the runs" if any(known) else ""


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


def losses(
    baseline: Sequence[MeasuredRun],
    candidate: Sequence[MeasuredRun],
    scales: Mapping[str, Scale],
) -> tuple[list[str], Array, Array, list[float]]:
    """The scores of those cases that can be tested, as shares that are larger where worse.

    Returns (cases, the baseline's values, the candidate's, and for each case the least standard
    deviation of a run); the values as `tables` returns them.
    """

    def loss(run: MeasuredRun, case: str) -> float | None:
        """The score as a share; None where it is no finite number."""
        value = score(run, case)
        return None if value is None or not math.isfinite(value) else scales[case].loss(value)

    floors = {}
    for case, scale in scales.items():
        held = holders([*baseline, *candidate], case)
        if all(loss(run, case) is not None for run in held):
            scatter = launch_scatter(held, case, scale)
            if scatter is not None:
                floors[case] = scatter / math.sqrt(min(len(run.logs[case]) for run in held))
    return [*floors], *tables(baseline, candidate, [*floors], loss), [*floors.values()]


def tables(
    baseline: Sequence[MeasuredRun],
    candidate: Sequence[MeasuredRun],
    cases: Sequence[str],
    value: Callable[[MeasuredRun, str], float | None],
) -> tuple[Array, Array]:
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
