"""Drives a fleet: asks each node for its facts, lets all measure, and keeps what they tell."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bench.machine.lock import the_folder
from bench.schema.errors import ExitCode
from bench.schema.fleet import ENDS, REFUSED, Asked, Node, NodeFacts, Told
from bench.schema.plan import Plan, label_of
from bench.session.fleet.cluster import Cluster, NodeAway, NodeLost
from bench.store.fleet_folder import FleetFolder, asked_nodes
from bench.verdicts.alike import refuse_unlike
from fmnist_models.errors import UserError

_POLL_S = 1.0
# How long another user of the cluster may keep a node, before a fleet goes without it.
READY_S = 120.0
PATIENCE_S = 600.0
# A node whose network comes back within so long goes on.
AWAY_S = 120.0
_GONE = "the node has ended, or cannot be reached"


class FleetProgress(Protocol):
    """Shows the progress of a fleet."""

    def nodes_found(self, nodes: Sequence[Node]) -> None:
        """These nodes are to measure, beside those that were found before."""

    def node_told(self, node: Node, told: Told) -> None:
        """A node has told of an event."""

    def node_lost(self, node: Node, reason: str) -> None:
        """A node does not go on; what it measured so far is at home."""

    def noted(self, line: str) -> None:
        """Something is to be known that is no event of a node."""

    def ends(self) -> None:
        """Nothing follows."""


@dataclass(slots=True)
class _OnNode:
    """A node under way: its process, what it was asked last, and how many events it has told."""

    node: Node
    process: Any
    asked_at_s: float
    asked: Any = None
    question: tuple[Any, ...] = ()
    begun: bool = False
    heard: int = 0
    away_since_s: float | None = None


class Fleet:
    """One plan on the nodes of a cluster.

    Args:
        cluster: the cluster.
        progress: shows what happens.
        wanted: how many nodes there are to be; those that join later are taken in. 0 for those
            that are there.
        patience_s: seconds to wait for them, once the others have ended or before the first begins.
    """

    def __init__(
        self,
        cluster: Cluster,
        progress: FleetProgress,
        wanted: int = 0,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._cluster = cluster
        self._progress = progress
        self._wanted = wanted
        self._patience_s = patience_s
        self._under_way: dict[str, _OnNode] = {}
        self._seen: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        self._facts: dict[str, NodeFacts] = {}
        self._looked_s = 0.0
        if cluster.sent:
            progress.noted(cluster.told_of_sent())

    def gather(self) -> list[Node]:
        """Find the nodes and reserve each; returns them.

        Raises:
            UserError: the cluster has none.
        """
        until = time.monotonic() + self._patience_s
        while not (nodes := self._cluster.nodes()):
            if not self._wanted or time.monotonic() > until:
                raise UserError(
                    "the cluster has no node with processors for Ray: start one with ray start "
                    "--address, without --num-cpus 0"
                )
            time.sleep(_POLL_S)
        return [one.node for one in self._take_in(nodes)]

    def devices(self) -> list[str]:
        """The devices that any of the nodes has, in the order of the first that names them.

        Raises:
            UserError: a node does not answer.
        """
        asked = {name: self._asked(one, "devices") for name, one in self._under_way.items()}
        found = [self._first_answer(name, asked[name]) for name in asked]
        return list(dict.fromkeys(device for devices in found for device in devices))

    def measure(self, folder: FleetFolder) -> dict[str, str]:
        """Measure the fleet's plan on all nodes at once; returns why a node did not end, by name.

        What a node has measured is at home after each launch. A node that dies loses the launch
        under way; the others go on. The folder is opened only once the nodes have been compared.

        Raises:
            UserError: the nodes are not alike, another fleet writes to the folder, or it cannot be
                written.
        """
        every = list(self._under_way.values())
        for one in every:
            self._ask(one, "facts", _plan_for(folder.plan, one.node))
        for one in every:
            told: NodeFacts = self._first_answer(one.node.name, one.asked)
            self._facts[one.node.name] = told.heard_at(time.time())
        for line in refuse_unlike(self._facts):
            self._progress.noted(line)
        with the_folder(folder.path):
            folder.open()
            known = {each.node.name for each in asked_nodes(folder.path)}
            self._progress.nodes_found([one.node for one in every])
            try:
                for names in _on_one_machine([one.node for one in every]):
                    self._progress.noted(f"{names} are on one machine, so they take turns")
                for one in every:
                    self._begin(one, folder)
                self._to_the_end(folder)
                self._find_places(folder, known)
            finally:
                self._progress.ends()
        return self._failed

    def _to_the_end(self, folder: FleetFolder) -> None:
        idle_since = time.monotonic()
        while True:
            self._take_in_late(folder)
            if self._under_way:
                idle_since = time.monotonic()
            elif len(self._seen) >= self._wanted:
                return
            elif time.monotonic() - idle_since > self._patience_s:
                missing = self._wanted - len(self._seen)
                self._failed["--wait-nodes"] = f"{missing} of {self._wanted} have not joined"
                self._progress.noted(f"--wait-nodes {self._wanted}: {missing} have not joined")
                return
            else:
                time.sleep(_POLL_S)
            asked = {one.asked: one for one in self._under_way.values()}
            for ready in self._cluster.answered(list(asked), _POLL_S):
                self._hear(asked[ready], folder)
            self._give_up_busy()

    def _find_places(self, folder: FleetFolder, known: set[str]) -> None:
        """Find for each node that is gone for good a new one that has measured in its place."""
        every = asked_nodes(folder.path)
        here = set(self._seen.values())
        free = [each.node.name for each in every if each.done and each.node.name not in known]
        for gone in every:
            name = gone.node.name
            if gone.done or gone.replaced_by or name in here:
                continue
            if free:
                other = free.pop(0)
                folder.note(replace(gone, replaced_by=other))
                self._progress.noted(f"{name}: {other} has measured in its place")
            else:
                self._failed[name] = (
                    "it is not in the cluster any more: start it again, or another in its place, "
                    f"and fmnist-bench fleet run --resume {folder.path}"
                )
                self._progress.noted(f"{name}: {self._failed[name]}")

    def _hear(self, one: _OnNode, folder: FleetFolder) -> None:
        """Take the answer of a node, and ask the next."""
        name = one.node.name
        try:
            answer = self._cluster.answer(one.asked)
        except NodeAway:
            self._ask_again(one)
            return
        except NodeLost as lost:
            self._leave(one, str(lost) if self._is_there(one.node) else _GONE)
            return
        one.away_since_s = None
        if isinstance(answer, NodeFacts):
            self._compare_late(one, answer.heard_at(time.time()), folder)
            return
        if answer is None:
            self._ask(one, "tell", 1)
            return
        one.heard += 1
        folder.keep(name, answer.files)
        self._progress.node_told(one.node, answer)
        if answer.event == REFUSED:
            self._leave(one, str(answer.words[0]))
        elif answer.event == ENDS:
            del self._under_way[name]
            self._cluster.end(one.process)
            folder.note(Asked(one.node, done=answer.words[0] == ExitCode.PASSED))
            if answer.words[0] != ExitCode.PASSED:
                self._failed[name] = "a case failed"
        else:
            self._ask(one, "tell", one.heard + 1)

    def _ask_again(self, one: _OnNode) -> None:
        """Ask a node that could not be reached the same again, for a while."""
        now = time.monotonic()
        if one.away_since_s is None:
            one.away_since_s = now
        if now - one.away_since_s > AWAY_S:
            self._leave(one, _GONE)
            return
        time.sleep(_POLL_S)
        one.asked = self._asked(one, *one.question)

    def _is_there(self, node: Node) -> bool:
        return any(other.node_id == node.node_id for other in self._cluster.nodes())

    def _compare_late(self, one: _OnNode, facts: NodeFacts, folder: FleetFolder) -> None:
        """Let a node begin that joined later, where it is like the others."""
        try:
            notes = refuse_unlike({**self._facts, one.node.name: facts})
        except UserError as error:
            self._leave(one, str(error))
            return
        self._facts[one.node.name] = facts
        for line in notes:
            self._progress.noted(line)
        self._begin(one, folder)

    def _leave(self, one: _OnNode, reason: str) -> None:
        del self._under_way[one.node.name]
        self._failed[one.node.name] = reason
        self._cluster.end(one.process)
        self._progress.node_lost(one.node, reason)

    def _begin(self, one: _OnNode, folder: FleetFolder) -> None:
        folder.note(Asked(one.node))
        one.begun = True
        plan = _plan_for(folder.plan, one.node)
        self._ask(one, "begin", plan, folder.held(one.node.name))

    def _ask(self, one: _OnNode, question: str, *words: Any) -> None:
        one.question = (question, *words)
        one.asked = self._asked(one, question, *words)
        one.asked_at_s = time.monotonic()

    def _asked(self, one: _OnNode, question: str, *words: Any) -> Any:
        return self._cluster.ask(one.process, question, *words)

    def _first_answer(self, name: str, asked: Any) -> Any:
        if not self._cluster.answered([asked], READY_S):
            raise UserError(_busy(name))
        try:
            return self._cluster.answer(asked)
        except (NodeAway, NodeLost) as lost:
            raise UserError(f"node {name}: {lost or _GONE}; see why, or leave it out") from lost

    def _take_in(self, nodes: Sequence[Node]) -> list[_OnNode]:
        taken = []
        for found in nodes:
            node = named_apart(found, self._seen.values())
            self._seen[node.node_id] = node.name
            process = self._cluster.place(node)
            taken.append(_OnNode(node, process, time.monotonic()))
            self._under_way[node.name] = taken[-1]
        return taken

    def _take_in_late(self, folder: FleetFolder) -> None:
        """Take in nodes that have joined since, until there are as many as wanted."""
        now = time.monotonic()
        if len(self._seen) >= self._wanted or now - self._looked_s < _POLL_S:
            return
        self._looked_s = now
        new = [node for node in self._cluster.nodes() if node.node_id not in self._seen]
        taken = self._take_in(new[: self._wanted - len(self._seen)])
        if taken:
            self._progress.nodes_found([one.node for one in taken])
        for one in taken:
            self._ask(one, "facts", _plan_for(folder.plan, one.node))

    def _give_up_busy(self) -> None:
        for one in list(self._under_way.values()):
            if not one.begun and time.monotonic() - one.asked_at_s > READY_S:
                self._leave(one, _busy(one.node.name))


def named_apart(node: Node, names: Collection[str]) -> Node:
    """The node by a name that is none of `names`, of which each is that of one node."""
    number, name = 1, node.name
    while name in names:
        number += 1
        name = f"{node.name}-{number}"
    return replace(node, name=name)


def _plan_for(plan: Plan, node: Node) -> Plan:
    """The plan with a label that tells the nodes apart."""
    return replace(plan, label=label_of(plan.label, node.name))


def _on_one_machine(nodes: Sequence[Node]) -> list[str]:
    """The names of nodes that share an address, joined, for each such address."""
    of_address: dict[str, list[str]] = {}
    for node in nodes:
        of_address.setdefault(node.address or node.node_id, []).append(node.name)
    return [", ".join(names) for names in of_address.values() if len(names) > 1]


def _busy(name: str) -> str:
    return (
        f"node {name}: others of the cluster use it, and it was not free within {READY_S:.0f} s: "
        "wait until they have ended"
    )
