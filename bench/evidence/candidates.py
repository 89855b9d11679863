"""Judges methods that others maintain: PELT of ruptures, and Otava, beside the suite's own.

Each is given the series with the median over the cases taken out of every run, so that none has to
know that cases share a machine.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.changepoints import Alike
from bench.analysis.stats import launch_log
from bench.evidence import candidates_child
from bench.evidence.changes import watched
from bench.evidence.exits import upper_bound, world_fields
from bench.evidence.recorded import read
from bench.evidence.worlds import Array, World, launch_medians
from bench.evidence.years import Years, years
from bench.verdicts.history import SPEED_LEVEL, YEAR
from fmnist_models.errors import UserError

Row = dict[str, Any]
WORLDS = (World(0.0, 0.0), World(0.5, 0.03, 0.5), World(0.8, 0.02, 0.5))
STEPS, BEFORE, AFTER = (0.05, 0.10), 120, 100
# A step is found where a change is told at most so many runs from it.
_NEAR = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """A method with a setting.

    Attributes:
        looks: numbers of runs after which a year is looked at.
    """

    tool: str
    setting: float
    looks: tuple[int, ...]


_WEEKLY, _ONCE = tuple(range(21, YEAR + 1, 7)), (YEAR,)
# A look of Otava's takes 20 to 30 ms a series, so a year is looked at once: it has it easier.
CANDIDATES = (
    *(Candidate("ruptures", times, _WEEKLY) for times in (2.0, 3.0, 10.0, 30.0, 100.0)),
    *(Candidate("otava", most, _ONCE) for most in (1e-3, 1e-5, 1e-7)),
    Candidate("own", SPEED_LEVEL, _ONCE),
)


def candidate_rows(
    pythons: Mapping[str, str],
    suites: int,
    seed: int,
    recorded: Path,
    tell: Callable[[str], object],
) -> list[Row]:
    """The rows of candidates.csv.

    Args:
        pythons: the interpreter that has each tool.
        suites: years, and suites with each step, in each world.
        seed: of the random generator.
        recorded: recorded.csv, whose launches of equals are series without a change.
        tell: told of each candidate.

    Raises:
        UserError: a tool failed.
    """
    rows = []
    pool = launch_medians(np.random.default_rng(seed), World(0.5, 0.0))
    launches = _recorded(recorded)
    for candidate in CANDIDATES:
        for number, world in enumerate(WORLDS):
            rng = np.random.default_rng(seed + number)
            kind = Years(world)
            values = _apart(years(rng, kind, pool, suites, YEAR))
            changed = [_apart(years(rng, kind, pool, suites, BEFORE + AFTER)) for _ in STEPS]
            rows.append(_row(candidate, world, values, changed, pythons))
        found = _found(candidate, launches, pythons, alone=True)
        rows.append(
            dict.fromkeys(rows[0])
            | {"tool": candidate.tool, "setting": candidate.setting, "of": "recorded"}
            | {"series": len(launches), "false_series": sum(map(bool, found))}
        )
        tell(f"{candidate.tool} {candidate.setting:g}")
    return rows


def _apart(values: Array) -> Array:
    return np.asarray(values - np.median(values, 1, keepdims=True))


def _row(
    candidate: Candidate,
    world: World,
    values: Array,
    changed: Sequence[Array],
    pythons: Mapping[str, str],
) -> Row:
    _, cases, suites = values.shape
    series = [values[:, case, suite] for suite in range(suites) for case in range(cases)]
    found = [bool(one) for one in _found(candidate, series, pythons)]
    alarms = int(np.reshape(found, (suites, cases)).any(1).sum())
    row = {
        "tool": candidate.tool,
        "setting": candidate.setting,
        "of": "simulated",
        **world_fields(world),
        "looks": len(candidate.looks) if candidate.tool != "own" else YEAR,
        "series": len(series),
        "false_series": sum(found),
        "suites": suites,
        "alarms": alarms,
        "rate": alarms / suites,
        "rate_upper": upper_bound(alarms, suites),
    }
    for step, several in zip(STEPS, changed, strict=True):
        several[BEFORE:, 0] += math.log1p(step)
        if candidate.tool == "own":
            told = _own(several, pooled=True)[: several.shape[2]]
        else:
            once = Candidate(candidate.tool, candidate.setting, (BEFORE + AFTER,))
            told = _found(once, list(several[:, 0].T), pythons)
        hits = sum(any(abs(at - BEFORE) <= _NEAR for at in one) for one in told)
        row[f"found_{step:g}"] = hits / len(told)
    return row


def _found(
    candidate: Candidate,
    series: Sequence[Array],
    pythons: Mapping[str, str],
    *,
    alone: bool = False,
) -> list[list[int]]:
    """Where each series changed, at any look."""
    if candidate.tool == "own":
        if alone:
            return [_own(one[:, None, None], pooled=False)[0] for one in series]
        cases = Years(WORLDS[0]).cases
        stacked = np.array(series).reshape(-1, cases, len(series[0]))
        by_case = _own(np.moveaxis(stacked, (2, 1, 0), (0, 1, 2)), pooled=True)
        suites = len(series) // cases
        return [by_case[case * suites + s] for s in range(suites) for case in range(cases)]
    looks = [look for look in candidate.looks if not alone] or [max(map(len, series))]
    asked = {
        "tool": candidate.tool,
        "setting": candidate.setting,
        "looks": looks,
        "series": [one.tolist() for one in series],
    }
    done = subprocess.run(
        [pythons[candidate.tool], str(Path(candidates_child.__file__))],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise UserError(f"{candidate.tool} in {pythons[candidate.tool]}: {last[0]}")
    answer: list[list[int]] = json.loads(done.stdout)
    return answer


def _own(values: Array, *, pooled: bool) -> list[list[int]]:
    """Where each series changed, by case and then suite, as the history tells it."""
    _, cases, suites = values.shape
    alike = Alike.LEVEL if pooled else Alike.NOTHING
    watch = watched(values, SPEED_LEVEL / (YEAR * cases), alike=alike)
    found: list[list[int]] = [[] for _ in range(cases * suites)]
    for alarm in watch.alarms:
        found[alarm.series * suites + alarm.suite].append(alarm.first)
    return found


def _recorded(file: Path) -> list[Array]:
    """The launches of equals of each case, in the order in which they ran."""
    by_case: dict[str, list[float]] = {}
    for row in read(file):
        if not row["slower"]:
            ones = [1] * len(row["seconds"])
            by_case.setdefault(row["case"], []).append(launch_log(ones, row["seconds"]))
    return [np.array(logs) for logs in by_case.values()]
