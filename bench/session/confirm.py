"""`check --confirm`: a duel measures the cases that a check suspects.

To clear a case, the duel must measure what the candidate measured. So it takes the candidate's
cases, settings and images, and is refused where the environment has changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from bench.machine.loaded import CHECKOUT
from bench.schema.draws import SIDES
from bench.schema.duel import DuelPlan, Spec
from bench.schema.launch import LaunchRecord
from bench.schema.plan import Plan, RunSettings
from bench.schema.runs import MeasuredRun
from bench.session import preflight
from bench.session.duel import fight, finished, resume, why_not
from bench.session.events import DuelProgress
from bench.session.sides import Side, fixed_side
from bench.session.under_way import Expected
from bench.store.run_folder import read_plan
from bench.verdicts.check import CheckReport, suspects
from bench.verdicts.compatibility import first_changed_file, first_difference, refuse_changed_files
from bench.verdicts.duel import DuelReport
from bench.verdicts.facts import Purpose
from bench.verdicts.work import other_work, row_of
from fmnist_models import dataset
from fmnist_models.errors import UserError


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The duel that confirms the suspects of a check.

    Attributes:
        plan: plan of the duel; without cases where no suspect can duel.
        folder: folder of the duel.
        goes_on: the folder holds the same duel, unfinished.
        left: why a suspect cannot duel, by case; it keeps its verdict.
        expected: checks that the sides are the baseline's and the candidate's software.
    """

    plan: DuelPlan
    folder: Path
    goes_on: bool
    left: Mapping[str, str]
    expected: Expected


def prepare(
    report: CheckReport,
    baseline: Sequence[MeasuredRun],
    candidate: Sequence[MeasuredRun],
    side: str,
    output: Path,
) -> Confirmation:
    """Prepare the duel of `side` against this environment for the suspects of a check.

    Args:
        report: the check; the duel takes its margin.
        baseline: the stored runs; `side` must have the software of one of them.
        candidate: the runs that were checked.
        side: the baseline's software, named as in `fmnist-bench duel`.
        output: the folder in which the duel's folder is created.

    Raises:
        UserError: `side` names no side, a backend or this environment, or this environment or its
            images differ from the candidate's.
    """
    first_side = fixed_side(Spec.parse(side))
    if _is_here(first_side):
        raise UserError(
            f"--confirm {side}: that is this environment, so that a duel would measure one thing "
            "twice: name where the baseline's software still is"
        )
    if first_side.backend is not None:
        raise UserError(
            f"--confirm {side}: the baseline was measured with the backend of each case: leave "
            f"backend={first_side.backend} out"
        )
    names = suspects(report)
    first = read_plan(candidate[0].path)
    settings = replace(first.settings, data=_data(candidate[0], first.settings))
    here = preflight.environment_of(Plan(first.cases, settings))
    for run in candidate:
        _refuse_other_environment(run, here)
    reasons = {case.id: why_not(case) for case in first.cases if case.id in names}
    cases = tuple(case for case in first.cases if reasons.get(case.id) == "")
    sizes = report.sizes
    sides = first_side, fixed_side(Spec())
    plan = DuelPlan(*sides, cases, settings, sizes.confirming_gate, margin=sizes.margin)
    folder, goes_on = _folder(plan, output)
    left = {name: reason for name, reason in reasons.items() if reason}
    return Confirmation(plan, folder, goes_on, left, _Expected(baseline, candidate[0]))


def fought(asked: Confirmation, progress: DuelProgress, *, wait: bool) -> DuelReport | None:
    """Run the duel of the suspects to its end or until Ctrl-C; None where no suspect can duel.

    Raises:
        UserError: the duel cannot be run.
    """
    if not asked.plan.cases:
        return None
    plan = resume(asked.folder) if asked.goes_on else asked.plan
    new = not asked.goes_on
    return fight(plan, asked.folder, progress, wait=wait, new=new, expected=asked.expected)


@dataclass(frozen=True, slots=True)
class _Expected:
    """Checks that side A has the software of a stored run, and gives side B the candidate's files.

    Without this, a duel could clear software that it has not measured.
    """

    baseline: Sequence[MeasuredRun]
    candidate: MeasuredRun

    def other_work(self, record: LaunchRecord) -> str:
        """In what a launch of B did other work than the candidate; empty where it did not."""
        said = other_work(row_of(record), self.candidate.rows[record.case])
        return f"B {said} than {self.candidate.path}" if said else ""

    def code(self, label: str, side: Side, described: Mapping[str, Any]) -> Mapping[str, Any]:
        """The listings of files for a side, as of `bench.session.duel.Expected`."""
        if label != SIDES[0].upper():
            # `prepare` has checked the other facts of side B.
            return dict(self.candidate.environment.get("code") or {})
        why = ""
        for run in sorted(self.baseline, key=lambda run: run.time_utc, reverse=True):
            other = _why_other(run, side, described)
            if not other:
                return dict(run.environment.get("code") or {})
            why = why or f"{run.path} was measured with {other}"
        raise UserError(
            f"--confirm: side A is not what the baseline was measured with: {why}: name where that "
            "software still is, or measure a new baseline"
        )


def _why_other(run: MeasuredRun, side: Side, described: Mapping[str, Any]) -> str:
    """The first difference between a stored run and the side; empty where there is none."""
    found = first_difference(Purpose.CONFIRM, run.environment, described)
    if found is not None:
        fact, then, now = found
        return f"{fact.words or fact.name} {then}, the side has {now}"
    roots = {"models": side.models or Path.cwd()}
    roots |= {"suite": side.suite} if side.suite is not None else {}
    changed = first_changed_file(run.path, run.environment, roots)
    return f"another {changed[0]} than that in {changed[1]}" if changed else ""


def _is_here(side: Spec) -> bool:
    """Whether a side, from `fixed_side`, is this environment."""
    here = Path(sys.executable)
    python = Path(side.python or here)
    same_python = (python.parent, os.path.realpath(python)) == (
        here.parent,
        os.path.realpath(here),
    )
    checkout = Path(side.checkout) if side.checkout else CHECKOUT
    same_files = side.revision is None and checkout in (CHECKOUT, Path.cwd().resolve())
    return same_python and same_files and all(os.environ.get(k) == v for k, v in side.variables)


def _data(run: MeasuredRun, settings: RunSettings) -> str | None:
    """The folder of the images that a run trained on, found by their digest.

    Raises:
        UserError: neither the run's folder nor the suite has these images.
    """
    wanted = run.environment.get("dataset_digest")
    for folder in dict.fromkeys((settings.data, None)):
        try:
            # Not `data_folder(None)`, which reads an environment variable.
            digest = dataset.load(Path(folder) if folder else None).digest
        except (OSError, UserError):
            continue
        if digest == wanted:
            return str(dataset.embedded_folder()) if folder is None else folder
    short = f"{wanted[:12]}..." if isinstance(wanted, str) else "unknown"
    raise UserError(
        f"--confirm: {run.path} trained on images of SHA-256 {short}, which are not in "
        f"{settings.data or 'this suite'}: put them there, for a duel must train on the same"
    )


def _refuse_other_environment(run: MeasuredRun, here: Mapping[str, Any]) -> None:
    """Refuse a duel where this environment is not the run's.

    Raises:
        UserError: a version, a variable, a file that ran or the machine differs; the message
            names it.
    """
    found = first_difference(Purpose.RESUME, run.environment, here)
    if found is not None:
        fact, then, now = found
        raise UserError(
            f"--confirm: {run.path} was measured with {fact.words or fact.name} {then}, here it is "
            f"{now}: a duel here would not measure what was measured there; make them the same, or "
            "measure the candidate again"
        )
    roots = {"suite": CHECKOUT, "models": Path.cwd()}
    refuse_changed_files(run.path, run.environment, roots)


def _folder(plan: DuelPlan, output: Path) -> tuple[Path, bool]:
    """The folder of the duel, and whether it holds the same duel, unfinished.

    It is `duel`, or `duel-N` where that name is used.
    """
    for number in count(1):
        path = output / ("duel" if number == 1 else f"duel-{number}")
        if not path.exists():
            return path, False
        try:
            stored = resume(path)
        except UserError:
            continue
        if stored.asks_the_same(plan) and finished(stored, path) is None:
            return path, True
    raise AssertionError("numbers do not end")
