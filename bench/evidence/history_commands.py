"""The commands of `python -m bench.evidence` for the history."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from bench.cli.options import Verb
from bench.evidence.own import OUTPUT
from bench.evidence.tables import write_tables

SEED = 2026


@click.command(cls=Verb)
@click.option(
    "--years",
    type=click.IntRange(min=100),
    default=1_000,
    show_default=True,
    help="years of an unchanged suite in each world",
)
@click.option(
    "--steps",
    type=click.IntRange(min=100),
    default=200,
    show_default=True,
    help="suites with each step",
)
@OUTPUT
def changes(years: int, steps: int, output: str) -> None:
    """Count false changes in years of daily runs, and how soon a step is found.

    Writes changes.csv and changes.png; a quarter of an hour.
    """
    from bench.evidence.changes import Effort, change_rows
    from bench.evidence.changes_picture import draw

    folder = Path(output)
    rows = change_rows(Effort(years, steps), SEED, click.echo)
    write_tables(folder, {"changes": rows})
    draw(rows, folder / "changes.png")
    click.echo(folder / "changes.png")


@click.command(cls=Verb)
@click.option("--ruptures", required=True, metavar="PYTHON", help="an interpreter that has it")
@click.option("--otava", required=True, metavar="PYTHON", help="an interpreter that has it")
@click.option(
    "--suites",
    type=click.IntRange(min=10),
    default=100,
    show_default=True,
    help="years of an unchanged suite, and suites with a step, in each world",
)
@OUTPUT
def candidates(ruptures: str, otava: str, suites: int, output: str) -> None:
    """Count what PELT of ruptures, and Otava, find in years without and with a change.

    Each runs in an environment of its own. Writes candidates.csv; ten minutes.
    """
    from bench.evidence.candidates import candidate_rows

    pythons = {"ruptures": ruptures, "otava": otava}
    recorded = Path(output) / "recorded.csv"
    rows = candidate_rows(pythons, suites, SEED, recorded, click.echo)
    write_tables(Path(output), {"candidates": rows})


@click.command(cls=Verb)
@click.option("--cases", type=click.IntRange(1, 300), default=300, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=1_000, show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=7, show_default=True)
@OUTPUT
def trend(cases: int, runs: int, repetitions: int, output: str) -> None:
    """Time writing the page of a history of made runs, and its first screen in a browser.

    Writes trend.csv, trend.png and trend_page.png; five minutes.
    """
    from bench.evidence.trend import trend_rows

    with tempfile.TemporaryDirectory() as folder:
        rows = trend_rows(Path(folder), (cases, runs), repetitions)
        write_tables(Path(output), {"trend": rows})
        for name in ("trend.png", "trend_page.png"):
            shutil.copy(Path(folder) / name, Path(output) / name)
            click.echo(Path(output) / name)


@click.command(cls=Verb, name="example-history")
@click.option(
    "--output",
    default="results/examples/history/made.sqlite",
    show_default=True,
    metavar="FILE",
)
def example_history(output: str) -> None:
    """Write a made history with known changes to a new file."""
    from bench.evidence.example_history import write_example

    write_example(Path(output))
    click.echo(output)


COMMANDS = (changes, candidates, trend, example_history)
