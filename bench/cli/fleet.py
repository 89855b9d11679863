"""`fmnist-bench fleet`: one plan on the nodes of a cluster, and which of them is slow."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.fleet_check import fleet_check
from bench.cli.options import Verbs, options, plan_from, refuse_plan_options, to_stderr
from bench.cli.verb import command_line, console_of
from bench.schema.errors import ExitCode
from fmnist_models.errors import UserError
from fmnist_models.own import FUNCTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.session.fleet.driver import Fleet
    from bench.store.fleet_folder import FleetFolder

# A node always waits for others on its machine, and the pages are made at home.
_NOT_TAKEN = {"require-all", "no-report", "wait", "resume"}
_MOST_NODES = 100_000
_MOST_MINUTES = 7 * 24 * 60.0


@click.group(cls=Verbs)
def fleet() -> None:
    """Measure one plan on all nodes of a Ray cluster, and find the slow one."""


@fleet.command(name="run")
@click.option("--address", metavar="ADDRESS", help="auto, HOST:PORT or ray://HOST:PORT")
@click.option("--local", type=int, metavar="N", help="start N nodes on this machine instead")
@click.option(
    "--wait-nodes",
    type=int,
    metavar="N",
    help="take in nodes that join later, until N have joined",
)
@click.option(
    "--wait-minutes",
    type=float,
    metavar="MINUTES",
    help="how long to wait for them while no other node measures [default: 10]",
)
@click.option("--resume", metavar="FOLDER", help="finish the fleet's run in this folder")
@click.option("--across", is_flag=True, help="train each case over all nodes together")
@options(lambda option: option.name not in _NOT_TAKEN)
def fleet_run(
    address: str | None,
    local: int | None,
    wait_nodes: int | None,
    wait_minutes: float | None,
    across: bool,
    **values: Any,
) -> int:
    """Measure the same cases on each node, all nodes at once.

    Each node has a process for itself, which measures one launch at a time. Its run comes home
    after each launch, into OUTPUT/nodes/NAME, which is an ordinary run: no file system is shared.
    A node that ends loses the launch under way there; the others go on, and --resume finishes the
    rest. Before the first launch the nodes are compared: they need the same fmnist-bench, versions
    and data, and clocks that agree. Nodes on one machine take turns. With --across, each case
    trains over all nodes together, and OUTPUT is one ordinary run.

    Exit codes: 0, every node has measured all cases; 2, wrong use, or a node did not, or a case
    failed; 130, interrupted.
    """
    from bench.cli.across import across_run
    from bench.store.fleet_folder import is_run

    _refuse_wrong(address, local, wait_nodes, wait_minutes)
    resume = values.pop("resume")
    if not across and not (resume and is_run(Path(resume))):
        return _each_node(address, local, (wait_nodes, wait_minutes), resume, values)
    if wait_nodes is not None:
        raise UserError(f"--wait-nodes {wait_nodes}: --across needs all its nodes from the start")
    return across_run(address, local, resume, values)


def _each_node(
    address: str | None,
    local: int | None,
    wait: tuple[int | None, float | None],
    resume: str | None,
    values: dict[str, Any],
) -> int:
    """Measure the plan on each node; returns the exit code.

    Args:
        address: of the cluster; None for nodes on this machine.
        local: the number of nodes that are started on this machine.
        wait: the number of nodes to wait for, and the minutes.
        resume: the folder of a fleet to finish; None for a new one.
        values: the options of a run.

    Raises:
        UserError: a value is wrong, there is no cluster, or its nodes are not alike.
    """
    from bench.reports.terminal.fleet import fleet_progress
    from bench.session.fleet.driver import PATIENCE_S, Fleet

    wait_nodes, wait_minutes = wait
    console = console_of()
    # Within the context of a cluster, what goes to standard output is not shown.
    console.file = sys.stdout
    progress = fleet_progress(console)
    patience_s = PATIENCE_S if wait_minutes is None else wait_minutes * 60
    with ExitStack() as connected:

        def reached(own: bool) -> Fleet:
            """The fleet, once nothing that was typed can be wrong any more."""
            from bench.session.fleet.cluster import cluster

            found = connected.enter_context(cluster(address, local, own))
            fleet = Fleet(found, progress, wait_nodes or 0, patience_s)
            fleet.gather()
            return fleet

        folder, found = _asked(values, resume, reached)
        try:
            failed = found.measure(folder)
            code = ExitCode.WRONG_USE_OR_FAILED_CASE if failed else ExitCode.PASSED
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
    click.echo(folder.path)
    return code


def _asked(
    values: dict[str, Any], resume: str | None, reached: Callable[[bool], Fleet]
) -> tuple[FleetFolder, Fleet]:
    """The folder with the plan, and the fleet that is to measure it.

    Raises:
        UserError: a value is wrong, the folder cannot be used, or there is no cluster.
    """
    from bench.schema.plan import validate_label
    from bench.session.preflight import new_folder_name
    from bench.store.fleet_folder import FleetFolder

    if resume:
        refuse_plan_options(values)
        folder = FleetFolder.resume(Path(resume))
        return folder, reached(any(case.own for case in folder.plan.cases))
    given = [*(values["models"] or "").split(","), *(values["optimizers"] or "").split(",")]
    own = any(FUNCTION.fullmatch(word.strip()) for word in given)
    path = Path(values["output"]) if values["output"] else new_folder_name("fleet", values["label"])
    # Before anything is reached, which takes seconds.
    FleetFolder.refuse_taken(path)
    validate_label(values["label"] or "")
    found: list[Fleet] = []

    def present() -> list[str]:
        """The devices of the nodes, which are reached for that."""
        found.append(reached(own))
        return found[0].devices()

    plan = plan_from(values, present, command_line(), told=to_stderr)
    if not found:
        found.append(reached(own))
    return FleetFolder(path, plan), found[0]


def _refuse_wrong(
    address: str | None, local: int | None, wait_nodes: int | None, wait_minutes: float | None
) -> None:
    from bench.session.fleet.cluster import MOST_LOCAL

    if (address is None) == (local is None):
        raise UserError("name --address of a cluster, or --local N for nodes on this machine")
    if local is not None and not 1 <= local <= MOST_LOCAL:
        raise UserError(f"--local {local}: must be between 1 and {MOST_LOCAL}")
    if wait_nodes is not None and not 1 <= wait_nodes <= _MOST_NODES:
        raise UserError(f"--wait-nodes {wait_nodes}: must be between 1 and {_MOST_NODES}")
    if wait_minutes is None:
        return
    if wait_nodes is None:
        raise UserError(f"--wait-minutes {wait_minutes:g}: it is for --wait-nodes N; name both")
    if not 0 <= wait_minutes <= _MOST_MINUTES:
        raise UserError(f"--wait-minutes {wait_minutes:g}: must be between 0 and {_MOST_MINUTES:g}")


fleet.add_command(fleet_check)
