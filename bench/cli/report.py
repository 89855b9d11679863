"""`fmnist-bench report`: writes a page of runs."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import Verb
from bench.cli.verb import without_collector
from bench.schema.errors import ExitCode


@click.command(cls=Verb)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--output",
    metavar="FILE",
    help="the page [default: report.html in the run's folder; with several runs, here]",
)
@without_collector()
def report(runs: tuple[str, ...], output: str | None) -> int:
    """Write report.html: findings, table and charts of runs, to read and to share.

    RUN is the folder of a run, or a folder that holds several; the folder of a profile beside
    them adds its bars. The page is one file that opens from disk and needs no network.
    """
    from bench.reports.page.page import write_report

    click.echo(write_report([Path(run) for run in runs], Path(output) if output else None))
    return ExitCode.PASSED
