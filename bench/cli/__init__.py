"""`fmnist-bench`: what a person types. Every verb is a few lines; the work is elsewhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.cli.options import (
    AXES,
    OPTIONS,
    SIZE_OPTIONS,
    Option,
    Verbs,
    plan_from,
    refuse_plan_options,
)
from bench.schema.errors import ExitCode, UserError
from bench.session.ending import put_off, run_program
from bench.store import named
from bench.store.files import PICTURE, target_of

if TYPE_CHECKING:
    from rich.console import Console

    from bench.session.run import RunOutcome

_F = TypeVar("_F", bound=Callable[..., Any])
DUEL_OPTIONS = (*(axis.replace("_", "-") for axis in AXES), "epochs", "seed", "data", "timeout",
                "fresh", "output", "resume", "wait")  # fmt: skip
PROFILE_OPTIONS = ("matrix", *(axis.replace("_", "-") for axis in AXES), "seed", "data", "timeout",
                   "label", "output", "require-all", "wait")  # fmt: skip
_LISTED = {option.name for option in OPTIONS if option.of_plan} - {"output", "label"}


def main() -> None:
    """The console script."""
    run_program("fmnist-bench", lambda: cli(standalone_mode=False))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fmnist-bench")
def cli() -> None:
    """Time the training of Keras models on Fashion-MNIST, and say how sure that is.

    Start with `fmnist-bench run --matrix quick` (about two minutes).

    Exit codes of every verb: 0, well; 1, a confirmed regression; 2, wrong use, or a case failed;
    3, inconclusive; 4, a defect of this suite; 130, 143, 129, stopped by Ctrl-C, SIGTERM, SIGHUP;
    141, the pipe that took the output was closed.
    """


def _options(
    wanted: Callable[[Option], bool], declared: Sequence[Option] = OPTIONS
) -> Callable[[_F], _F]:
    """Add the shared options to a verb, in the order in which they are declared."""

    def decorate(function: _F) -> _F:
        """Add the wanted options to `function`."""
        for option in reversed([option for option in declared if wanted(option)]):
            if option.kind is bool:
                add = click.option(f"--{option.name}", is_flag=True, help=option.help)
            else:
                add = click.option(
                    f"--{option.name}", type=option.kind, metavar=option.metavar, help=option.help
                )
            function = add(function)
        return function

    return decorate


@cli.command()
@_options(lambda _: True)
def run(**values: Any) -> int:
    """Measure the cases of a matrix and write a folder of results."""
    from bench.machine.devices import inventory, present
    from bench.reports.terminal.progress import progress_for
    from bench.session import preflight
    from bench.session.run import execute

    console = _console()
    if values["resume"]:
        refuse_plan_options(values)
        opening, plan = preflight.resume(Path(values["resume"]))
    else:
        plan = plan_from(values, lambda: present(inventory()), _command())
        if values["require_all"]:
            preflight.refuse_skips(plan.cases, inventory())
        output = Path(values["output"]) if values["output"] else None
        opening = preflight.begin(plan, output)
    outcome = execute(plan, opening, progress_for(console), wait=values["wait"])
    failed = _show(outcome, console, report=not values["no_report"])
    return _ended(outcome.exit_code, failed)


@cli.command(name="list")
@_options(lambda option: option.name in _LISTED)
def list_cases(**values: Any) -> int:
    """Show the cases that `run` would measure, what is skipped, and the time it takes."""
    from bench.machine.devices import inventory, present
    from bench.machine.placement import skip_reason
    from bench.reports.terminal.run import duration
    from bench.schema.plan import validate_label
    from bench.session.estimate import run_seconds
    from fmnist_models import dataset

    machine = inventory()
    plan = plan_from(values, lambda: present(machine), _command())
    # What `run` would refuse.
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
    click.echo(f"{len(measured)} cases to measure, {skipped} skipped; about {about}")
    return ExitCode.PASSED


@cli.command()
@click.option("--models", metavar="LIST", help="models to summarize [default: all]")
@click.option("--data", metavar="FOLDER", help="folder of IDX files in place of the embedded ones")
@click.option(
    "--output",
    metavar="FILE",
    default="results/samples.png",
    show_default=True,
    help="picture of the first ten training images",
)
def describe(models: str | None, data: str | None, output: str) -> int:
    """Show the data's shapes and classes, draw ten images, and summarize the models."""
    from bench.reports.terminal.describe import describe_data, summarize_models

    describe_data(data, Path(output), _console())
    return summarize_models(models)


@cli.command()
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu or gpu")
def doctor(device: str) -> int:
    """Check in a minute what this machine really does, and what would mend it."""
    from bench.session.doctor import diagnose, render

    report = diagnose(device)
    render(report, _console())
    return report.exit_code


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--baseline", metavar="NAME", help="label or folder name [default: the first run]")
@click.option(
    "--output",
    metavar="FOLDER",
    default=".",
    show_default=True,
    help="where comparison.csv and comparison.png go",
)
def compare(runs: tuple[str, ...], baseline: str | None, output: str) -> int:
    """Compare runs, of one or many machines, case by case.

    RUN is the folder of a run, or a folder that holds several runs of one machine: with three
    or more a side the intervals are over runs, drift included. Runs must have trained on the
    same images for the same epochs, else the exit code is 3.
    """
    from bench.reports.plots.compare import draw_comparison
    from bench.reports.terminal.compare import print_comparison, write_comparison
    from bench.verdicts import compare as comparing

    chosen = named.named_runs([Path(run) for run in runs])
    base = None if baseline is None else named.called(baseline, chosen)
    found = comparing.compare(chosen, base)
    file = Path(output) / "comparison.csv"
    picture = file.with_suffix(".png")
    # Asked before the table is written: beside it any picture would pass for an older one of ours.
    target_of(picture, PICTURE)
    write_comparison(found, file)
    failed: list[UserError] = []
    with put_off(failed):
        draw_comparison(found, picture)
    print_comparison(found, _console())
    for written in (file, *([] if failed else [picture])):
        click.echo(written)
    if failed:
        raise failed[0]
    return ExitCode.PASSED


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--output",
    metavar="FILE",
    help="the page [default: report.html in the run's folder; with several runs, here]",
)
def report(runs: tuple[str, ...], output: str | None) -> int:
    """Write report.html: findings, table and charts of runs, to read and to share.

    RUN is the folder of a run, or a folder that holds several; the folder of a profile beside
    them adds its bars. The page is one file that opens from disk and needs no network.
    """
    from bench.reports.page.page import write_report

    click.echo(write_report([Path(run) for run in runs], Path(output) if output else None))
    return ExitCode.PASSED


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--baseline", required=True, metavar="FOLDER", help="folder of stored runs")
@_options(lambda _: True, SIZE_OPTIONS)
@click.option(
    "--output",
    metavar="FOLDER",
    help="where check.json, check.xml (JUnit) and check.md go [default: the first RUN]",
)
@click.option(
    "--confirm",
    metavar="SIDE",
    help="send regressions, and what was measured worse but could not be confirmed, through a "
    "duel of SIDE, where the baseline's software still is, against this environment, which must "
    "be the candidate's, with its images and settings; SIDE as in fmnist-bench duel",
)
@click.option("--wait", is_flag=True, help="wait while another run measures on this machine")
def check(
    runs: tuple[str, ...],
    baseline: str,
    output: str | None,
    confirm: str | None,
    wait: bool,
    **sizes: float | None,
) -> int:
    """Check a run, or several of one candidate, against stored runs of the same machine.

    A case is a regression where it is slower by more than the margin beyond doubt, or where its
    accuracy fell by more than 2 points beyond doubt; in an unchanged suite that is seen in fewer
    than 1% of checks. A case passes only where a slow-down as large as the gate, and a drop of
    accuracy as large as its gate, would have been found nine times in ten. The gate does not
    excuse: a smaller slow-down that is beyond doubt is a regression too. Runs of a candidate that
    began within an hour count as one: give it time between them, as between those of the
    baseline. The baseline is never changed.

    Exit codes: 0, no regression, and one as large as the gate would have been found; 1, a
    confirmed regression; 2, wrong use, or a case failed; 3, the baseline is too small or too
    noisy to find the gate, lacks a case, or is not comparable.
    """
    from bench.reports.terminal.check import print_check, write_check
    from bench.schema.duel import Spec
    from bench.schema.sizes import Sizes
    from bench.session.sides import fixed_side
    from bench.store.measured import read_baseline, read_run
    from bench.verdicts.check import check as test
    from bench.verdicts.check import suspects

    allowed = Sizes.of_check(sizes["gate"], sizes["margin"], sizes["accuracy_gate"])
    candidate = [read_run(Path(run)) for run in runs]
    console, folder = _console(), Path(output or runs[0])
    stored = read_baseline(Path(baseline))
    report = test(stored, candidate, allowed)
    files = write_check(report, folder)
    interrupted = False
    if confirm is not None and not suspects(report):
        # A side that is none is said all the same.
        fixed_side(Spec.parse(confirm))
    elif confirm is not None:
        from bench.reports.terminal.confirm import confirmation_lines, settled_by
        from bench.reports.terminal.duel import DuelLines, print_duel
        from bench.session.confirm import fought, prepare
        from bench.verdicts.duel import INTERRUPTED

        print_check(report, console)
        asked = prepare(report, stored, candidate, confirm, folder)
        for line in confirmation_lines(asked):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        duel = fought(asked, DuelLines(console), wait=wait)
        if duel is not None:
            print_duel(duel, console)
            interrupted = duel.stopped == INTERRUPTED
        report = settled_by(report, asked, duel)
        files = write_check(report, folder)
    print_check(report, console)
    for file in files:
        click.echo(file)
    return ExitCode.INTERRUPTED if interrupted else report.exit_code


@cli.command()
@click.option("--a", metavar="SIDE", help="what B is measured against")
@click.option("--b", metavar="SIDE", help="what is judged")
@_options(lambda option: option.name in DUEL_OPTIONS)
@_options(lambda _: True, SIZE_OPTIONS)
@click.option("--budget", type=float, metavar="S", help="seconds after which no block begins; "
              "with --resume counted from then on")  # fmt: skip
@click.option("--rows", type=int, metavar="N", help="train on the first N images only, to be quick")
def duel(**values: Any) -> int:
    """Measure A and B in turns, on a noisy machine, and say whether B is worse.

    \b
    SIDE is the word here, or any of these, with spaces between them:
      python=INTERPRETER         or the folder of a virtual environment
      checkout=FOLDER@REVISION   of a repository that holds your model, or of this suite;
                                 without @REVISION as it is now; a side stands in the
                                 checkout that holds its model
      NAME=VALUE                 an environment variable

    A block is one fresh launch of each side, in random order. After 8, 16 and 24 blocks each
    case is looked at, and ends where it is decided: B is slower by more than the margin, or its
    accuracy lower by more than 0.5 points, beyond doubt (1% for all cases and looks
    together), or a change as large as the gate is ruled out: a B that is worse by the gate
    passes in at most one duel of ten. A probe of the memory that neither side can change runs
    before every round: where it differs, there is no verdict.

    --resume finishes a duel in the orders that were drawn when it began. Of what the duel does
    only --budget may be changed then.

    Exit codes: 0, B is not worse by the gate; 1, it is worse; 2, wrong use, or a launch failed;
    3, not decided after the last block or the budget, or the probe differs.

    Default case: relu_mlp, adam, compiled, cpu, batch 512, 2 epochs.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    from bench.cli.duel_plan import plan_of_duel, resumed
    from bench.reports.terminal.duel import DuelLines, print_duel
    from bench.session import duel as duelling
    from bench.session.preflight import new_folder_name

    console, report, new = _console(), None, not values["resume"]
    if new:
        plan = plan_of_duel(values, _command())
        folder = Path(values["output"]) if values["output"] else new_folder_name("duel", None)
    else:
        folder = Path(values["resume"])
        plan = resumed(duelling.resume(folder), values, folder)
        report = duelling.finished(plan, folder)
    if report is None:
        lines = DuelLines(console)
        report = duelling.fight(plan, folder, lines, wait=values["wait"], new=new)
    else:
        click.echo(f"the duel in {folder} has ended; this is what it came to:")
    print_duel(report, console)
    if report.stopped:
        click.echo(f"go on with it: fmnist-bench duel --resume {folder} (--budget S for a new one)")
    click.echo(folder / "verdict.json")
    return report.exit_code


@cli.command()
@_options(lambda option: option.name in PROFILE_OPTIONS)
@click.option("--seconds", type=float, metavar="S", help="that the readings of a case go on for, "
              "at least [default: 30]")  # fmt: skip
def profile(**values: Any) -> int:
    """Say where the time and the memory of each case go; about a minute a case.

    Takes the selection of `run`. Each case is taken apart in a launch of its own, which no run
    ever counts: input pipeline, forward, backward, optimizer update, metrics, Python and dispatch,
    idle, and what is not explained. Beside that the operations, what holds the memory, what the
    start costs, and a trace that opens in Perfetto and TensorBoard.

    Needs the packages of the extra `profile`. --timeout limits a launch beside its readings.
    Exit codes: 0, all cases ok or skipped; 2, wrong use, or a case failed.
    """
    from bench.machine.devices import inventory, present
    from bench.reports.plots.profile import draw_profiles
    from bench.reports.terminal.profile import print_profiles
    from bench.session import profile
    from bench.session.preflight import refuse_skips

    seconds = profile.SECONDS if values["seconds"] is None else values["seconds"]
    if not 0 < seconds <= profile.MOST_SECONDS:
        most = f"at most {profile.MOST_SECONDS:g}"
        raise UserError(f"--seconds {seconds:g}: must be above 0 and {most}")
    plan = plan_from(values, lambda: present(inventory()), _command())
    if values["require_all"]:
        refuse_skips(plan.cases, inventory())
    output = Path(values["output"]) if values["output"] else None
    outcome = profile.profile(plan, output, click.echo, seconds=seconds, wait=values["wait"])
    picture, drawn = outcome.folder / "profile.png", False
    failed: list[UserError] = []
    with put_off(failed):
        drawn = draw_profiles(outcome.profiles, outcome.environment, picture)
    print_profiles(outcome, _console())
    for file in (outcome.folder / "profile.csv", *([picture, outcome.folder / "traces"] * drawn)):
        click.echo(file)
    return _ended(outcome.exit_code, failed)


def _ended(code: int, failed: Sequence[UserError]) -> int:
    """The exit code of what was shown as far as could be; that of a stop stands.

    Raises:
        UserError: the first of `failed`.
    """
    if failed and code != ExitCode.INTERRUPTED:
        raise failed[0]
    for error in failed:
        click.echo(f"fmnist-bench: error: {error}", err=True)
    return code


@cli.group()
def baseline() -> None:
    """Keep the stored runs that `check` tests against: a folder of runs of one machine."""


@baseline.command(name="add")
@click.argument("folder")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def baseline_add(folder: str, runs: tuple[str, ...]) -> int:
    """Copy runs into the baseline FOLDER, which is made where it is not there."""
    from bench.store import baselines

    for path in baselines.add(Path(folder), [Path(run) for run in runs]):
        click.echo(path)
    return ExitCode.PASSED


@baseline.command(name="list")
@click.argument("folder")
def baseline_list(folder: str) -> int:
    """Show the runs of the baseline FOLDER: name, time, cases, label."""
    from bench.store import baselines

    for line in baselines.describe(Path(folder)):
        click.echo(line)
    return ExitCode.PASSED


@baseline.command(name="remove")
@click.argument("folder")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def baseline_remove(folder: str, names: tuple[str, ...]) -> int:
    """Delete runs from the baseline FOLDER by name."""
    from bench.store import baselines

    for path in baselines.remove(Path(folder), names):
        click.echo(f"removed {path}")
    return ExitCode.PASSED


def _show(outcome: RunOutcome, console: Console, *, report: bool) -> list[UserError]:
    """The tables, the comparison with the reference, and where everything lies."""
    from bench.reports.end_of_run import summarize

    return summarize(outcome, console, report=report)


def _console() -> Console:
    from rich.console import Console

    return Console()


def _command() -> str:
    return shlex.join(["fmnist-bench", *sys.argv[1:]])


if __name__ == "__main__":
    main()
