"""What a fleet's nodes are asked and tell: plain data that crosses the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from bench.schema.bounds import Plain, Text
from bench.schema.launch import Round

# Events of a node beside those of `bench.session.events.Progress`.
ENDS, REFUSED = "ends", "refused"


@dataclass(frozen=True, slots=True)
class Node(Plain):
    """One node of a cluster.

    Attributes:
        name: its name in the fleet, which no other node of it has.
        node_id: the cluster's own name of it.
        address: where the cluster reaches it.
        cpus: how many the cluster may use of it.
        gpus: how many the cluster may use of it.
    """

    name: Text
    node_id: Text
    address: Text = ""
    cpus: int = 1
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Asked(Plain):
    """A node that was to measure, and how that ended.

    Attributes:
        node: the node.
        done: it has measured the whole plan.
        replaced_by: the name of the node that has measured in its place; empty where none has.
    """

    node: Node
    done: bool = False
    replaced_by: Text = ""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What must be alike on the nodes of a fleet, before the first launch.

    Attributes:
        environment: the contents that environment.json would have.
        suite: digest of the suite's own files.
        clock_s: seconds since the epoch, by the node's clock.
        ahead_s: by how much that is ahead of the clock of who asked.
        niceness: that of the processes that measure; they give way where it is above 0.
        refused: why the plan cannot be measured there; empty where it can.
    """

    environment: Mapping[str, Any] = field(default_factory=dict)
    suite: str = ""
    clock_s: float = 0.0
    ahead_s: float = 0.0
    niceness: int = 0
    refused: str = ""

    def heard_at(self, now_s: float) -> Self:
        """The facts, with how far the node's clock is ahead of the one here, to some seconds."""
        return replace(self, ahead_s=self.clock_s - now_s)


@dataclass(frozen=True, slots=True)
class Told:
    """What a node tells while it measures.

    Attributes:
        event: a method of `Progress`; or `ends`, with the exit code; or `refused`, with the reason.
        words: the arguments of the method.
        rounds: the rounds that ended before, since the last event.
        files: what is new in its run folder: by name, the place in the file and the bytes from
            there on. Place 0 replaces the file.
    """

    event: str
    words: tuple[Any, ...] = ()
    rounds: tuple[Round, ...] = ()
    files: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)
