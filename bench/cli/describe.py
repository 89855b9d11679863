"""`fmnist-bench describe`: the data and the models."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import Verb
from bench.cli.verb import console_of


@click.command(cls=Verb)
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

    describe_data(data, Path(output), console_of())
    return summarize_models(models)
