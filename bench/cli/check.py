"""`fmnist-bench check`: a candidate against stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.declared import SIZE_OPTIONS
from bench.cli.options import Verb, options
from bench.cli.verb import console_of
from bench.schema.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from bench.session.confirm import Confirmation
    from bench.verdicts.check import CheckReport


@click.command(cls=Verb)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--baseline", required=True, metavar="FOLDER", help="folder of stored runs")
@options(lambda _: True, SIZE_OPTIONS)
@click.option(
    "--output",
    metavar="FOLDER",
    help="where check.json, check.xml (JUnit) and check.md go [default: the first RUN]",
)
@click.option(
    "--confirm",
    metavar="SIDE",
    help="measure regressions, and cases that were worse but not confirmed, again in a duel. "
    "SIDE is the baseline's software, named as in fmnist-bench duel; the other side is this "
    "environment, which must be the candidate's",
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
    accuracy, or another score from 0 to 1 that is good when high, fell by more than 2 points (any
    other score got worse by more than 2%) beyond doubt. In an unchanged suite that happens in fewer
    than 1% of checks. A case passes only where a slow-down as large as the gate, and a drop of
    accuracy as large as its gate, would have been found nine times in ten. A slow-down smaller than
    the gate is a regression too, where it is beyond doubt. Runs of a candidate that began within an
    hour count as one, so leave time between them, as between those of the baseline. The baseline is
    never changed.

    Exit codes: 0, no regression, and one as large as the gate would have been found; 1, a
    confirmed regression; 2, wrong use, or a case failed; 3, the baseline is too small or too
    noisy to find the gate, lacks a case, or is not comparable.
    """
    from bench.reports.terminal.check import print_check, write_check
    from bench.schema.duel import Spec
    from bench.schema.sizes import Sizes
    from bench.session.confirm import prepare
    from bench.session.sides import fixed_side
    from bench.store.measured import read_baseline, read_run
    from bench.verdicts.check import check as test
    from bench.verdicts.check import suspects

    allowed = Sizes.of_check(sizes["gate"], sizes["margin"], sizes["accuracy_gate"])
    candidate = [read_run(Path(run)) for run in runs]
    console, folder = console_of(), Path(output or runs[0])
    stored = read_baseline(Path(baseline))
    report = test(stored, candidate, allowed)
    files = write_check(report, folder)
    if confirm is not None and not suspects(report):
        # A wrong side is an error even where no duel is needed.
        fixed_side(Spec.parse(confirm))
    interrupted = False
    if confirm is not None and suspects(report):
        print_check(report, console)
        asked = prepare(report, stored, candidate, confirm, folder)
        report, interrupted = _confirmed(report, asked, console, wait=wait)
        files = write_check(report, folder)
    print_check(report, console)
    for file in files:
        click.echo(file)
    return ExitCode.INTERRUPTED if interrupted else report.exit_code


def _confirmed(
    report: CheckReport, asked: Confirmation, console: Console, *, wait: bool
) -> tuple[CheckReport, bool]:
    """Run and print the duel of the suspects.

    Returns:
        the report with the duel's verdicts, and whether Ctrl-C ended the duel.
    """
    from bench.reports.terminal.confirm import confirmation_lines, settled_by
    from bench.reports.terminal.duel import DuelLines, print_duel
    from bench.session.confirm import fought
    from bench.verdicts.duel import INTERRUPTED

    for line in confirmation_lines(asked):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    duel = fought(asked, DuelLines(console), wait=wait)
    if duel is not None:
        print_duel(duel, console)
    interrupted = duel is not None and duel.stopped == INTERRUPTED
    return settled_by(report, asked, duel), interrupted
