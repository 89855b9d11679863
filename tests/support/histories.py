"""Made histories: a run a day on one machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from bench.analysis.series_noise import Array
from bench.schema.history import HistoryPoint, HistorySeries, Revision

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
