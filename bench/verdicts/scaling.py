"""Whether several replicas scale better in one run than in another, case by case."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench.analysis.stats import welch_p
from bench.schema.columns import Row
from bench.schema.runs import MeasuredRun
from bench.schema.warnings import on_one_cpu
from bench.verdicts.regression import holm

# Columns of comparison.csv, of the candidate and of the baseline.
COLUMNS = ("efficiency", "efficiency_low", "efficiency_high")
OF_BASELINE = tuple(f"baseline_{name}" for name in COLUMNS)
# How often a comparison of equals may say that one of them scales better, over all its cases and
# candidates; below the promised 1%, because launches have heavier tails than the test assumes.
LEVEL = 0.005


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The efficiency of a case in one run, with its interval; None for ends that are not known."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Scaled:
    """A case of several replicas whose efficiency is known in a candidate and in the baseline.

    Attributes:
        on_one_cpu: whether the replicas share the cores of a CPU in either.
        is_better: whether the candidate scales better; None where the runs do not say it.
    """

    case: str
    candidate: Efficiency
    baseline: Efficiency
    on_one_cpu: bool
    is_better: bool | None = None


def scaled(
    run: MeasuredRun, baseline: MeasuredRun, judged: Collection[str], level: float = LEVEL
) -> tuple[Scaled, ...]:
    """The cases of several replicas that ended ok in both runs with an efficiency.

    Not those with another kind of scaling, whose case of one replica is another one. A case scales
    better where Welch's test of the logs of its efficiencies says so, by Holm's procedure over the
    judged cases.

    Args:
        run: the candidate.
        baseline: what it is compared with.
        judged: the cases whose ratio has an interval; the others are only listed.
        level: how often equals may be said to differ in any case.
    """
    cases = [
        case
        for case in baseline.logs
        if case in run.logs
        and case in run.efficiencies
        and case in baseline.efficiencies
        and run.rows[case]["scaling"] == baseline.rows[case]["scaling"]
    ]
    logs = {case: (run.efficiencies[case], baseline.efficiencies[case]) for case in cases}
    p = {case: welch_p(*logs[case]) for case in cases if case in judged}
    known = {case: value for case, value in p.items() if value is not None}
    differs = _differing(known, level)
    found = []
    for case in cases:
        own, its = (fmean(side) for side in logs[case])
        row, other = run.rows[case], baseline.rows[case]
        found.append(
            Scaled(
                case,
                _efficiency(row),
                _efficiency(other),
                on_one_cpu(row) or on_one_cpu(other),
                own > its if case in differs else None,
            )
        )
    return tuple(found)


def scaling_cells(case: Scaled | None) -> dict[str, Any]:
    """The cells of comparison.csv of a case; empty where its efficiencies are not compared."""
    sides = (None, None) if case is None else (case.candidate, case.baseline)
    cells: dict[str, Any] = {}
    for names, own in zip((COLUMNS, OF_BASELINE), sides, strict=True):
        values = (None,) * 3 if own is None else (own.value, own.low, own.high)
        cells |= dict(zip(names, values, strict=True))
    return cells


def _differing(p: Mapping[str, float], level: float) -> set[str]:
    """The cases that Holm's procedure says to differ."""
    if not p:
        return set()
    import numpy as np

    rejected = holm(np.array([*p.values()]), level)
    return {case for case, differs in zip(p, rejected, strict=True) if differs}


def _efficiency(row: Row) -> Efficiency:
    return Efficiency(row["efficiency"], row["efficiency_low"], row["efficiency_high"])
