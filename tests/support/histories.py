"""Made histories: a run a day on one machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from bench.analysis.series_noise import Array
from bench.schema.history import HistoryPoint, HistorySeries, Revision
from support.pages import HOSTILE

RUNS, AT = 160, 100
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def noise(cases: int, runs: int = RUNS, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    own = 0.01 * rng.standard_normal((runs, cases))
    return np.asarray(own + 0.02 * rng.standard_normal((runs, 1)))


def series(
    logs: Array,
    *,
    scores: Array | None = None,
    revision: Callable[[int], str] = lambda run: f"{run // 2:040d}",
    facts: Callable[[int], Mapping[str, str]] = lambda _: {"driver": "570"},
    names: Sequence[str] = (),
    control: Callable[[int], float | None] = lambda _: None,
) -> list[HistorySeries]:
    """A run a day of cases c0, c1 ..., or `names`; NaN where a run does not have the case."""
    found = []
    for case in range(logs.shape[1]):
        points = [
            HistoryPoint(
                f"run{run:04d}",
                (DAY + timedelta(days=run)).isoformat(timespec="seconds"),
                Revision(revision(run)),
                str(facts(run)),
                facts(run),
                (logs[run, case],),
                () if scores is None else (scores[run, case],),
                control=control(run),
            )
            for run in range(len(logs))
            if not np.isnan(logs[run, case])
        ]
        found.append(
            HistorySeries("m", "lab", names[case] if names else f"c{case}", "w", tuple(points))
        )
    return found


def slower(case: int = 3, size: float = 0.1, cases: int = 8) -> Array:
    logs = noise(cases)
    logs[AT:, case] += np.log1p(size)
    return logs


# Of the pages: the fourth case gets slower, the sixth faster; the second has a name of any text.
CASES = (
    "relu_mlp-adam-fit-cpu-b32-float32",
    HOSTILE,
    "softmax-sgd-compiled-cpu-b32-float32",
    "relu_mlp-adam-compiled-cpu-b32-float32",
    "softmax-adam-multistep-cpu-b512-float32",
    "dir-a/own.py:made-adam-fit-cpu-b32-float32",
)
FAILED, DIVERGED, WARNED = 20, 30, 40
WARNING = "disturbed: other processes took 12% of the cores"


def eventful(others: int = 0) -> list[HistorySeries]:
    """Cases with all that a page must show, and so many others in which nothing happens.

    At `AT` driver and commit change, and two cases with them. Three launches a run; one failed, one
    diverged and one warned of in each case; labels of any text.
    """
    logs = noise(len(CASES) + others) - 11.0
    logs[AT:, 3] += 0.1
    logs[AT:, 5] -= 0.06
    scores = np.full(logs.shape, 0.87)
    scores[DIVERGED] = np.nan
    names = [*CASES, *(f"softmax-sgd-fit-cpu-b{64 + n}-float32" for n in range(others))]
    facts = [{"driver": "570", "Keras": "3.15.1"}, {"driver": HOSTILE, "Keras": "3.15.1"}]
    made = series(
        logs,
        scores=scores,
        revision=lambda run: "ab"[run >= AT] * 40,
        facts=lambda run: facts[run >= AT],
        names=names,
    )
    return [replace(one, points=tuple(map(_eventful, range(RUNS), one.points))) for one in made]


def _eventful(run: int, point: HistoryPoint) -> HistoryPoint:
    if run == FAILED:
        return replace(point, logs=(), scores=(), status="failed", warnings=(HOSTILE,))
    (log,) = point.logs
    launches = (log - 0.01, log, log + 0.01)
    warnings = (WARNING,) if run == WARNED else ()
    return replace(point, logs=launches, warnings=warnings, label=HOSTILE * (run == WARNED))
