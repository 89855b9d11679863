"""Reads a run and tests that results.csv agrees with the rounds and launches that it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench.analysis.rows import measured_launches, result_rows
from bench.schema.bounds import shortened
from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.columns import Row
from bench.schema.launch import LaunchRecord, Round, Status, StoredRound
from bench.schema.plan import Plan, RunSettings
from bench.schema.runs import WholeRun
from bench.schema.score import ACCURACY
from bench.store.filetypes import RESULTS
from bench.store.reader import COPY, Cells
from bench.store.run_folder import RunFolder
from bench.verdicts.compatibility import refuse_lost_record
from fmnist_models.errors import UserError

# The figures are the same sums of the same numbers; a spreadsheet program keeps 15 digits.
_SAME_FIGURE = 1e-9
# Texts: their wording differs between versions, and warnings take long to compute.
_NOT_COMPARED = frozenset(("reason", "warnings"))


def read_whole(path: Path) -> WholeRun:
    """The run in the folder `path`, after a test that its files agree with each other.

    Where results.csv is missing but plan.json is there, the rows are computed.

    Raises:
        UserError: there is no run, a file has wrong contents, a launch that ended ok has missing
            or duplicate rounds, or a cell of results.csv does not agree with the other files.
    """
    folder = RunFolder(path)
    plan = folder.plan()
    launches, rounds = folder.launches(), folder.rounds()
    described, ceilings = folder.described()
    if plan is not None:
        refuse_lost_record(path, described, len(launches))
    environment = described or {}
    rows: Sequence[Row] = ()
    cells: Cells | None = None
    if plan is None or folder.holds_results():
        rows, cells = folder.results_cells()
    whole = plan or _planned(folder, rows, launches)
    _refuse_strangers(path, whole, launches, rounds)
    for (case, launch), reason in broken_launches(whole, launches, rounds).items():
        again = f", or fmnist-bench run --resume {path} measures the launch again" if plan else ""
        raise UserError(
            f"{path / 'rounds.csv'} was cut short or changed: {case}, launch {launch + 1}: "
            f"{reason}: {COPY}{again}"
        )
    if cells is None:
        rows = result_rows(whole, launches, rounds, ceilings)
    else:
        derived = result_rows(whole, launches, rounds, ceilings, warn=False)
        if plan is not None and _is_behind(rows, derived):
            rows = result_rows(whole, launches, rounds, ceilings)
            return WholeRun(plan, rows, launches, rounds, environment, ceilings)
        _refuse_other_rows(rows, derived, cells, planned=plan is not None)
        rows = _as_written(rows, derived)
    return WholeRun(plan, rows, launches, rounds, environment, ceilings)


def _planned(folder: RunFolder, rows: Sequence[Row], launches: Sequence[LaunchRecord]) -> Plan:
    """The plan of a run without plan.json, from its launches and the rows of its results.csv."""
    file = folder.path / "results.csv"
    if not rows:
        raise UserError(f"{file} holds no case")
    names = [f.name for f in fields(Case)]
    try:
        cases = tuple(Case(**{name: row[name] for name in names}) for row in rows)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    networks = [row for row in rows if row["loop"] != SKLEARN_LOOP]
    first = next(iter(networks), rows[0])
    known = {"epochs": first["epochs"], "seed": first["seed"], "steps": first["steps"]}
    # A workload has a target of its own, or none. A file of an earlier version has no column of the
    # score, which was the accuracy.
    works = {r.case for r in launches if r.score_target is not None or not r.images}
    targets = (
        row["score_target"]
        for row in rows
        if row["case"] not in works and row["score"] in ("", ACCURACY)
    )
    known |= {"score_target": next((target for target in targets if target is not None), None)}
    # Both tell which case of one replica a case of several is compared with, and whether it is
    # whole. All loops have one number of launches only where it was asked for.
    known |= {"scaling": next((row["scaling"] for row in rows if row["scaling"]), None)}
    counts = {row["launches"] for row in rows if row["status"] == Status.OK}
    known |= {"launches": counts.pop() if len(counts) == 1 else None}
    settings = RunSettings(
        **{name: value for name, value in known.items() if value is not None},
        own_epochs={
            case.model: row["epochs"]
            for case, row in zip(cases, rows, strict=True)
            if case.model in case.own and row["epochs"] is not None
        },
    )
    return Plan(cases, settings)


def _refuse_strangers(
    path: Path, plan: Plan, launches: Sequence[LaunchRecord], rounds: Sequence[StoredRound]
) -> None:
    cases = {case.id for case in plan.cases}
    for name, items in (("launches.jsonl", launches), ("rounds.csv", rounds)):
        strange = next((item.case for item in items if item.case not in cases), None)
        if strange is not None:
            raise UserError(
                f"{path / name} tells of {shortened(strange)}, a case that the run does not have: "
                "take the file from a copy"
            )


def _is_behind(rows: Sequence[Row], derived: Sequence[Row]) -> bool:
    """Whether results.csv lacks launches that have ended: the run was killed, or is running.

    Such a file has an `interrupted` case of which more launches have ended.
    """
    wanted = {row["case"]: row for row in derived}
    return any(
        row["status"] == Status.INTERRUPTED
        and row["case"] in wanted
        and (
            wanted[row["case"]]["status"] != Status.INTERRUPTED
            or row["launches"] < wanted[row["case"]]["launches"]
        )
        for row in rows
    )


def _refuse_other_rows(
    rows: Sequence[Row], derived: Sequence[Row], cells: Cells, *, planned: bool
) -> None:
    wanted = {row["case"]: row for row in derived}
    seen: dict[str, int] = {}
    columns = [name for name in RESULTS.columns if name in cells.columns - _NOT_COMPARED]
    for number, row in enumerate(rows):
        line = cells.lines[number]
        case = row["case"]
        if case in seen:
            raise cells.refused(line, ["case"], case, f"is in line {seen[case]} already")
        seen[case] = line
        if case not in wanted:
            raise cells.refused(line, ["case"], case, "is no case of the run")
        for column in columns:
            if not _same(row[column], wanted[case][column]) and not (
                column == "status" and not planned and wanted[case]["status"] == Status.INTERRUPTED
            ):
                raise _disagrees(cells, line, column, row[column], wanted[case][column])
    lost = next((case for case in wanted if case not in seen), None)
    if lost is not None:
        raise UserError(f"{cells.file} has no row of {lost}, which the run has: {cells.remedy}")


def _as_written(rows: Sequence[Row], derived: Sequence[Row]) -> list[Row]:
    """The rows in the file's order: status and texts from the file, all other cells computed.

    So the columns that a file of an earlier version does not have are filled too.
    """
    wanted = {row["case"]: row for row in derived}
    kept = ("status", "reason", "warnings")
    return [{**wanted[row["case"]], **{name: row[name] for name in kept}} for row in rows]


def _disagrees(cells: Cells, line: int, column: str, value: Any, wanted: Any) -> UserError:
    follows = "an empty cell" if wanted in (None, "") else shortened(wanted)
    value = None if value == "" else value
    return cells.refused(
        line,
        [column],
        shortened(value),
        f"disagrees with the run's other files, from which {follows} follows; one of "
        "them was cut short or changed",
    )


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and isinstance(wanted, int | float):
        both_none = math.isnan(value) and math.isnan(wanted)
        return both_none or math.isclose(value, wanted, rel_tol=_SAME_FIGURE)
    return bool(value == wanted)


def broken_launches(
    plan: Plan, launches: Sequence[LaunchRecord], rounds: Sequence[StoredRound]
) -> dict[tuple[str, int], str]:
    """Why launches that ended ok cannot be used, by case and launch.

    Their rounds are missing or duplicate, or differ from each other in samples or updates.
    """
    cases = {case.id: case for case in plan.cases}
    found = {}
    for case, measured in measured_launches(launches, rounds).items():
        for record, own in measured:
            known = cases.get(case)
            epochs = plan.settings.epochs_of(known) if known else plan.settings.epochs
            loop = known.loop if known else None
            reason = broken_launch(record, own, loop, epochs)
            if reason:
                found[case, record.launch] = reason
    return found


def broken_launch(
    record: LaunchRecord, rounds: Sequence[Round], loop: str | None, epochs: int
) -> str:
    """Why a launch that ended ok cannot be used; empty where it can.

    Args:
        record: the launch.
        rounds: its rounds, in order.
        loop: the loop of its case; None where the plan does not have the case.
        epochs: documented epochs of the case.
    """
    networks = loop != SKLEARN_LOOP
    return _broken(record, rounds, epochs if networks else 1, same=networks)


def _broken(record: LaunchRecord, rounds: Sequence[Round], epochs: int, *, same: bool) -> str:
    numbers = [r.round for r in rounds]
    if len(set(numbers)) < len(numbers):
        twice = next(n for place, n in enumerate(numbers) if n in numbers[:place])
        return f"round {twice} is there twice"
    if numbers != list(range(1, len(numbers) + 1)):
        lost = next((n for n in range(1, max(numbers)) if n not in numbers), None)
        return f"round {lost} is missing" if lost else "the rounds are not in order"
    least = epochs if record.rounds is None else max(record.rounds, epochs)
    if len(numbers) < least:
        return f"{len(numbers)} of {least} rounds are there"
    if record.rounds is not None and len(numbers) > record.rounds:
        return f"{len(numbers)} rounds are there, and it timed {record.rounds}"
    scores = [record.test_score, *(s for r in rounds for s in (r.train_score, r.val_score))]
    for score in scores if record.score == ACCURACY else ():
        if score is not None and not 0 <= score <= 1:
            return f"an accuracy of {score:g} is not between 0 and 1"
    first = rounds[0]
    for other in rounds[1:] if same else ():
        if (other.samples, other.updates) != (first.samples, first.updates):
            return (
                f"round {other.round} is of {other.samples} samples in {other.updates} updates, "
                f"round 1 of {first.samples} in {first.updates}"
            )
    return ""
