"""The output of a finished run: pictures, tables, the comparison with the reference, and paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.text import Text

from bench.machine import variables
from bench.reports.scaling_data import with_efficiency
from bench.reports.terminal.run import print_results, reference_lines, time_line
from bench.schema.cells import counted
from bench.schema.columns import Row
from bench.schema.errors import ExitCode
from bench.schema.launch import Status
from bench.session.ending import put_off
from bench.session.estimate import REFERENCE, reference_rows
from bench.session.outcome import RunOutcome
from bench.store.run_folder import RunFolder
from fmnist_models.errors import UserError

# What each of the files that are drawn needs; a machine that only measures may have none of it.
_PICTURES, _PAGE = ("matplotlib",), ("altair", "jinja2", "vl_convert")


def summarize(outcome: RunOutcome, console: Console, *, report: bool = True) -> list[UserError]:
    """Draw the pictures of a run, write its report.html, and print its tables.

    Args:
        outcome: the run.
        console: where the tables are printed.
        report: whether to write report.html.

    Returns:
        the errors of files that could not be written; the tables are printed all the same.
    """
    environment = outcome.folder.environment() or {}
    written, failed = ["results.csv", "rounds.csv", "environment.json"], list[UserError]()
    undrawn: list[str] = []
    for write, needs in (
        (_draw_comparison, _PICTURES),
        (_draw_roofline, _PICTURES),
        (_draw_scaling, _PICTURES),
        *([(_write_report, _PAGE)] if report else []),
    ):
        if missing := [name for name in needs if find_spec(name) is None]:
            undrawn += missing
            continue
        with put_off(failed):
            written += write(outcome, environment)
    print_results(outcome.rows, console)
    reference = RunFolder(REFERENCE).environment() or {}
    settings = outcome.plan.settings
    epochs = settings.epochs if settings.steps is None else None
    same_work = _work_of(epochs, environment) == _work_of(_reference_epochs(), reference)
    machine = f"{_cpu(reference)}, TensorFlow {_tensorflow(reference)}"
    for line in reference_lines(outcome.rows, reference_rows(), same_work, machine):
        console.print(Text(line), soft_wrap=True)
    if outcome.split:
        console.print(Text(time_line(outcome.split)), soft_wrap=True)
    if warning := variables.warning(environment):
        console.print(Text(warning), soft_wrap=True)
    if line := _ended_badly(outcome.rows):
        console.print(Text(line), soft_wrap=True)
    if outcome.interrupted:
        line = f"stopped: finish it with --resume {outcome.folder.path}"
        console.print(Text(line), soft_wrap=True)
    if undrawn:
        line = f"not drawn, for {', '.join(dict.fromkeys(undrawn))} is not installed here"
        console.print(Text(line), soft_wrap=True)
    for name in written:
        console.print(Text(str(outcome.folder.path / name)), soft_wrap=True)
    return failed


def _ended_badly(rows: Sequence[Row]) -> str:
    """How many cases ended neither ok nor skipped, with the exit code; empty where none did."""
    fine = (Status.OK, Status.SKIPPED)
    found = Counter(row["status"] for row in rows if row["status"] not in fine)
    if not found:
        return ""
    told = ", ".join(f"{number} {status}" for status, number in found.items())
    code = int(ExitCode.WRONG_USE_OR_FAILED_CASE)
    return f"{told} of {counted(len(rows), 'case')} (exit {code}): see the reasons above"


def _draw_comparison(outcome: RunOutcome, environment: Mapping[str, Any]) -> list[str]:
    """Draw comparison.png; its name, or no name where the run measured nothing."""
    if not outcome.rounds:
        return []
    from bench.reports.plots.run import comparison

    rounds = [{**asdict(stored), **stored.round.to_json()} for stored in outcome.rounds]
    comparison(outcome.rows, rounds, environment, outcome.folder.path / "comparison.png")
    return ["comparison.png"]


def _draw_roofline(outcome: RunOutcome, environment: Mapping[str, Any]) -> list[str]:
    if not outcome.rounds:
        return []
    from bench.reports.plots.roofline import draw_roofline

    roofline = outcome.folder.path / "roofline.png"
    drawn = draw_roofline(outcome.rows, outcome.folder.ceilings(), environment, roofline)
    return ["roofline.png"] * drawn


def _draw_scaling(outcome: RunOutcome, environment: Mapping[str, Any]) -> list[str]:
    if not with_efficiency(outcome.rows):
        return []
    from bench.reports.plots.scaling import draw_scaling

    scaling = outcome.folder.path / "scaling.png"
    drawn = draw_scaling(outcome.rows, environment, scaling)
    return ["scaling.png"] * drawn


def _write_report(outcome: RunOutcome, _: Mapping[str, Any]) -> list[str]:
    if not outcome.rows:
        return []
    from bench.reports.page.page import NAME, write_report

    write_report([outcome.folder.path])
    return [NAME]


def _work_of(epochs: int | None, environment: Mapping[str, Any]) -> tuple[Any, ...]:
    return epochs, environment.get("dataset_digest")


def _reference_epochs() -> int | None:
    return next((row["epochs"] for row in reference_rows() if row["epochs"]), None)


def _cpu(environment: Mapping[str, Any]) -> str:
    return str(environment.get("cpu", {}).get("model", "unknown CPU"))


def _tensorflow(environment: Mapping[str, Any]) -> str:
    return str(environment.get("versions", {}).get("tensorflow", "?"))
