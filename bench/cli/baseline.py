"""`fmnist-bench baseline`: the stored runs that `check` tests against."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import Verbs
from bench.schema.errors import ExitCode


@click.group(cls=Verbs)
def baseline() -> None:
    """Keep the stored runs that `check` tests against: a folder of runs of one machine."""


@baseline.command(name="add")
@click.argument("folder")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def baseline_add(folder: str, runs: tuple[str, ...]) -> int:
    """Copy runs into the baseline FOLDER, which is created if missing."""
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
