"""`fmnist-bench doctor`: checks this machine and the framework behind Keras."""

from __future__ import annotations

import click

from bench.cli.options import Verb
from bench.cli.verb import console_of


@click.command(cls=Verb)
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu or gpu")
@click.option(
    "--backend",
    metavar="NAME",
    help="tensorflow, jax or torch  [default: the first that is installed]",
)
def doctor(device: str, backend: str | None) -> int:
    """Check this machine and its framework in about a minute, and show remedies."""
    from bench.reports.terminal.doctor import render
    from bench.session.doctor import diagnose

    report = diagnose(device, backend)
    render(report, console_of())
    return report.exit_code
