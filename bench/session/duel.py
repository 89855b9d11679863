"""Compares A and B on one noisy machine: paired blocks in random order, and a few looks.

duel.json      the two sides, the settings and the seed of the orders, for resuming
a/, b/         a run's folder for each side, with all its launches
blocks.csv     one row per finished block: its order, its templates, and the control probe
control.csv    one row per reading of the control probe
verdict.json   the report
checkouts/     unpacked revisions
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

from bench.machine.devices import inventory
from bench.machine.lock import the_folder, the_machine
from bench.machine.placement import skip_reason
from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.draws import SIDES, new_entropy
from bench.schema.duel import DUEL_VERSION, DuelPlan
from bench.schema.errors import ELSEWHERE, explained
from bench.session.blocks import Blocks, EndedLaunch, same_work
from bench.session.duel_side import refuse_one_backend_for_several
from bench.session.events import DuelProgress
from bench.session.sides import fixed_side, refuse_overruled
from bench.session.under_way import Expected, sides_under_way
from bench.store.files import refuse_unwritable
from bench.store.reader import read_json
from bench.store.tables import write_json
from bench.verdicts.duel import (
    INTERRUPTED,
    DuelReport,
    Standing,
    as_json,
    control_differs,
    from_verdict,
    take_look,
)
from bench.verdicts.sequential import LAST_LOOK, PASSING
from fmnist_models import dataset
from fmnist_models.errors import UserError

# The files and folders of a duel, beside duel.json.
_WRITTEN = ("a", "b", "data", "checkouts", "blocks.csv", "control.csv", "verdict.json")


def begin(plan: DuelPlan, path: Path) -> DuelPlan:
    """Create a new duel's folder with duel.json.

    Returns:
        the plan with fixed sides and a seed of the orders.

    Raises:
        UserError: `fixed` refuses the plan, or the folder cannot be written.
    """
    plan = fixed(plan, path)
    plan = replace(plan, entropy=plan.entropy or new_entropy())
    with explained(path, ELSEWHERE):
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "duel.json", plan.to_json())
    return plan


def fixed(plan: DuelPlan, path: Path) -> DuelPlan:
    """The plan with fixed sides (`fixed_side`), after a test that the duel can be run.

    Nothing is written.

    Raises:
        UserError: the folder holds a duel or files with its names or cannot be written, `rows` is
            out of range, a side does not exist, a variable of a side is overruled in its launches,
            or a case cannot duel.
    """
    if (path / "duel.json").exists():
        raise UserError(
            f"{path} already holds a duel: name another --output, or finish it with "
            f"fmnist-bench duel --resume {path}"
        )
    refuse_unwritable(path, "--output")
    for name in _WRITTEN:
        if os.path.lexists(path / name):
            raise UserError(
                f"{path / name} is there already and belongs to no duel: name another --output"
            )
    if plan.rows is not None:
        whole = len(dataset.load(dataset.data_folder(plan.settings.data)).train_labels)
        if not 100 <= plan.rows <= whole:
            raise UserError(f"--rows {plan.rows}: must be between 100 and {whole}")
    for case in plan.cases:
        for spec in (plan.a, plan.b):
            own = spec.case_of(case)
            if reason := why_not(own, elsewhere=spec.python is not None):
                raise UserError(f"{own.id} cannot duel: {reason}")
    plan = replace(plan, a=fixed_side(plan.a), b=fixed_side(plan.b))
    for side, spec in zip(SIDES, (plan.a, plan.b), strict=True):
        refuse_one_backend_for_several(side.upper(), spec, plan.cases)
        refuse_overruled(side.upper(), spec, plan.cases, inventory())
    return plan


def why_not(case: Case, *, elsewhere: bool = False) -> str:
    """Why a case cannot duel on this machine; empty where it can (`skip_reason`)."""
    if case.loop == SKLEARN_LOOP:
        return f"a duel trains networks; leave {SKLEARN_LOOP} out of --loops"
    return skip_reason(case, inventory(), elsewhere=elsewhere) or ""


def resume(path: Path) -> DuelPlan:
    """The plan of the duel in the folder `path`.

    Raises:
        UserError: the folder holds no duel, or its plan cannot be read.
    """
    found = read_json(path / "duel.json", DuelPlan, newest=DUEL_VERSION)
    if found is None:
        raise UserError(
            f"{path} holds no duel to resume: duel.json is missing; name a duel's folder"
        )
    return found[0]


def finished(plan: DuelPlan, path: Path) -> DuelReport | None:
    """The report of a finished duel.

    None where it was stopped, a case failed, or verdict.json cannot be read; such a duel can be
    resumed.
    """
    try:
        found = read_json(path / "verdict.json", dict)
        if found is None:
            return None
        report = from_verdict(plan, found[0])
    except (UserError, ValueError, TypeError, KeyError, AttributeError):
        return None
    failed = any(standing.failure for standing in report.cases)
    return None if report.stopped or failed else report


def fight(
    plan: DuelPlan,
    path: Path,
    progress: DuelProgress,
    *,
    wait: bool = False,
    new: bool = False,
    expected: Expected | None = None,
) -> DuelReport:
    """Measure the missing blocks until all cases are decided, and write verdict.json.

    Ctrl-C ends the current launch and the duel; finished blocks are kept.

    Args:
        plan: the duel.
        path: its folder.
        progress: is told of each event.
        wait: wait for another run on this machine; otherwise another run is an error.
        new: create the folder, after the lock was taken, so that a refused duel leaves no folder.
        expected: checks each side; None accepts any.

    Raises:
        UserError: another run has the lock (unless `wait`), a side does not run this suite or is
            not the `expected` one, or a file cannot be written; with `new`, `begin` refuses the
            plan.
    """
    if new:
        # Errors are reported before it waits for another run.
        plan = fixed(plan, path)
    with the_machine(progress.waits, wait), the_folder(path):
        if new:
            plan = begin(plan, path)
        with sides_under_way(plan, path, expected) as sides:
            blocks = Blocks(
                path,
                sides,
                plan.settings,
                progress.block_voided,
                other_work=partial(_other_than, expected) if expected else None,
            )
            report = _to_the_end(plan, path, blocks, progress)
    with explained(path):
        write_json(path / "verdict.json", as_json(report))
    return report


def _other_than(expected: Expected, a: EndedLaunch, b: EndedLaunch) -> str:
    return same_work(a, b) or expected.other_work(b[0])


def _to_the_end(plan: DuelPlan, path: Path, blocks: Blocks, progress: DuelProgress) -> DuelReport:
    """Measure blocks until every case is decided, the control differs or the budget is spent."""
    standings = {case: Standing(case) for case in plan.cases}
    control: list[float] = []
    draws = plan.draws
    started = time.perf_counter()
    progress.duel_begins(plan, path)
    stopped, differs = "", False
    try:
        for number in range(LAST_LOOK):
            open_cases = [case for case, standing in standings.items() if not standing.is_over]
            if not open_cases or differs:
                break
            spent = time.perf_counter() - started
            is_new = not all(blocks.holds(case, number) for case in open_cases)
            if is_new and spent >= (plan.budget_s or math.inf):
                stopped = f"the budget of {plan.budget_s:g} s was spent"
                break
            controls = []
            open_cases = draws.cases(number, open_cases)
            for case in open_cases:
                block = blocks.measured(case, number, draws.block(case, number))
                controls.append(block.control)
                standings[case].add(block)
                if not block.failure:
                    progress.block_ends(standings[case], block.control)
            control.append(fmean(controls))
            if number + 1 in PASSING:
                differs = control_differs(control)
                for case in open_cases:
                    if not standings[case].failure:
                        take_look(standings[case], plan.sizes, len(plan.cases))
                        progress.looked(standings[case])
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    return DuelReport(plan, tuple(standings.values()), tuple(control), differs, stopped)
