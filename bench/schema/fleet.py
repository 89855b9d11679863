"""What a fleet's nodes are asked and tell: plain data that crosses the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.schema.bounds import Plain, Text


@dataclass(frozen=True, slots=True)
class Node(Plain):
    """One node of a cluster.

    Attributes:
        name: as the cluster names it; where two have one name, with the start of its id.
        node_id: the cluster's own name of it, which no other node has.
        address: its host name or address.
        cpus, gpus: what the cluster may use of it.
    """

    name: Text
    node_id: Text
    address: Text = ""
    cpus: int = 1
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What a node tells while it measures.

    Attributes:
        event: the kind of the event: `waits`, `begins`, `launch`, `voided`, `ends` or `refused`.
        facts: of the event, such as the case and the launch, or the reason.
        files: what is new in its run folder: by name, the place in the file and the bytes from
            there on. Place 0 replaces the file.
    """

    event: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)
