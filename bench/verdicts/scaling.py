"""Whether several replicas scale better in one run than in another, case by case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.schema.columns import Row
from bench.schema.runs import MeasuredRun
from bench.schema.warnings import on_one_cpu

# Columns of comparison.csv, of the candidate and of the baseline.
COLUMNS = ("efficiency", "efficiency_low", "efficiency_high")
OF_BASELINE = tuple(f"baseline_{name}" for name in COLUMNS)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The efficiency of a case in one run, with its interval; None for ends that are not known."""

    value: float
    low: float | None
    high: float | None

    def is_above(self, other: Efficiency) -> bool:
        """Whether the whole interval lies above the other's."""
        return self.low is not None and other.high is not None and self.low > other.high


@dataclass(frozen=True, slots=True)
class Scaled:
    """A case of several replicas whose efficiency is known in a candidate and in the baseline.

    Attributes:
        on_one_cpu: whether the replicas share the cores of a CPU in either.
    """

    case: str
    candidate: Efficiency
    baseline: Efficiency
    on_one_cpu: bool

    @property
    def is_better(self) -> bool | None:
        """Whether the candidate scales better; None where the intervals do not say it."""
        if self.candidate.is_above(self.baseline):
            return True
        return False if self.baseline.is_above(self.candidate) else None


def scaled(run: MeasuredRun, baseline: MeasuredRun) -> list[Scaled]:
    """The cases of several replicas that both runs know the efficiency of.

    Not those with another kind of scaling, whose case of one replica is another one.
    """
    found = []
    for case in baseline.logs:
        if case not in run.logs:
            continue
        row, other = run.rows[case], baseline.rows[case]
        own, its = _efficiency(row), _efficiency(other)
        if own and its and row["scaling"] == other["scaling"]:
            found.append(Scaled(case, own, its, on_one_cpu(row) or on_one_cpu(other)))
    return found


def scaling_cells(row: Row | None, other: Row | None) -> dict[str, Any]:
    """The cells of comparison.csv of a case; empty where a run does not have it."""
    of_run = {name: row.get(name) if row else None for name in COLUMNS}
    of_baseline = {f"baseline_{name}": other.get(name) if other else None for name in COLUMNS}
    return of_run | of_baseline


def _efficiency(row: Row) -> Efficiency | None:
    if row["efficiency"] is None:
        return None
    return Efficiency(row["efficiency"], row["efficiency_low"], row["efficiency_high"])
