"""`fmnist-bench compare`: compares runs case by case."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.prices import PricedVerb, prices_of
from bench.cli.verb import console_of, without_collector
from bench.schema.errors import ExitCode
from bench.session.ending import put_off
from fmnist_models.errors import UserError


@click.command(cls=PricedVerb)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--baseline", metavar="NAME", help="label or folder name [default: the first run]")
@click.option(
    "--output",
    metavar="FOLDER",
    default=".",
    show_default=True,
    help="where comparison.csv and the pictures go",
)
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="NAME=PRICE/h...",
    help="of an hour of the machine of each run (or /min, /s), for what training costs there",
)
@click.option("--currency", metavar="WORD", help="of the prices, such as EUR")
@without_collector()
def compare(
    runs: tuple[str, ...],
    baseline: str | None,
    output: str,
    prices: tuple[str, ...],
    currency: str | None,
) -> int:
    """Compare runs, of one or many machines, case by case.

    RUN is the folder of a run, or a folder that holds several runs of one machine: with three
    or more a side the intervals are over runs, drift included. Runs must have trained on the
    same data for the same epochs, else the exit code is 3. A case whose model or data of your
    own differ between the runs is left out.

    With the prices of all runs, it also says how many samples a unit of money trains, what an epoch
    costs, and what the training until the target of the score costs. A price is of the whole
    machine; warm-up and evaluation are not counted.
    """
    from bench.reports.plots.compare import draw_comparison
    from bench.reports.plots.cost import draw_costs
    from bench.reports.terminal.compare import print_comparison, write_comparison
    from bench.store import named
    from bench.store.files import PICTURE, target_of
    from bench.verdicts import compare as comparing

    chosen = named.named_runs([Path(run) for run in runs])
    base = None if baseline is None else named.called(baseline, chosen)
    asked = prices_of(prices, currency, chosen)
    found = comparing.compare(chosen, base)
    file = Path(output) / "comparison.csv"
    pictures = {file.with_suffix(".png"): draw_comparison}
    if asked is not None:
        found = comparing.priced(found, asked)
        pictures[file.with_name("costs.png")] = draw_costs
    # Before the table is written: beside a table, any picture looks like an older one of the suite.
    for picture in pictures:
        target_of(picture, PICTURE)
    write_comparison(found, file)
    failed: list[UserError] = []
    written = [file]
    for picture, draw in pictures.items():
        with put_off(failed):
            draw(found, picture)
            written.append(picture)
    print_comparison(found, console_of())
    for path in written:
        click.echo(path)
    if failed:
        raise failed[0]
    return ExitCode.PASSED
