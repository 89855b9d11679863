"""`fmnist-bench fleet run --across`: one run over the nodes of a cluster together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.options import plan_from, refuse_plan_options, to_stderr
from bench.cli.verb import command_line, console_of, ended
from bench.schema.matrix import ALL
from bench.schema.plan import validate_label
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.schema.plan import Plan


def across_run(
    address: str | None, local: int | None, resume: str | None, values: Mapping[str, Any]
) -> int:
    """Measure cases each of which trains over all nodes; returns the exit code.

    Args:
        address: of the cluster; None for nodes on this machine.
        local: the number of nodes that are started on this machine.
        resume: the folder of a run to finish; None for a new one.
        values: the options of a run.

    Raises:
        UserError: an option is wrong, or the run cannot be measured across the nodes.
    """
    from bench.reports.end_of_run import summarize
    from bench.reports.terminal.progress import progress_for
    from bench.session.fleet import across
    from bench.session.fleet.cluster import cluster
    from bench.session.fleet.spreadable import refuse_uneven, refuse_unspreadable
    from bench.session.preflight import new_folder_name
    from bench.store.run_folder import read_plan
    from bench.store.taken import refuse_taken

    if resume:
        refuse_plan_options(values)
        path = Path(resume)
        plan = read_plan(path)
    else:
        plan = _plan(values)
        refuse_unspreadable(plan)
        path = Path(values["output"]) if values["output"] else new_folder_name("across", plan.label)
        refuse_taken(path)
    console = console_of()
    # Within the context of a cluster, what goes to standard output is not shown.
    console.file = sys.stdout
    with cluster(address, local, any(case.own for case in plan.cases)) as found:
        nodes = across.chosen(found.nodes(), path if resume else None)
        refuse_uneven(plan, len(nodes))
        if found.sent:
            to_stderr(found.told_of_sent())
        with across.gathered(found, nodes, plan, to_stderr) as ready:
            opening = across.resume(path, ready) if resume else across.begin(plan, path, ready)
            outcome = across.execute(plan, opening, ready, progress_for(console))
    return ended(outcome.exit_code, summarize(outcome, console))


def _plan(values: Mapping[str, Any]) -> Plan:
    from bench.machine.devices import inventory, present

    replicas = values.get("replicas")
    if not replicas:
        raise UserError("--across: name the number of replicas that is spread with --replicas")
    if ALL in replicas.split(","):
        raise UserError(f"--replicas {replicas}: with --across, name numbers of replicas")
    if values.get("processes") == "one":
        raise UserError("--processes one: --across has a process for each replica: leave it out")
    validate_label(values["label"] or "")
    each = {**values, "processes": "each"}
    return plan_from(each, lambda: present(inventory()), command_line(), told=to_stderr)
