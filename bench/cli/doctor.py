"""`fmnist-bench doctor`: what this machine really does."""

from __future__ import annotations

import click

from bench.cli.options import Verb
from bench.cli.verb import console_of


@click.command(cls=Verb)
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu or gpu")
def doctor(device: str) -> int:
    """Check in a minute what this machine really does, and what would mend it."""
    from bench.reports.terminal.doctor import render
    from bench.session.doctor import diagnose

    report = diagnose(device)
    render(report, console_of())
    return report.exit_code
