"""The page of a check of a fleet: outliers first, alike nodes folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.reports import fleet_words as words
from bench.reports.fleet_data import Drawn, drawn
from bench.reports.formatting import short_ids
from bench.reports.page.document import write_page
from bench.reports.page.finding import Finding
from bench.reports.page.fleetcharts import fleet_figures
from bench.reports.page.page import rendered
from bench.reports.page.table import Cell
from bench.schema.cells import as_cell, counted, few_of
from bench.verdicts.fleet_check import CheckedNode, FleetReport, Verdict

NAME = "fleet.html"
FILTERS = ("show", "verdict")
_TOLD, _PLAIN = "those to look at", "alike or undecided"
_MOST_FINDINGS = 12
_RECORD = ("key", "node", "case", "short", "slower", "least", "slow")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of nodes."""

    heading: str
    meaning: str
    number: bool = False
    long: bool = False


COLUMNS = (
    Column("node", "name of the node in its cluster"),
    Column("verdict", "that of its worst case"),
    Column("slowest case", "of the cases with that verdict"),
    Column("slower", "time added there to the median of the other nodes", number=True),
    Column("least", f"the smallest slow-down that is found in each case, {words.OFTEN}", True),
    Column("slow cases", "number of cases that are slower beyond doubt", number=True),
    Column("cases", "number of cases that were tested", number=True),
    Column("times", "different times at which it was measured", number=True),
    Column("differs", "in what it is not set up as most nodes are", long=True),
    Column("reason", "why it is not alike", long=True),
)


@dataclass(frozen=True, slots=True)
class NodeRow:
    """The row of a node; `shown` is whether it is one to look at."""

    key: int
    node: str
    shown: bool
    bad: bool
    facets: tuple[str, str]
    cells: tuple[Cell, ...]


def write_fleet_page(report: FleetReport, folder: Path) -> Path:
    """Write fleet.html into `folder`; returns its path.

    Raises:
        UserError: it cannot be written.
    """
    file = folder / NAME
    write_page(file, fleet_page(report))
    return file


def fleet_page(report: FleetReport) -> str:
    """The whole page as HTML."""
    shown = drawn(report)
    told, groups = words.folded(report.nodes)
    first = {node.name for node in told}
    table = [_row(key, node, shown=node.name in first) for key, node in enumerate(report.nodes)]
    figures = fleet_figures(shown)
    data = {
        "record_fields": _RECORD,
        "records": _records(report, shown),
        "round_fields": ("key",),
        "rounds": [],
        "filters": FILTERS,
    }
    return rendered(
        "fleet.html",
        data,
        figures,
        title=", ".join(report.folders),
        meaning=words.MEANING[report.exit_code],
        summary=words.summary_lines(report),
        findings=_findings(report, told, groups),
        columns=COLUMNS,
        table=table,
        told=_TOLD if told else "",
        verdicts=list(dict.fromkeys(str(node.verdict) for node in report.nodes)),
        groups=[_TOLD, _PLAIN] if told and groups else [],
        charts=figures,
        sizes=report.sizes,
    )


def _findings(
    report: FleetReport, told: Sequence[CheckedNode], groups: Sequence[Sequence[CheckedNode]]
) -> list[Finding]:
    """What differs, the nodes to look at, and those that are shown as one."""
    found = [
        Finding("warning", "Not set up as most nodes", line)
        for line in words.difference_lines(report)
    ][:_MOST_FINDINGS]
    kinds = {Verdict.ALIKE: "fact", Verdict.SLOW: "loss", Verdict.WORSE: "loss"}
    for node in [node for node in told if words.node_reason(node)][:_MOST_FINDINGS]:
        kind: Any = kinds.get(node.verdict, "warning")
        found.append(Finding(kind, f"{node.name}: {node.verdict}", words.node_reason(node)))
    for nodes in groups:
        worst = max((words.slower(node.worst) for node in nodes[:1]), default="")
        names = few_of([node.name for node in nodes], 8)
        title = f"{counted(len(nodes), 'node')} {nodes[0].verdict}"
        slowest = f"slowest: {worst} on {nodes[0].name}\n" if worst else ""
        found.append(Finding("fact", title, f"{slowest}{names}"))
    if line := words.score_line(report):
        found.append(Finding("warning", "Other scores", line))
    return found


def _row(key: int, node: CheckedNode, *, shown: bool) -> NodeRow:
    worst = node.worst
    tested = [case for case in node.cases if case.speed]
    speed = worst.speed if worst else None
    smallest = max((case.speed.smallest for case in tested if case.speed), default=None)
    slow = sum(case.verdict is Verdict.SLOW for case in node.cases)
    cells = (
        Cell(node.name),
        Cell(str(node.verdict)),
        Cell(worst.case if worst else ""),
        Cell(words.slower(worst), as_cell(speed.change) if speed else ""),
        Cell(words.least(tested), as_cell(smallest)),
        Cell(str(slow)),
        Cell(str(len(tested))),
        Cell(str(node.times)),
        Cell("; ".join(map(str, node.differs))),
        Cell(words.node_reason(node)),
    )
    group = _TOLD if shown else _PLAIN
    bad = node.verdict not in (Verdict.ALIKE, Verdict.SLOW, Verdict.WORSE)
    return NodeRow(key, node.name, shown, bad, (group, str(node.verdict)), cells)


def _records(report: FleetReport, shown: Drawn) -> list[list[Any]]:
    """A record for each case of the nodes with a row of their own in the charts."""
    keys = {node.name: key for key, node in enumerate(report.nodes)}
    short = short_ids([span.name for span in shown.cases])
    return [
        [keys[s.node], s.node, s.case, short.get(s.case), s.slower, _finite(s.least), s.found]
        for s in shown.spots
    ]


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None
