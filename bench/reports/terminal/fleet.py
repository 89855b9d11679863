"""The progress of a fleet: a line for each event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.schema.cells import counted
from bench.schema.fleet import Node, Told

if TYPE_CHECKING:
    from rich.console import Console


class FleetLines:
    """Prints a line for each event of a fleet.

    Args:
        console: where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._left: dict[str, int] = {}

    def nodes_found(self, nodes: Sequence[Node]) -> None:
        """Print the nodes."""
        names = ", ".join(node.name for node in nodes)
        self._print(f"{counted(len(nodes), 'node')}: {names}")

    def node_told(self, node: Node, told: Told) -> None:
        """Print what a user wants to know of it."""
        facts = told.facts
        if told.event == "begins":
            self._left[node.name] = int(facts["launches"])
            self._print(f"{node.name}: {counted(facts['launches'], 'launch', 'launches')}")
        elif told.event == "waits":
            self._print(f"{node.name}: waiting: {facts['reason']}")
        elif told.event == "voided":
            self._print(f"{node.name}: {facts['case']}: {facts['reason']} (measured again)")
        elif told.event == "launch":
            self._left[node.name] -= 1
            why = f": {facts['reason']}" if facts["reason"] else ""
            left = f"{self._left[node.name]} left"
            self._print(f"{node.name}: {facts['case']}: {facts['status']}{why}; {left}")
        elif told.event == "refused":
            self._print(f"{node.name}: not measured: {facts['reason']}")
        elif told.event == "ends":
            self._print(f"{node.name}: done")

    def node_lost(self, node: Node, reason: str) -> None:
        """Print that a node is lost."""
        self._print(f"{node.name}: lost: {reason}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
