"""The gate of `pytest bench`: checks against stored runs, before and after the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.analysis.rows import result_rows
from bench.machine import devices, environment
from bench.reports.terminal.check import write_check
from bench.schema.plan import Plan
from bench.schema.runs import MeasuredRun
from bench.schema.sizes import Sizes
from bench.store.measured import read_baseline, read_run
from bench.verdicts.check import CheckReport, check, refuse_unfit
from fmnist_models import dataset
from fmnist_models.errors import UserError


class InconclusiveWarning(UserWarning):
    """A case that could not be decided with the stored runs."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Stored runs, and the changes that are tolerated and must be found."""

    baseline: tuple[MeasuredRun, ...]
    sizes: Sizes

    @classmethod
    def open(cls, folder: Path, sizes: Sizes) -> Self:
        """A guard with the stored runs in `folder`.

        Raises:
            UserError: there is no such folder, or a run cannot be read.
            NotComparable: there are fewer than three runs, or they differ in machine or work.
        """
        guard = cls(tuple(read_baseline(folder)), sizes)
        refuse_unfit(guard.baseline, ())
        return guard

    def refuse(self, plan: Plan) -> None:
        """Refuse, before the measurement, a plan whose run `check` would refuse.

        Raises:
            UserError: no case of it is in the baseline.
            NotComparable: this is another machine, or the plan is of another data set or work.
        """
        if not any(case.id in run.logs for case in plan.cases for run in self.baseline):
            raise UserError(
                f"--baseline {self.baseline[0].path.parent}: its runs hold none of the cases "
                "selected; measure the same --matrix or the same cases"
            )
        refuse_unfit(self.baseline, [_planned(plan)])

    def check(self, folder: Path) -> tuple[CheckReport, tuple[Path, ...]]:
        """Check the finished run in `folder`, and write check.json, .xml and .md into it.

        Raises:
            UserError: the run cannot be read, or the folder cannot be written.
        """
        report = check(self.baseline, [read_run(folder)], self.sizes)
        return report, write_check(report, folder)


def _planned(plan: Plan) -> MeasuredRun:
    """A run of this plan on this machine, with the facts that are known before it is measured."""
    digest = dataset.load(dataset.data_folder(plan.settings.data)).digest
    described = environment.collect(
        label=plan.label, dataset_digest=digest, inventory=devices.inventory(), cases=plan.cases
    )
    rows = {row["case"]: row for row in result_rows(plan, (), ())}
    for case in plan.cases:
        rows[case.id]["launches"] = plan.settings.launches_of(case)
    return MeasuredRun(Path("this run"), described, rows, dict.fromkeys(rows, ()))
