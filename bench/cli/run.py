"""`fmnist-bench run` and `list`: measures or lists the cases of a matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.options import OPTIONS, Verb, options, plan_from, refuse_plan_options
from bench.cli.verb import command_line, console_of, ended
from bench.schema.cells import counted
from bench.schema.errors import ExitCode

_LISTED = {option.name for option in OPTIONS if option.of_plan} - {"output", "label"}


@click.command(cls=Verb)
@options(lambda _: True)
def run(**values: Any) -> int:
    """Measure the cases of a matrix and write a folder of results."""
    from bench.machine.devices import inventory, present
    from bench.reports.end_of_run import summarize
    from bench.reports.terminal.progress import progress_for
    from bench.session import preflight
    from bench.session.run import execute

    console = console_of()
    if values["resume"]:
        refuse_plan_options(values)
        opening, plan = preflight.resume(Path(values["resume"]))
    else:
        plan = plan_from(values, lambda: present(inventory()), command_line())
        if values["require_all"]:
            preflight.refuse_skips(plan.cases, inventory())
        output = Path(values["output"]) if values["output"] else None
        opening = preflight.begin(plan, output)
    outcome = execute(plan, opening, progress_for(console), wait=values["wait"])
    failed = summarize(outcome, console, report=not values["no_report"])
    return ended(outcome.exit_code, failed)


@click.command(name="list", cls=Verb)
@options(lambda option: option.name in _LISTED)
def list_cases(**values: Any) -> int:
    """Show the cases that `run` would measure, what is skipped, and the time it takes."""
    from bench.machine.devices import inventory, present
    from bench.machine.placement import skip_reason
    from bench.reports.terminal.run import duration
    from bench.schema.plan import validate_label
    from bench.session.estimate import run_seconds
    from fmnist_models import dataset

    machine = inventory()
    plan = plan_from(values, lambda: present(machine), command_line())
    # `run` would refuse a wrong label or wrong data.
    validate_label(plan.label)
    dataset.load(dataset.data_folder(plan.settings.data))
    measured = []
    for case in plan.cases:
        reason = skip_reason(case, machine)
        if reason is None:
            measured.append(case)
        launches = plan.settings.launches_of(case)
        click.echo(f"{case.id}  " + (f"skipped: {reason}" if reason else f"x{launches}"))
    about = duration(run_seconds(measured, plan.settings))
    skipped = len(plan.cases) - len(measured)
    cases = counted(len(measured), "case")
    click.echo(f"{cases} to measure, {skipped} skipped; about {about}")
    return ExitCode.PASSED
