"""`fmnist-bench history page`: a history as charts, to read and to share."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.declared import SIZE_OPTIONS
from bench.cli.history import MOST_RUNS, machine_option, store_option
from bench.cli.history_changes import Wanted, control_option, judged
from bench.cli.options import Verb, options
from bench.schema.errors import ExitCode
from fmnist_models.errors import UserError

# A page of 300 cases stays below 10 MB.
_RUNS = 1000


@click.command(name="page", cls=Verb)
@store_option
@machine_option
@click.option("--since", metavar="DATE|REV", help="only runs since a date, or since a commit")
@click.option(
    "--last",
    type=click.IntRange(1, MOST_RUNS),
    default=_RUNS,
    show_default=True,
    help="of each machine only so many runs",
)
@click.option("--cases", default="*", metavar="PATTERN", help="only these, such as '*-fit-*'")
@control_option
@options(lambda _: True, SIZE_OPTIONS)
@click.option(
    "-o",
    "--output",
    default="trend.html",
    show_default=True,
    metavar="FILE",
    help="the page, or a folder for it",
)
@click.option("--picture", metavar="FILE", help="draw the largest changes as PNG too")
def history_page(
    store: str | None,
    machine: str | None,
    since: str | None,
    last: int,
    cases: str,
    control: tuple[str, ...],
    output: str,
    picture: str | None,
    **sizes: float | None,
) -> int:
    """Write trend.html: a chart for each case of each machine, with its changes marked.

    The changes are those of history changes with the same options, found among all runs, also where
    fewer are shown. The page is one file that opens from disk and needs no network. The picture has
    the cases with the largest changes.
    """
    from bench.reports.page.trend import NAME, write_trend
    from bench.reports.plots.trend import draw_trends
    from bench.reports.trend_data import trends
    from bench.store.files import PAGE, PICTURE, target_of

    page = Path(output) / NAME if Path(output).is_dir() else Path(output)
    target_of(page, PAGE)
    if picture is not None:
        target_of(Path(picture), PICTURE, "--picture")
    found = judged(Wanted(store, machine, since, cases, control, sizes))
    report = found.report
    drawn = trends(found.series, report.changes, cases, found.begun, last)
    if not drawn:
        asked = f" since {since}" if since else ""
        raise UserError(
            f"{found.place} holds no run{asked}: history list tells what is there, "
            "history add adds to it"
        )
    write_trend(drawn, report, page)
    click.echo(page)
    if picture is not None:
        draw_trends(drawn, report, Path(picture))
        click.echo(picture)
    return ExitCode.PASSED
