"""`fmnist-bench compare`: compares runs case by case."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import Verb
from bench.cli.verb import console_of
from bench.schema.errors import ExitCode
from bench.session.ending import put_off
from bench.store import named
from bench.store.files import PICTURE, target_of
from fmnist_models.errors import UserError


@click.command(cls=Verb)
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
    same data for the same epochs, else the exit code is 3. A case whose model or data of your
    own differ between the runs is left out.
    """
    from bench.reports.plots.compare import draw_comparison
    from bench.reports.terminal.compare import print_comparison, write_comparison
    from bench.verdicts import compare as comparing

    chosen = named.named_runs([Path(run) for run in runs])
    base = None if baseline is None else named.called(baseline, chosen)
    found = comparing.compare(chosen, base)
    file = Path(output) / "comparison.csv"
    picture = file.with_suffix(".png")
    # Before the table is written: beside a table, any picture looks like an older one of the suite.
    target_of(picture, PICTURE)
    write_comparison(found, file)
    failed: list[UserError] = []
    with put_off(failed):
        draw_comparison(found, picture)
    print_comparison(found, console_of())
    for written in (file, *([] if failed else [picture])):
        click.echo(written)
    if failed:
        raise failed[0]
    return ExitCode.PASSED
