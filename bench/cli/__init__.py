"""`fmnist-bench`: the command line. Every verb is a few lines; the work is in other packages.

Each verb is a module. Modules import what a verb needs only when it is called, so that `--help`
is quick.
"""

from __future__ import annotations

import click

from bench.cli import (
    baseline,
    bisect,
    check,
    compare,
    describe,
    doctor,
    duel,
    export,
    fleet,
    history,
    history_changes,
    history_page,
    profile,
    report,
    run,
)
from bench.cli.options import Verbs
from bench.session.ending import run_program


def main() -> None:
    """The console script."""
    run_program("fmnist-bench", lambda: cli(prog_name="fmnist-bench", standalone_mode=False))


def _tell_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from bench.machine.environment import version_and_revision

        click.echo(f"fmnist-bench {version_and_revision()}")
        context.exit()


@click.group(cls=Verbs)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Show the version and the revision, and exit.",
)
def cli() -> None:
    """Time the training of Keras models on Fashion-MNIST, and say how sure that is.

    Start with `fmnist-bench run --matrix quick` (about two minutes).

    Exit codes of every verb: 0, success; 1, a confirmed regression; 2, wrong use, or a case failed;
    3, inconclusive; 4, a defect of this suite; 130, 143, 129, stopped by Ctrl-C, SIGTERM, SIGHUP;
    141, the pipe that took the output was closed.
    """


for _verb in (
    run.run,
    run.list_cases,
    describe.describe,
    doctor.doctor,
    compare.compare,
    report.report,
    check.check,
    duel.duel,
    bisect.bisect,
    profile.profile,
    baseline.baseline,
    fleet.fleet,
    history.history,
    export.export,
):
    cli.add_command(_verb)
for _verb in (
    history_changes.history_changes,
    history_changes.history_ack,
    history_page.history_page,
):
    history.history.add_command(_verb)
