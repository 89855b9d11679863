"""What a check of a fleet prints, and its files: fleet.csv and fleet-check.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.reports import fleet_words as words
from bench.schema.cells import counted, few_of, finite, finite_fields
from bench.store.files import CHECK_JSON, Kind
from bench.store.tables import write_csv, write_json
from bench.verdicts.check import SCORE_LEVEL, SPEED_LEVEL
from bench.verdicts.fleet_check import CheckedNode, FleetReport, NodeCase, Verdict
from bench.verdicts.regression import POWER
from fmnist_models.errors import UserError

SCHEMA_VERSION = 1
FILES = ("fleet.csv", "fleet-check.json")
COLUMNS = (
    "node",
    "case",
    "verdict",
    "reason",
    "times",
    "samples_per_s",
    "slower",
    "slower_threshold",
    "slower_smallest",
    "slower_p",
    "score",
    "val_score",
    "score_worse",
    "score_smallest",
    "score_p",
    "differs",
)
_MOST_NODES = 30


def print_fleet(report: FleetReport, console: Console) -> None:
    """First the nodes that differ, then a row for each that is not alike, and the verdict."""
    told, groups = words.folded(report.nodes)
    differing = words.difference_lines(report)
    lines = [*(["not set up as most nodes:"] if differing else []), *differing]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("node", overflow="fold")
    table.add_column("slowest case", overflow="fold")
    for name in ("slower", "least"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    shown = [*([node] for node in told[:_MOST_NODES]), *groups]
    for nodes in shown:
        table.add_row(*map(Text, _cells_of(nodes)))
    console.print(table)
    left = len(told) - _MOST_NODES
    more = f"{counted(left, 'more node')} with something to say in {FILES[0]}" if left > 0 else ""
    legend = (
        "slower: time added to the median of the other nodes; least: the smallest slow-down that "
        f"is found {words.OFTEN}"
    )
    reasons = [
        f"{few_of([node.name for node in nodes], 1)}: {nodes[0].verdict}: {reason}"
        for nodes in shown
        if (reason := words.node_reason(nodes[0]))
    ]
    for line in filter(None, (more, legend, *reasons, *words.summary_lines(report))):
        console.print(Text(line), soft_wrap=True)


def _cells_of(nodes: Sequence[CheckedNode]) -> tuple[str, ...]:
    """The row of a node, or of several that are shown as one, of which the first is the slowest."""
    first = nodes[0]
    worst = first.worst
    name = first.name if len(nodes) == 1 else f"{len(nodes)} nodes, slowest {first.name}"
    least = words.least([case for node in nodes for case in node.cases])
    return name, worst.case if worst else "", words.slower(worst), least, str(first.verdict)


def write_fleet(report: FleetReport, folder: Path) -> tuple[Path, ...]:
    """Write fleet.csv and fleet-check.json into `folder`.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / FILES[0], COLUMNS, fleet_rows(report), Kind.table(COLUMNS))
        write_json(folder / FILES[1], as_json(report), CHECK_JSON)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; name another --output"
        ) from error
    return tuple(folder / name for name in FILES)


def fleet_rows(report: FleetReport) -> Iterator[dict[str, Any]]:
    """A row for each node and case with the keys `COLUMNS`; one for a node without any case."""
    for node in report.nodes:
        differs = "; ".join(map(str, node.differs))
        for case in node.cases:
            yield {"node": node.name, "differs": differs, **_cells(case)}
        if not node.cases:
            empty = dict.fromkeys(COLUMNS)
            why = "; ".join(node.broken)
            yield empty | {"node": node.name, "verdict": node.verdict, "reason": why}


def _cells(case: NodeCase) -> dict[str, Any]:
    speed, score = finite_fields(case.speed) or {}, finite_fields(case.score) or {}
    return {
        "case": case.case,
        "verdict": case.verdict,
        "reason": case.reason,
        "times": case.times,
        "samples_per_s": case.samples_per_s,
        "slower": speed.get("change"),
        "slower_threshold": speed.get("threshold"),
        "slower_smallest": speed.get("smallest"),
        "slower_p": speed.get("p"),
        "score": case.scale.name if case.val_score is not None else "",
        "val_score": case.val_score,
        "score_worse": score.get("change"),
        "score_smallest": score.get("smallest"),
        "score_p": score.get("p"),
    }


def as_json(report: FleetReport) -> dict[str, Any]:
    """The report as plain JSON values; of the cases, those that are slow, worse or not there."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": words.MEANING[report.exit_code],
        "exit_code": int(report.exit_code),
        "folders": list(report.folders),
        "gate": report.sizes.gate,
        "margin": report.sizes.margin,
        "level": SPEED_LEVEL,
        "accuracy_gate": report.sizes.accuracy_gate,
        "accuracy_margin": report.sizes.accuracy_margin,
        "accuracy_level": SCORE_LEVEL,
        "power": POWER,
        "smallest": finite(report.smallest),
        "times": report.times,
        "times_needed": report.needed,
        "kinds": report.kinds,
        "nodes": [_node_json(node) for node in report.nodes],
    }


def _node_json(node: CheckedNode) -> dict[str, Any]:
    return {
        "node": node.name,
        "verdict": str(node.verdict),
        "reason": words.node_reason(node),
        "times": node.times,
        "differs": [
            {"fact": one.fact, "value": one.own, "usual": one.usual} for one in node.differs
        ],
        "disturbed": list(node.disturbed),
        "not_read": list(node.broken),
        "other_scores": node.other_scores,
        "cases": [
            {
                "case": case.case,
                "verdict": str(case.verdict),
                "reason": case.reason,
                "speed": finite_fields(case.speed),
                "score": finite_fields(case.score),
            }
            for case in node.cases
            if case.verdict not in (Verdict.ALIKE, Verdict.UNDECIDED)
        ],
    }
