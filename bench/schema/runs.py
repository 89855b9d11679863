"""A finished run as it is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """One folder of results, read.

    Attributes:
        rows: the rows of results.csv by case, in their order.
        logs: by case that ended ok, the log seconds per sample of each launch, or of each
            run where it stands for several.
        unit: what one of the `logs` is.
        files: what the folder holds; None where it stands for several runs.
    """

    path: Path
    environment: Mapping[str, Any]
    rows: Mapping[str, Row]
    logs: Mapping[str, tuple[float, ...]]
    unit: Literal["launch", "run"] = "launch"
    files: WholeRun | None = None

    @property
    def label(self) -> str:
        """The user's word for the set-up; empty where there is none."""
        return str(self.environment.get("label") or "")

    @property
    def time_utc(self) -> str:
        """When the run began, ISO 8601; empty where not known."""
        return str(self.environment.get("time_utc") or "")

    @property
    def disturbed(self) -> int:
        """How many cases something disturbed while they were measured; their rows say what."""
        return sum(any(w.disturbs for w in of_row(row)) for row in self.rows.values())

    def run_log(self, case: str) -> float:
        """Log seconds per sample of `case` in this run: the mean over its launches."""
        return fmean(self.logs[case])


@dataclass(frozen=True, slots=True)
class WholeRun:
    """The files of a run, which agree with each other.

    Attributes:
        plan: None where there is no plan.json.
        rows: of results.csv, in order.
    """

    plan: Plan | None
    rows: Sequence[Row]
    launches: Sequence[LaunchRecord]
    rounds: Sequence[StoredRound]
    environment: Mapping[str, Any]
    ceilings: Sequence[Ceilings]
