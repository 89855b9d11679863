"""Counts how often the history is wrong: false changes in a year, steps found, and their delay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bench.analysis.changepoints import LEAST_CASES, Alike, Watch
from bench.evidence.change_counts import (
    AFTER,
    BEFORE,
    Found,
    Row,
    false_row,
    parts,
    step_fields,
    told_of,
)
from bench.evidence.score_changes import LOSSES, SCORES, loss_row, score_row
from bench.evidence.worlds import Array, World, launch_medians
from bench.evidence.years import Years, years
from bench.verdicts.history import SHARED_LEVEL, SPEED_LEVEL, YEAR

STEPS = (0.02, 0.05, 0.10, 0.20)
# The scatter of a control series, as a standard deviation of a run.
_CONTROL_SD = 0.01
_WHOLE = World(0.0, 0.0)
_OWN = World(0.8, 0.02, 0.5)
UNCHANGED = (
    Years(_WHOLE),
    Years(World(0.0, 0.03, 0.5)),
    Years(World(0.5, 0.01, 0.5)),
    Years(World(0.5, 0.03)),
    Years(World(0.5, 0.03, 0.5)),
    Years(World(0.8, 0.01, 0.5)),
    Years(_OWN),
    Years(World(0.8, 0.03)),
    Years(World(0.8, 0.03, 0.5)),
    Years(World(0.9, 0.02, 0.5)),
    Years(World(0.5, 0.01), switches=0.02),
    Years(World(0.5, 0.01), switches=0.02, launches=1),
    Years(_WHOLE, cases=7),
    Years(_OWN, cases=7),
    Years(_WHOLE, cases=3),
    Years(World(0.8, 0.03), cases=3),
)
STEPPED = (
    Years(_WHOLE),
    Years(World(0.5, 0.03)),
    Years(World(0.5, 0.03, 0.5)),
    Years(_OWN),
    Years(_WHOLE, cases=3),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is simulated: years of an unchanged suite, and suites with a step."""

    years: int
    steps: int


def change_rows(effort: Effort, seed: int, tell: Callable[[str], object]) -> list[Row]:
    """The rows of changes.csv."""
    rows: list[Row] = []
    for number, kind in enumerate(UNCHANGED):
        rows += false_rows(kind, effort.years, seed + number)
        tell(f"{kind}: {rows[-1]['alarms']} of {rows[-1]['suites']}")
    for number, scores in enumerate(SCORES):
        rows.append(score_row(scores, effort.years, seed + number))
        tell(f"{scores}: {rows[-1]['alarms']} of {rows[-1]['suites']}")
    for number, kind in enumerate(STEPPED):
        for before in BEFORE:
            for step in STEPS:
                rows.append(step_row(kind, step, before, effort.steps, seed + number))
            tell(f"{kind}: steps after {before} runs")
    for scores in SCORES:
        for before in BEFORE:
            rows += [loss_row(scores, loss, before, effort.steps, seed) for loss in LOSSES]
    return rows


def false_rows(kind: Years, suites: int, seed: int) -> Iterator[Row]:
    """Years of an unchanged suite in which a change was told: of a case, or of all cases.

    What all cases share is judged as it is, and against a control series.
    """
    rng = np.random.default_rng(seed)
    pool = launch_medians(rng, World(0.5, 0.0))
    alike = _alike(kind)
    told: dict[str, list[tuple[int, int]]] = {"a case": []}
    for several in parts(suites):
        values = years(rng, kind, pool, several, YEAR)
        watch = watched(values, SPEED_LEVEL / (YEAR * kind.cases), alike=alike)
        told["a case"].append(told_of(watch))
        if alike is Alike.LEVEL:
            control = _CONTROL_SD * rng.standard_t(4, watch.shared.shape) / math.sqrt(2)
            for name, shared in (
                ("all cases", watch.shared),
                # The machine's drift is in the control series too, so only its own scatter is left.
                ("all cases, control", _own_scatter(rng, kind, watch.shared.shape) + control),
            ):
                own = watched(shared[:, None], SHARED_LEVEL / YEAR, alike=Alike.NOTHING)
                told.setdefault(name, []).append(told_of(own))
    for name, counts in told.items():
        yield false_row(kind, name, suites, np.array(counts).sum(0).tolist())


def _alike(kind: Years) -> Alike:
    return Alike.LEVEL if kind.cases >= LEAST_CASES else Alike.NOTHING


def _own_scatter(rng: np.random.Generator, kind: Years, shape: tuple[int, ...]) -> Array:
    return np.asarray(0.015 / math.sqrt(kind.cases) * rng.standard_normal(shape))


def step_row(kind: Years, step: float, before: int, suites: int, seed: int) -> Row:
    """How soon a step of one case is found, and how well its size and place are told.

    Args:
        kind: the machine and the suite.
        step: the added share of time.
        before: number of runs before it.
        suites: number of suites.
        seed: of the random generator.
    """
    rng = np.random.default_rng(seed)
    pool = launch_medians(rng, World(0.5, 0.0))
    found = Found(math.log1p(step), before)
    for several in parts(suites):
        values = years(rng, kind, pool, several, before + AFTER)
        values[before:, 0] += math.log1p(step)
        level = SPEED_LEVEL / (YEAR * kind.cases)
        found.look(watched(values, level, alike=_alike(kind)))
    return step_fields(kind, "a case", step, suites, found)


def watched(values: Array, level: float, *, alike: Alike) -> Watch:
    """A watch that saw all runs; shape (runs, series, suites)."""
    watch = Watch(values.shape[1:], len(values), level, alike=alike)
    watch.see_all(values)
    return watch
