"""`fmnist-bench fleet`: one plan on the nodes of a cluster, and which of them is slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.options import Verbs, options, plan_from, refuse_plan_options, to_stderr
from bench.cli.verb import command_line, console_of
from bench.schema.errors import ExitCode
from fmnist_models.errors import UserError

# A node waits for others on its machine, and the page of each is made at home.
_NOT_TAKEN = {"require-all", "no-report", "wait", "resume"}


@click.group(cls=Verbs)
def fleet() -> None:
    """Measure one plan on all nodes of a Ray cluster, and find the slow one."""


@fleet.command(name="run")
@click.option("--address", metavar="ADDRESS", help="auto, HOST:PORT or ray://HOST:PORT")
@click.option("--local", type=int, metavar="N", help="start N nodes on this machine instead")
@click.option("--resume", metavar="FOLDER", help="finish the fleet's run in this folder")
@options(lambda option: option.name not in _NOT_TAKEN)
def fleet_run(address: str | None, local: int | None, resume: str | None, **values: Any) -> int:
    """Measure the same cases on each node, all nodes at once.

    The run of each node comes home after each launch, into OUTPUT/nodes/NAME, which is an ordinary
    run. A node that ends loses the launch under way there; the others go on, and --resume finishes
    the rest.

    Exit codes: 0, every node has measured all cases; 2, wrong use, or a node did not.
    """
    from bench.machine.devices import inventory, present
    from bench.reports.terminal.fleet import FleetLines
    from bench.session.fleet import cluster as measuring
    from bench.session.preflight import new_folder_name
    from bench.store.fleet_folder import FleetFolder

    if (address is None) == (local is None):
        raise UserError("name --address of a cluster, or --local N for nodes on this machine")
    if local is not None and not 1 <= local <= measuring.MOST_LOCAL:
        raise UserError(f"--local {local}: must be between 1 and {measuring.MOST_LOCAL}")
    if resume:
        refuse_plan_options(values)
        folder = FleetFolder.resume(Path(resume))
    else:
        plan = plan_from(values, lambda: present(inventory()), command_line(), told=to_stderr)
        path = Path(values["output"]) if values["output"] else new_folder_name("fleet", plan.label)
        folder = FleetFolder.create(path, plan)
    lines = FleetLines(console_of())
    with measuring.cluster(address, local) as nodes:
        failed = measuring.measure(folder, nodes, lines)
    click.echo(folder.path)
    return ExitCode.WRONG_USE_OR_FAILED_CASE if failed else ExitCode.PASSED
