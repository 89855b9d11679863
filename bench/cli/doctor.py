"""`fmnist-bench doctor`: checks this machine and its TensorFlow."""

from __future__ import annotations

import click

from bench.cli.options import Verb
from bench.cli.verb import console_of


@click.command(cls=Verb)
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu or gpu")
def doctor(device: str) -> int:
    """Check this machine and its TensorFlow in about a minute, and show remedies."""
    from bench.reports.terminal.doctor import render
    from bench.session.doctor import diagnose

    report = diagnose(device)
    render(report, console_of())
    return report.exit_code
