"""What the picture and the page of a fleet draw: points of nodes, and ranges of alike ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.reports.fleet_words import folded
from bench.verdicts.fleet_check import CheckedNode, FleetReport, Verdict

# More rows, and more points of nodes, are no longer read; the rest is in fleet.csv.
MOST_NODES, MOST_CASES = 40, 60


@dataclass(frozen=True, slots=True)
class Spot:
    """A case of a node: how much slower it is there than on the others, as a share."""

    node: str
    case: str
    slower: float
    least: float
    found: bool


@dataclass(frozen=True, slots=True)
class Span:
    """How much slower several nodes are in a case, or one in several: the range, and its middle."""

    name: str
    lowest: float
    middle: float
    highest: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is drawn.

    Attributes:
        nodes: those with a row of their own, in order.
        spots: their cases.
        groups: nodes that are shown as one, over all their cases.
        cases: the range of the grouped nodes in each case; of all nodes where none is grouped.
        left_out: number of nodes, and of cases, that are not drawn.
    """

    nodes: tuple[CheckedNode, ...]
    spots: tuple[Spot, ...]
    groups: tuple[Span, ...]
    cases: tuple[Span, ...]
    left_out: tuple[int, int]


def drawn(report: FleetReport) -> Drawn:
    """What is drawn of a report."""
    told, groups = folded(report.nodes)
    shown = [node for node in told if any(case.speed for case in node.cases)]
    spots = [spot for node in shown[:MOST_NODES] for spot in spots_of(node)]
    plain = [node for group in groups for node in group]
    by_case = _by_case(plain or list(report.nodes))
    worst: dict[str, float] = {}
    for spot in spots:
        worst[spot.case] = max(worst.get(spot.case, spot.slower), spot.slower)
    # The cases in which a node stands out come first, where not all fit.
    order = sorted(by_case, key=lambda span: -max(worst.get(span.name, 0.0), span.highest))
    kept = {span.name for span in order[:MOST_CASES]}
    return Drawn(
        tuple(shown[:MOST_NODES]),
        tuple(spots),
        tuple(filter(None, map(_of_group, groups))),
        tuple(span for span in by_case if span.name in kept),
        (max(0, len(shown) - MOST_NODES), len(by_case) - len(kept)),
    )


def spots_of(node: CheckedNode) -> list[Spot]:
    """The tested cases of a node."""
    return [
        Spot(node.name, case.case, case.speed.change, case.speed.smallest, case.speed.regressed)
        for case in node.cases
        if case.speed
    ]


def group_name(nodes: Sequence[CheckedNode]) -> str:
    """The name of nodes that are shown as one."""
    if len(nodes) == 1:
        return nodes[0].name
    return f"{len(nodes):,} {'alike' if nodes[0].verdict is Verdict.ALIKE else 'undecided'}"


def _of_group(nodes: Sequence[CheckedNode]) -> Span | None:
    changes = [spot.slower for node in nodes for spot in spots_of(node)]
    return _span(group_name(nodes), changes) if changes else None


def _by_case(nodes: Sequence[CheckedNode]) -> list[Span]:
    found: dict[str, list[float]] = {}
    for node in nodes:
        for spot in spots_of(node):
            found.setdefault(spot.case, []).append(spot.slower)
    return [_span(case, changes) for case, changes in found.items()]


def _span(name: str, changes: Sequence[float]) -> Span:
    return Span(name, min(changes), median(changes), max(changes))
