"""What a run has come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.schema.errors import ExitCode
from bench.schema.launch import LaunchRecord, Status, StoredRound
from bench.schema.plan import Plan
from bench.store.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a run.

    Attributes:
        rows: the rows of results.csv.
        interrupted: the run was stopped by Ctrl-C, and `--resume` continues it.
        split: seconds of this execution by kind of work, from `bench.analysis.rows.time_split`.
    """

    folder: RunFolder
    plan: Plan
    rows: list[dict[str, Any]]
    launches: list[LaunchRecord]
    rounds: list[StoredRound]
    interrupted: bool
    split: Mapping[str, float]

    @property
    def exit_code(self) -> ExitCode:
        """130 if interrupted; 2 where a case ended neither ok nor skipped; 0 otherwise."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        fine = {Status.OK, Status.SKIPPED}
        if all(row["status"] in fine for row in self.rows):
            return ExitCode.PASSED
        return ExitCode.WRONG_USE_OR_FAILED_CASE
