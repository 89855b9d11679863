"""What a finished run shows: picture, tables, the reference beside it, and the paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from bench import variables
from bench.estimate import REFERENCE, reference_rows
from bench.report import print_results, reference_lines, time_line
from bench.run import RunOutcome
from bench.store import RunFolder


def summarize(outcome: RunOutcome, console: Console, *, report: bool = True) -> None:
    """Draw comparison.png and roofline.png, print the tables of a run, and write report.html
    unless told not to."""
    environment = outcome.folder.environment() or {}
    picture = _draw(outcome, environment)
    print_results(outcome.rows, console)
    reference = RunFolder(REFERENCE).environment() or {}
    same_work = _work_of(outcome.plan.settings.epochs, environment) == _work_of(
        _reference_epochs(), reference
    )
    machine = f"{_cpu(reference)}, TensorFlow {_tensorflow(reference)}"
    for line in reference_lines(outcome.rows, reference_rows(), same_work, machine):
        console.print(Text(line), soft_wrap=True)
    if outcome.split:
        console.print(Text(time_line(outcome.split)), soft_wrap=True)
    if warning := variables.warning(environment):
        console.print(Text(warning), soft_wrap=True)
    if outcome.interrupted:
        line = f"stopped: finish it with --resume {outcome.folder.path}"
        console.print(Text(line), soft_wrap=True)
    pages = _write_report(outcome) if report else ()
    for name in ("results.csv", "rounds.csv", "environment.json", *picture, *pages):
        console.print(Text(str(outcome.folder.path / name)), soft_wrap=True)


def _draw(outcome: RunOutcome, environment: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the pictures; none where the run measured nothing."""
    if not outcome.rounds:
        return ()
    from bench.plots import comparison
    from bench.roofplot import draw_roofline

    rounds = [{**asdict(stored), **stored.round.to_json()} for stored in outcome.rounds]
    comparison(outcome.rows, rounds, environment, outcome.folder.path / "comparison.png")
    ceilings = outcome.folder.ceilings()
    roofline = outcome.folder.path / "roofline.png"
    if draw_roofline(outcome.rows, ceilings, environment, roofline):
        return ("comparison.png", "roofline.png")
    return ("comparison.png",)


def _write_report(outcome: RunOutcome) -> tuple[str, ...]:
    if not outcome.rows:
        return ()
    from bench.htmlreport.page import NAME, write_report

    write_report([outcome.folder.path])
    return (NAME,)


def _work_of(epochs: int | None, environment: Mapping[str, Any]) -> tuple[Any, ...]:
    return epochs, environment.get("dataset_digest")


def _reference_epochs() -> int | None:
    return next((row["epochs"] for row in reference_rows() if row["epochs"]), None)


def _cpu(environment: Mapping[str, Any]) -> str:
    return str(environment.get("cpu", {}).get("model", "unknown CPU"))


def _tensorflow(environment: Mapping[str, Any]) -> str:
    return str(environment.get("versions", {}).get("tensorflow", "?"))
