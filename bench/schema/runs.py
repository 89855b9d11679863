"""A finished run in the form in which it is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from bench.schema.ceilings import Ceilings
from bench.schema.columns import Row
from bench.schema.launch import LaunchRecord, StoredRound
from bench.schema.plan import Plan
from bench.schema.warnings import of_row


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One folder of results, or one record for several runs of a machine.

    Attributes:
        rows: the rows of results.csv by case, in their order.
        logs: log seconds per sample of each launch, or of each run where there are several; by
            case, for cases that ended ok.
        unit: what one of the `logs` is of.
        scores: of the cases on data of a workload's own, the score on the validation data of each
            launch, after the documented epochs; by case. Empty for several runs.
        efficiencies: of the cases of several replicas, the log efficiency of each launch, or of
            each run where there are several; by case, for those whose row has one.
        target_logs: log seconds of training until the score reached its target, of each launch, or
            of each run where there are several; by case, for those where every launch reached it.
        whole: reads the contents of the folder; None for several runs.
    """

    path: Path
    environment: Mapping[str, Any]
    rows: Mapping[str, Row]
    logs: Mapping[str, tuple[float, ...]]
    unit: Literal["launch", "run"] = "launch"
    whole: Callable[[], WholeRun] | None = field(default=None, compare=False)
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    efficiencies: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    target_logs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The user's name for the set-up; empty where there is none."""
        return str(self.environment.get("label") or "")

    @property
    def time_utc(self) -> str:
        """When the run began, ISO 8601; empty where not known."""
        return str(self.environment.get("time_utc") or "")

    @property
    def disturbed(self) -> int:
        """Number of cases that were disturbed while they were measured."""
        return sum(any(w.disturbs for w in of_row(row)) for row in self.rows.values())

    def run_log(self, case: str) -> float:
        """Log seconds per sample of `case` in this run: the mean over its launches."""
        return fmean(self.logs[case])


@dataclass(frozen=True, slots=True)
class WholeRun:
    """The contents of a run's files, after a test that they agree with each other.

    Attributes:
        plan: the plan; None where there is no plan.json.
        rows: rows of results.csv, in order.
    """

    plan: Plan | None
    rows: Sequence[Row]
    launches: Sequence[LaunchRecord]
    rounds: Sequence[StoredRound]
    environment: Mapping[str, Any]
    ceilings: Sequence[Ceilings]


@dataclass(frozen=True, slots=True)
class NodeRuns:
    """One node of a fleet with its runs, one of each fleet's folder that holds the node.

    Attributes:
        runs: those that could be read.
        broken: why the others could not, one line each.
    """

    name: str
    runs: tuple[MeasuredRun, ...]
    broken: tuple[str, ...] = ()
