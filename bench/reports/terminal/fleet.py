"""The progress of a fleet: a table with a line a node on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from bench.analysis import noise
from bench.reports.terminal.progress import LineProgress, TimeLeft
from bench.reports.terminal.run import duration
from bench.schema.case import Case
from bench.schema.cells import counted
from bench.schema.fleet import ENDS, REFUSED, Node, Told
from bench.schema.launch import LaunchRecord, Status
from bench.schema.plan import Plan
from bench.session.fleet.driver import FleetProgress

_REFRESHES_PER_S = 2
# Lines of the terminal for the table's head and last line, and what was printed above it.
_NOT_ROWS = 6


def fleet_progress(console: Console) -> FleetProgress:
    """A table where `console` is a terminal, lines where it is not."""
    return FleetTable(console) if console.is_terminal else FleetLines(console)


class _NodeLines(LineProgress):
    """The lines of one node, which begin with its name."""

    def __init__(self, console: Console, name: str, *, quiet: bool) -> None:
        super().__init__(console)
        self._name = name
        self._quiet = quiet

    def _print_launch(self, record: LaunchRecord, more: str) -> None:
        if not self._quiet or record.status is not Status.OK:
            super()._print_launch(record, more)

    def _print(self, line: str) -> None:
        super()._print(f"{self._name}: {line}")


class FleetLines:
    """Prints a line for each launch of each node.

    Args:
        console: where.
        quiet: print no line for a launch that ended ok.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._of_node: dict[str, _NodeLines] = {}

    def nodes_found(self, nodes: Sequence[Node]) -> None:
        """Print the nodes."""
        names = ", ".join(node.name for node in nodes)
        self.noted(f"{counted(len(nodes), 'node')}: {names}")
        for node in nodes:
            self._of_node[node.name] = _NodeLines(self._console, node.name, quiet=self._quiet)

    def node_told(self, node: Node, told: Told) -> None:
        """Print what a run of that node alone would print."""
        lines = self._of_node[node.name]
        for round_ in told.rounds:
            lines.round_ends(round_)
        if told.event == ENDS:
            self.noted(f"{node.name}: done")
        elif told.event != REFUSED:
            getattr(lines, told.event)(*told.words)

    def node_lost(self, node: Node, reason: str) -> None:
        """Print that a node does not go on, and why."""
        self.noted(f"{node.name}: does not go on: {reason}")

    def noted(self, line: str) -> None:
        """Print the line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def ends(self) -> None:
        """Do nothing: lines stay on the screen."""


@dataclass(slots=True)
class _Row:
    """What the table shows of a node."""

    now: str = "starting"
    done: int = 0
    total: int = 0
    warnings: int = 0
    left: TimeLeft | None = None
    over: bool = field(default=False)

    def told(self, told: Told) -> None:
        """Bring the row up to date."""
        words = told.words
        if told.event == "run_begins":
            plan, remaining = words
            self.begins(plan, remaining)
        elif told.event == "waits":
            self.now = f"waits: {words[0]}"
        elif told.event == "ceilings_begin":
            self.now = "the best rates of the machine"
        elif told.event in ("launch_begins", "together_begins"):
            case = words[0] if isinstance(words[0], Case) else words[0][0]
            self.now = case.id
            if self.left:
                self.left.launch_begins()
        elif told.event == "launch_voided":
            self.warnings += 1
        elif told.event == "launch_ends":
            self.launch_ends(words[0])
        elif told.event == ENDS:
            self.now, self.over = "done", True

    def begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """Count the launches."""
        self.now, self.total = "starting", len(remaining)
        self.left = TimeLeft(plan, remaining)

    def launch_ends(self, record: LaunchRecord) -> None:
        """Count a launch, and what disturbed it."""
        self.done += 1
        if self.left:
            self.left.launch_ended()
        failed = record.status not in (Status.OK, Status.SKIPPED)
        self.warnings += failed or bool(noise.matters(record.noise))


class FleetTable(FleetLines):
    """Shows a line a node, and prints above it what went wrong.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console, quiet=True)
        self._console = console
        self._rows: dict[str, _Row] = {}
        self._live = Live(
            get_renderable=self.table,
            console=console,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
            # Ray prints what nobody is to see.
            redirect_stdout=False,
        )

    def nodes_found(self, nodes: Sequence[Node]) -> None:
        """Show the nodes."""
        super().nodes_found(nodes)
        self._rows |= {node.name: _Row() for node in nodes}
        self._live.start()

    def node_told(self, node: Node, told: Told) -> None:
        """Bring the node's line up to date."""
        self._rows[node.name].told(told)
        super().node_told(node, told)

    def node_lost(self, node: Node, reason: str) -> None:
        """Show that the node does not go on."""
        row = self._rows[node.name]
        row.now, row.over, row.left = "does not go on", True, None
        row.warnings += 1
        super().node_lost(node, reason)

    def ends(self) -> None:
        """Remove the table; the lines above it stay."""
        self._live.stop()

    def table(self) -> Table:
        """The table as it is now.

        Where the terminal is too low for all nodes, those with warnings come first, then those that
        have the most to do.
        """
        table = Table(
            Column("Node", no_wrap=True, overflow="ellipsis", max_width=20),
            Column("Done", justify="right", no_wrap=True),
            Column("Left", justify="right", no_wrap=True),
            Column("Warnings", justify="right", no_wrap=True),
            Column("Now", ratio=1, no_wrap=True, overflow="ellipsis"),
            box=None,
            expand=True,
            pad_edge=False,
        )
        fit = max(1, self._console.height - _NOT_ROWS)
        names = list(self._rows)
        if len(names) > fit:
            names.sort(key=self._urgency)
        for name in names[:fit]:
            row = self._rows[name]
            left = duration(row.left.seconds()) if row.left and not row.over else ""
            done = f"{row.done}/{row.total}" if row.total else ""
            table.add_row(name, done, left, f"{row.warnings or ''}", row.now)
        if len(names) > fit:
            rest = [self._rows[name] for name in names[fit:]]
            launches = f"{sum(row.done for row in rest)}/{sum(row.total for row in rest)}"
            table.add_row(f"{len(rest)} more", launches, "", "", "")
        return table

    def _urgency(self, name: str) -> tuple[int, int]:
        row = self._rows[name]
        return -row.warnings, row.done - row.total
