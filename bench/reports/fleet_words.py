"""What a check of a fleet says in words, for the terminal, the files, the picture and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bench.schema.cells import counted, few_of
from bench.schema.errors import ExitCode
from bench.verdicts.check import percent
from bench.verdicts.fleet_check import CheckedNode, FleetReport, NodeCase, Verdict

# `POWER`, for a person.
OFTEN = "nine times in ten"
MEANING = {
    ExitCode.PASSED: "alike",
    ExitCode.REGRESSION: "not alike",
    ExitCode.WRONG_USE_OR_FAILED_CASE: "a node did not finish",
    ExitCode.INCONCLUSIVE: "inconclusive",
}
# Begins the end of a summary that a picture has no room for.
LEAST_SURE = "; least sure: "
_MOST_DIFFERENCES = 4


def difference_lines(report: FleetReport) -> list[str]:
    """Which nodes are not set up as most are, and in what; nodes that differ alike together."""
    found: dict[tuple[str, ...], list[str]] = {}
    for node in report.nodes:
        if node.differs:
            found.setdefault(tuple(map(str, node.differs)), []).append(node.name)
    return [f"{few_of(names)}: {few_of(said, _MOST_DIFFERENCES)}" for said, names in found.items()]


def node_reason(node: CheckedNode) -> str:
    """Why a node is not alike, in one line; empty where there is nothing to say of it."""
    said = []
    if (worst := node.worst) is not None and worst.reason:
        more = sum(case.verdict is node.verdict for case in node.cases) - 1
        told = f"{worst.case}: {worst.reason}"
        said.append(told + (f"; {counted(more, 'more case')} {node.verdict}" if more else ""))
    if node.verdict in (Verdict.SLOW, Verdict.WORSE) and node.differs:
        said.append(f"it differs: {few_of([str(d) for d in node.differs], _MOST_DIFFERENCES)}")
    if node.verdict in (Verdict.SLOW, Verdict.UNDECIDED) and node.disturbed:
        said.append(f"disturbed: {few_of(node.disturbed)}")
    return "; ".join([*said, *node.broken])


def score_line(report: FleetReport) -> str:
    """Which nodes end with other scores than most, though not worse; empty where none does."""
    names = [
        f"{node.name} ({counted(node.other_scores, 'case')})"
        for node in report.nodes
        if node.other_scores
    ]
    return (
        f"scores that are not those of most nodes to the last digit: {few_of(names)}"
        if names
        else ""
    )


def fewer_line(report: FleetReport) -> str:
    """Which nodes were measured at fewer times than most; empty where none was."""
    names = [f"{node.name} ({node.times})" for node in report.nodes if node.times < report.times]
    return f"measured at fewer times than most: {few_of(names)}" if names else ""


def summary_lines(report: FleetReport) -> list[str]:
    """What is found and what had to be, the runs that this takes, and the verdict."""
    sizes = report.sizes
    held = f"{counted(len(report.nodes), 'node')}, most measured {_at_times(report.times)}"
    if report.kinds > 1:
        held += f", in {report.kinds} kinds of hardware that are compared each within itself"
    if report.smallest is None:
        seen = f"{held}: no case could be tested"
    else:
        node, case = least_sure(report)
        seen = (
            f"{held}: slow-downs of {percent(report.smallest)} and more are found on any node in "
            f"any case, {OFTEN}; the gate is {sizes.gate:.1%}, the margin {sizes.margin:.1%}"
            f"{LEAST_SURE}{case.case} on {node.name}"
        )
    counts = Counter(node.verdict for node in report.nodes)
    told = ", ".join(f"{counts[v]} {v}" for v in Verdict if counts[v])
    verdict = f"{MEANING[report.exit_code]} (exit {int(report.exit_code)}): {told}"
    return [
        *filter(None, (score_line(report), fewer_line(report), seen, needs_line(report))),
        verdict,
    ]


def needs_line(report: FleetReport) -> str:
    """How many runs of each node it takes to find the gate; empty where it would be found."""
    if report.smallest is not None and report.smallest <= report.sizes.gate:
        return ""
    if report.needed is None:
        if report.smallest is None:
            return (
                "at least 2 runs of each node, an hour apart, show how runs scatter: measure again "
                "with fmnist-bench fleet run, and name both folders"
            )
        return f"not even 100 runs of each node would find the gate of {report.sizes.gate:.1%}"
    # More than there are: what was seen is an estimate, and a node may scatter more than others.
    needed = max(report.needed, report.times + 1)
    return (
        f"to find the gate of {report.sizes.gate:.1%} it takes about {needed} runs of each node, "
        f"an hour apart; there are {report.times}"
    )


def least_sure(report: FleetReport) -> tuple[CheckedNode, NodeCase]:
    """The node and the case in which the least slow-down that is found is the largest.

    Raises:
        ValueError: no case was tested.
    """
    tested = ((node, case) for node in report.nodes for case in node.cases if case.speed)
    return max(tested, key=lambda pair: pair[1].speed.smallest if pair[1].speed else 0.0)


def folded(nodes: Iterable[CheckedNode]) -> tuple[list[CheckedNode], list[list[CheckedNode]]]:
    """(nodes that are shown one by one, groups of nodes that are shown as one), in their order.

    The nodes of a group are all alike, or all undecided, and are set up as most are. A node that
    seems to be slow by the gate or more is in none.
    """
    told: list[CheckedNode] = []
    groups: dict[Verdict, list[CheckedNode]] = {Verdict.UNDECIDED: [], Verdict.ALIKE: []}
    for node in nodes:
        plain = not (node.differs or node.other_scores or node.suspect)
        (groups[node.verdict] if plain and node.verdict in groups else told).append(node)
    return told, [own for own in groups.values() if own]


def slower(case: NodeCase | None) -> str:
    """The change of a case's time as text; empty where it was not tested."""
    return f"{case.speed.change:+.1%}" if case and case.speed else ""


def least(cases: Sequence[NodeCase]) -> str:
    """The least slow-down that is found in each of these cases; empty where none was tested."""
    tested = [case.speed.smallest for case in cases if case.speed]
    return percent(max(tested)) if tested else ""


def _at_times(times: int) -> str:
    return "once" if times == 1 else f"at {times} times"
