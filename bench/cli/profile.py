"""`fmnist-bench profile`: where the time and the memory of each case go."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from bench.backends import DEFAULT
from bench.cli.declared import AXES
from bench.cli.options import Verb, options, plan_from
from bench.cli.verb import command_line, console_of, ended
from bench.schema.matrix import parse_axes
from bench.session.ending import put_off
from fmnist_models.errors import UserError

PROFILE_OPTIONS = (
    "matrix",
    *(axis.replace("_", "-") for axis in AXES),
    "processes",
    "scaling",
    "seed",
    "steps",
    "cache-stream",
    "data",
    "timeout",
    "label",
    "output",
    "require-all",
    "wait",
)


@click.command(cls=Verb)
@options(lambda option: option.name in PROFILE_OPTIONS)
@click.option(
    "--seconds",
    type=float,
    metavar="S",
    help="least seconds of the readings of a case [default: 30]",
)
def profile(**values: Any) -> int:
    """Show where the time and the memory of each case go; about a minute a case.

    Takes the options of `run` that choose cases. Each case is profiled in a separate launch, which
    is no part of a run. Its step is split into input pipeline, forward, backward, optimizer
    update, metrics, Python and dispatch, idle, and unexplained. The profile also has the
    operations, the holders of memory, the costs of the start, and a trace for Perfetto and
    TensorBoard.

    Needs the packages of the extra `profile`. --timeout limits a launch without its readings.
    Exit codes: 0, all cases ok or skipped; 2, wrong use, or a case failed.
    """
    from bench.machine.devices import inventory, present
    from bench.machine.placement import default_backend
    from bench.reports.plots.profile import draw_profiles
    from bench.reports.terminal.profile import print_profiles
    from bench.session import profile as profiling
    from bench.session.preflight import refuse_skips
    from bench.session.traces import require_extra

    seconds = profiling.SECONDS if values["seconds"] is None else values["seconds"]
    if not 0 < seconds <= profiling.MOST_SECONDS:
        most = f"at most {profiling.MOST_SECONDS:g}"
        raise UserError(f"--seconds {seconds:g}: must be above 0 and {most}")
    # Before a model of the user's is looked at, which takes seconds.
    asked = parse_axes({"backends": values["backends"]}).backends
    require_extra(asked or [default_backend() or DEFAULT])
    wait = values["wait"]
    plan = plan_from(values, lambda: present(inventory()), command_line(), wait=wait)
    if values["require_all"]:
        refuse_skips(plan, inventory())
    output = Path(values["output"]) if values["output"] else None
    outcome = profiling.profile(plan, output, click.echo, seconds=seconds, wait=wait)
    picture, drawn = outcome.folder / "profile.png", False
    failed: list[UserError] = []
    # A machine that only measures may have nothing that draws.
    can_draw = find_spec("matplotlib") is not None
    if can_draw:
        with put_off(failed):
            drawn = draw_profiles(outcome.profiles, outcome.environment, picture)
    print_profiles(outcome, console_of())
    if not can_draw:
        click.echo("not drawn, for matplotlib is not installed here")
    traces = outcome.folder / "traces"
    others = [picture] * drawn + [traces] * traces.exists()
    for file in (outcome.folder / "profile.csv", *others):
        click.echo(file)
    return ended(outcome.exit_code, failed)
