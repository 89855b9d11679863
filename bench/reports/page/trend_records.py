"""The data of the charts of a history, packed: a history has hundreds of thousands of points."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.reports.formatting import one_line
from bench.reports.terminal.history import SHORT, commit
from bench.reports.terminal.history_changes import differs_of, size_of, standing_lines
from bench.reports.trend_data import SIGNS, Array, Level, Mark, Trend, standing
from bench.schema.history import HistoryPoint
from bench.verdicts.facts import UNKNOWN
from bench.verdicts.history_change import ALL_CASES, What

# Facts of an environment that a reader is told of every run; the others only where they change.
_TOLD = ("driver", "kernel", "TensorFlow", "JAX", "PyTorch", "Keras", "Python")
# Half intervals are kept in steps of 0.01%; the largest number stands for none.
_STEP, _NONE = 1e-4, 2**16 - 1
# Of the text of a label or a warning.
_LONGEST = 300


class Numbered:
    """Texts and the like, each kept once; `at` gives the place of one."""

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}

    def at(self, value: Any) -> int:
        """The place of a value, which is kept where it is new."""
        return self._places.setdefault(value, len(self._places))

    def all(self) -> list[Any]:
        """The values, by place."""
        return list(self._places)


def trend_data(trends: Sequence[Trend]) -> dict[str, Any]:
    """What the script reads: runs by machine, the series, and the texts that they share."""
    facts, warnings, statuses = Numbered(), Numbered(), Numbered()
    environments: dict[str, tuple[int, str, list[int]]] = {}
    machines: dict[str, dict[str, HistoryPoint]] = {}
    for trend in trends:
        own = machines.setdefault(trend.series.machine, {})
        for point in trend.points:
            own[point.run] = point
            if point.environment not in environments:
                told = [f"{n} {point.facts[n]}" for n in _TOLD if _is_known(point, n)]
                known = sorted(map(facts.at, point.facts.items()))
                number = len(environments)
                environments[point.environment] = number, ", ".join(told), known
    runs = {
        machine: sorted(own.values(), key=lambda point: (point.time_utc, point.run))
        for machine, own in machines.items()
    }
    places = {
        machine: {point.run: place for place, point in enumerate(own)}
        for machine, own in runs.items()
    }
    names = {trend.series.machine: trend.series.machine_name for trend in trends}
    return {
        "machines": [_machine(names[machine], own, environments) for machine, own in runs.items()],
        "series": [
            _series(trend, places[trend.series.machine], list(runs), (warnings, statuses))
            for trend in trends
        ],
        "environments": [[told, known] for _, told, known in environments.values()],
        "facts": facts.all(),
        "warnings": warnings.all(),
        "statuses": statuses.all(),
    }


def _is_known(point: HistoryPoint, name: str) -> bool:
    return point.facts.get(name, UNKNOWN) not in (UNKNOWN, "none")


def _machine(
    name: str, runs: Sequence[HistoryPoint], environments: dict[str, tuple[int, str, list[int]]]
) -> dict[str, Any]:
    """The runs of a machine: seconds since 1970 as differences, and texts as they are shown."""
    seconds = [int(datetime.fromisoformat(point.time_utc).timestamp()) for point in runs]
    commits, labels = Numbered(), Numbered()
    shown = [commits.at(_commit(point)) for point in runs]
    label = [labels.at(one_line(point.label, _LONGEST)) for point in runs]
    return {
        "name": name,
        "began": [*seconds[:1], *(after - before for before, after in pairwise(seconds))],
        "ids": [point.run[:SHORT] for point in runs],
        "commits": commits.all(),
        "commit": shown,
        "environment": [environments[point.environment][0] for point in runs],
        "labels": labels.all(),
        "label": label,
    }


def _commit(point: HistoryPoint) -> str:
    """The commit and its day; empty where it is not known."""
    told = commit(point.revision)
    when = point.revision.time_utc[:10] if point.revision else ""
    return f"{told} of {when}" if told and when else told


def _series(
    trend: Trend,
    places: dict[str, int],
    machines: list[str],
    texts: tuple[Numbered, Numbered],
) -> dict[str, Any]:
    at = [places[point.run] for point in trend.points]
    warnings, statuses = texts
    return {
        "machine": machines.index(trend.series.machine),
        # Most have every run of their machine.
        "at": None if len(at) == len(places) else _packed(np.array(at, "<u4")),
        "speed": _some(trend.values[What.SPEED]),
        "half": _halves(trend.halves[What.SPEED]),
        "score": _some(trend.values[What.SCORE]),
        "scoreHalf": _some(trend.halves[What.SCORE]),
        "scoreName": trend.series.score,
        "ended": [
            [place, statuses.at(point.status)]
            for place, point in enumerate(trend.points)
            if not point.logs
        ],
        "diverged": [
            place
            for place, point in enumerate(trend.points)
            if point.scores and not all(map(math.isfinite, point.scores))
        ],
        "warned": list(_warned(trend.points, warnings)),
        "levels": {what: list(map(_level, trend.levels[what])) for what in What},
        "marks": list(map(_mark, trend.marks)),
        "order": [int(trend.order[0]), trend.order[1], trend.order[2]],
    }


def _warned(points: Sequence[HistoryPoint], texts: Numbered) -> Iterable[list[int]]:
    """Of each point with warnings, its place and those of their texts."""
    for place, point in enumerate(points):
        if point.warnings:
            yield [place, *(texts.at(one_line(text, _LONGEST)) for text in point.warnings)]


def _level(level: Level) -> list[float]:
    return [level.start, level.end, level.value]


def _mark(mark: Mark) -> list[Any]:
    change = mark.change
    return [
        change.what,
        standing(change),
        mark.first,
        mark.low,
        mark.high,
        change.worse,
        SIGNS[change.place.cause],
        mark_text(mark),
    ]


def mark_text(mark: Mark) -> str:
    """A change in a line: size, what else differs, and why it does not count."""
    change = mark.change
    whose = f"{ALL_CASES}: " if mark.shared else ""
    parts = [f"{whose}{size_of(change)}", f"differs: {differs_of(change)}"]
    return "; ".join([*parts, *standing_lines(change)])


def _halves(values: Array) -> str:
    """Half intervals of logarithms in steps; empty where there is none."""
    if not np.isfinite(values).any():
        return ""
    steps = np.where(np.isfinite(values), np.clip(values / _STEP, 0, _NONE - 1), _NONE)
    return _packed(steps.round().astype("<u2"))


def _some(values: Array) -> str:
    """Numbers with seven digits; empty where there is none."""
    if not np.isfinite(values).any():
        return ""
    # A score of a user's own may be beyond what these can hold: it counts as infinite.
    with np.errstate(over="ignore"):
        return _packed(values.astype("<f4"))


def _packed(values: NDArray[Any]) -> str:
    """Numbers as base64, the least byte of each first, as browsers keep them."""
    return base64.b64encode(values.tobytes()).decode("ascii")
