"""One run over the nodes of a Ray cluster together: each case trains on all of them.

The session is at home and writes an ordinary run; on each node an actor, which has the node for
itself, starts the processes that are to run there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench.launch.launcher import Launcher
from bench.machine.lock import the_folder
from bench.schema.fleet import Node
from bench.schema.plan import Plan
from bench.session.attempts import RunUnderWay
from bench.session.events import Progress
from bench.session.fleet.cluster import Cluster, NodeAway, NodeLost
from bench.session.fleet.driver import READY_S, named_apart
from bench.session.fleet.far import Member, Remote
from bench.session.fleet.nodes import Nodes
from bench.session.fleet.on_node import as_the_node
from bench.session.fleet.rank_host import RankFacts, RankHost
from bench.session.outcome import RunOutcome
from bench.session.preflight import Opening, refuse_unusable
from bench.store.run_folder import RunFolder
from bench.store.taken import refuse_taken
from bench.verdicts.alike import hardware_digest, refuse_unlike
from bench.verdicts.compatibility import refuse_lost_record, refuse_mixing
from fmnist_models.errors import UserError

# An actor answers so many calls at once: a worker is listened to by one and told by another, and
# launches that take turns have workers of their own.
_CALLS_AT_ONCE = 64
_ENDING_S = 20.0


@contextlib.contextmanager
def gathered(
    cluster: Cluster, nodes: Sequence[Node], plan: Plan, noted: Callable[[str], None]
) -> Iterator[Nodes]:
    """Within the context, the nodes are reserved and ready to train.

    What they have started ends with it.

    Args:
        cluster: the cluster.
        nodes: those that take part, in the order of the ranks.
        plan: what they are to train.
        noted: is told what is to be known of them.

    Raises:
        UserError: others of the cluster use a node, it cannot measure the plan, or it would not do
            the same work as the others.
    """
    remotes = [_OverRay(cluster, node) for node in nodes]
    try:
        with ThreadPoolExecutor(len(nodes)) as pool:
            told = list(pool.map(partial(_facts, plan), nodes, remotes))
        named = {node.name: facts.alike for node, facts in zip(nodes, told, strict=True)}
        for line in refuse_unlike(named):
            noted(line)
        yield Nodes(tuple(map(Member, nodes, remotes, told)))
    finally:
        for remote in remotes:
            with contextlib.suppress(NodeLost):
                remote.call("close", limit_s=_ENDING_S)


def chosen(nodes: Sequence[Node], path: Path | None) -> tuple[Node, ...]:
    """The nodes that take part, in the order of the ranks.

    Args:
        nodes: those of the cluster.
        path: the folder of a run that is resumed on as many nodes as it began on, its own where
            they are there; None for a new run, which takes all.

    Raises:
        UserError: there are fewer nodes than the run began on.
    """
    usable: dict[str, Node] = {}
    for found in nodes:
        node = named_apart(found, usable)
        usable[node.name] = node
    if path is None:
        return tuple(usable.values())
    before = [str(each["name"]) for each in (RunFolder(path).environment() or {}).get("nodes", ())]
    if not before:
        raise UserError(f"{path} was not measured across nodes: go on with run --resume {path}")
    if len(usable) < len(before):
        raise UserError(
            f"{path} began on {len(before)} nodes, and {len(usable)} are there: start others, or "
            "measure anew on these"
        )
    others = iter([node for name, node in usable.items() if name not in before])
    return tuple(usable.get(name) or next(others) for name in before)


def begin(plan: Plan, path: Path, nodes: Nodes) -> Opening:
    """Check a new run; its folder is created when the result is opened.

    Raises:
        UserError: a port is wrong, no case can be measured, or the folder already
            holds files.
    """
    refuse_unusable(plan)
    refuse_taken(path)
    nodes.refuse_taken_port()
    described = _environment(nodes)
    return Opening(path, lambda: RunFolder.create(path, plan, described))


def resume(path: Path, nodes: Nodes) -> Opening:
    """Check that an unfinished run can go on on these nodes.

    Raises:
        UserError: a fact differs that must match, or a port is taken.
    """
    nodes.refuse_taken_port()
    folder, now = RunFolder(path), _environment(nodes)
    then = folder.environment()
    refuse_lost_record(path, then, len(folder.launches()))
    if then is not None:
        # A node may be replaced by one that is alike, of which the GPUs are other ones.
        refuse_mixing(path, _without_uuids(then), _without_uuids(now))
        for member in nodes.members:
            member.remote.call("refuse_changed", path, then)

    def reopened() -> RunFolder:
        """Open the folder, and note the nodes on which the run goes on."""
        opened = RunFolder.resume(path)[0]
        opened.write_environment({**(then or now), "nodes": now["nodes"]})
        return opened

    return Opening(path, reopened)


def execute(plan: Plan, opening: Opening, nodes: Nodes, progress: Progress) -> RunOutcome:
    """Measure the launches of the plan that the folder does not have yet, on the nodes together.

    Raises:
        UserError: another run writes to the folder, a file cannot be written, or a node was lost;
            what was measured is kept.
    """
    nodes.hold(progress.waits)
    with (
        the_folder(opening.path),
        Launcher((), plan.settings.data, watch=nodes.watch, where=nodes) as launcher,
    ):
        return RunUnderWay(plan, opening.open(), progress, launcher, nodes).to_the_end()


def _environment(nodes: Nodes) -> dict[str, Any]:
    """The contents of environment.json: the first node's, and which nodes there are."""
    names = [
        {
            "name": member.node.name,
            "hardware": hardware_digest(member.facts.alike.environment),
            "interface": member.facts.interface,
        }
        for member in nodes.members
    ]
    return {**nodes.members[0].facts.alike.environment, "nodes": names}


def _without_uuids(environment: Mapping[str, Any]) -> dict[str, Any]:
    gpus = [{k: v for k, v in gpu.items() if k != "uuid"} for gpu in environment.get("gpus", ())]
    return {**environment, "gpus": gpus}


def _facts(plan: Plan, node: Node, remote: Remote) -> RankFacts:
    try:
        told: RankFacts = remote.call("facts", plan, limit_s=READY_S)
    except (UserError, NodeLost) as error:
        raise UserError(f"node {node.name}: {error}") from error
    return replace(told, alike=told.alike.heard_at(time.time()))


class _Host(RankHost):
    """A `RankHost` in a process that Ray has started.

    Args:
        address: the node's address.
    """

    def __init__(self, address: str) -> None:
        as_the_node(psutil.Process(os.getppid()))
        super().__init__(address)


class _OverRay:
    """A `RankHost` on a node of a cluster.

    Args:
        cluster: the cluster.
        node: the node, which is reserved as a whole.
    """

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._cluster = cluster
        self._process = cluster.place(node, _Host, node.address, calls_at_once=_CALLS_AT_ONCE)

    def call(self, method: str, *arguments: Any, limit_s: float | None = None, **words: Any) -> Any:
        """What one of its methods returns, or raises."""
        asked = self._cluster.ask(self._process, method, *arguments, **words)
        if not self._cluster.answered([asked], limit_s):
            raise NodeLost(f"no answer within {limit_s:g} s; others of the cluster may use it")
        try:
            return self._cluster.answer(asked)
        except NodeAway as away:
            # What trains there waits for the others meanwhile, and they for it.
            raise NodeLost("it cannot be reached") from away
