"""`fmnist-bench run` and `list`: measures or lists the cases of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.declared import OPTIONS, Option
from bench.cli.options import Verb, is_given, options, plan_from, refuse_plan_options, to_stderr
from bench.cli.verb import command_line, console_of, ended
from bench.schema.cells import counted
from bench.schema.errors import ExitCode
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.schema.case import Case
    from bench.schema.plan import Plan
    from bench.session.preflight import Opening

_LISTED = {option.name for option in OPTIONS if option.of_plan} - {"output", "label"}
# Not in `pytest bench`, whose tests are made before the search.
FIND_BATCH = Option(
    "find-batch",
    bool,
    "train with the largest batch that fits the device, found by doubling and bisection",
)
_WITH_FIND_BATCH = options(lambda _: True, (FIND_BATCH,))
# Not in `pytest bench`, whose runs are read by another program.
_HISTORY = Option(
    "history", str, "add the run, once it has ended, to the history in this file or URL", "STORE"
)


@click.command(cls=Verb)
@options(lambda _: True)
@_WITH_FIND_BATCH
@options(lambda _: True, (_HISTORY,))
def run(**values: Any) -> int:
    """Measure the cases of a matrix and write a folder of results."""
    from bench.cli.history import adding_to
    from bench.reports.end_of_run import summarize
    from bench.reports.terminal.progress import progress_for
    from bench.session.ending import put_off
    from bench.session.run import execute

    console = console_of()
    with adding_to(values["history"]) as add:
        plan, opening = opened(values, command_line())
        outcome = execute(plan, opening, progress_for(console), wait=values["wait"])
        failed = summarize(outcome, console, report=not values["no_report"])
        with put_off(failed):
            if not outcome.interrupted:
                add(outcome.folder.path)
    return ended(outcome.exit_code, failed)


def opened(values: Mapping[str, Any], command: str, *, quiet: bool = False) -> tuple[Plan, Opening]:
    """The plan of a new or resumed run, and its folder, which is opened under the lock.

    Args:
        values: the values by `Option.key`, as `plan_from` takes them.
        command: the command line that repeats the run.
        quiet: print nothing about models that are looked at, and about searches.

    Raises:
        UserError: a value is wrong, or the run cannot be measured.
    """
    from bench.machine.devices import inventory, present
    from bench.session import preflight
    from bench.session.inspection import looked_at_again
    from bench.store.taken import refuse_taken

    told, found = (_untold, _untold) if quiet else (to_stderr, click.echo)
    wait = bool(values.get("wait"))
    if values.get("resume"):
        refuse_plan_options(values)
        if is_given(values.get("find_batch")):
            raise UserError(
                "--find-batch: --resume takes the batch sizes from the folder; leave it out"
            )
        opening, plan = preflight.resume(Path(values["resume"]))
        return looked_at_again(plan, told, wait), opening
    output = Path(values["output"]) if values.get("output") else None
    if output:
        # Before the user's models are looked at, which takes seconds.
        refuse_taken(output)
    plan = _plan(values, lambda: present(inventory()), command, told, wait)
    if values.get("require_all"):
        preflight.refuse_skips(plan, inventory())
    opening = preflight.begin(plan, output)
    if values.get("find_batch"):
        from bench.session.find_batch import searched

        return searched(plan, opening, found, wait=wait)
    return plan, opening


def _untold(_: str) -> None:
    """The line of a quiet run goes nowhere."""


@click.command(name="list", cls=Verb)
@options(lambda option: option.name in _LISTED)
@_WITH_FIND_BATCH
def list_cases(**values: Any) -> int:
    """Show the cases that `run` would measure, what is skipped, and the time it takes."""
    from bench.machine.devices import inventory, present
    from bench.machine.placement import skip_reason
    from bench.schema.plan import validate_label
    from fmnist_models import dataset

    machine = inventory()
    # It measures nothing, so it does not wait for a run that does.
    plan = _plan(values, lambda: present(machine), command_line(), to_stderr, None)
    # `run` would refuse a wrong label or wrong data.
    validate_label(plan.label)
    dataset.refuse_wrong(dataset.data_folder(plan.settings.data))
    measured: list[Case] = []
    failed: dict[str, list[str]] = {}
    for case in plan.cases:
        launches = f"x{plan.settings.launches_of(case)}"
        if reason := plan.refused.get(case.id):
            # The reason is the model's, so it is said once.
            failed.setdefault(reason, []).append(case.id)
        elif reason := skip_reason(case, machine, plan):
            click.echo(f"{case.id}  skipped: {reason}")
        else:
            measured.append(case)
            click.echo(f"{case.id}  {launches}")
    for reason, (first, *others) in failed.items():
        more = f" and {len(others)} more" * bool(others)
        click.echo(f"{first}{more}  failed: {reason}")
    click.echo(_summary(plan, measured))
    if values["find_batch"]:
        from bench.session.find_batch import searches

        count = counted(len(searches(plan, measured)), "search", "searches")
        click.echo(f"{count} of the largest batch that fits, before the run and not in that time")
    refused = bool(plan.refused) and not measured
    return ExitCode.WRONG_USE_OR_FAILED_CASE if refused else ExitCode.PASSED


def _plan(
    values: Mapping[str, Any],
    present: Callable[[], list[str]],
    command: str,
    told: Callable[[str], None],
    wait: bool | None,
) -> Plan:
    """The plan of `run` and `list`; with `--find-batch`, the sizes are those to begin with.

    Raises:
        UserError: a value is out of range or unknown, or `--find-batch` is given with others.
    """
    if values.get("find_batch") and values.get("batch_sizes"):
        raise UserError(
            f"--batch-sizes {values['batch_sizes']}: --find-batch finds them; leave one of the two "
            "out"
        )
    if values.get("find_batch") and values.get("replicas"):
        raise UserError(
            f"--replicas {values['replicas']}: --find-batch finds the batch of one device; find it "
            "first, then name it with --replicas and --scaling weak"
        )
    plan = plan_from(values, present, command, told=told, wait=wait)
    if not values.get("find_batch"):
        return plan
    from bench.session.find_batch import to_begin_with

    return to_begin_with(plan)


def _summary(plan: Plan, measured: Sequence[Case]) -> str:
    """How many cases are measured and how long that takes, as one line."""
    from bench.reports.terminal.run import duration
    from bench.session.estimate import is_known, run_seconds

    failed = f", {len(plan.refused)} failed" if plan.refused else ""
    skipped = len(plan.cases) - len(measured) - len(plan.refused)
    time = duration(run_seconds(measured, plan.settings))
    unknown = [case for case in measured if not is_known(case)]
    about = f"at least {time}: how fast a model of your own is, is not known" * bool(unknown)
    cases = counted(len(measured), "case")
    return f"{cases} to measure, {skipped} skipped{failed}; {about or f'about {time}'}"
