"""Checks the nodes of a fleet against each other: speed, scores, and what differs between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean

from bench.schema.cells import counted
from bench.schema.errors import ExitCode, NotComparable
from bench.schema.launch import Status
from bench.schema.runs import NodeRuns
from bench.schema.score import OF_ACCURACY, Scale
from bench.schema.sizes import Sizes
from bench.schema.warnings import of_row
from bench.verdicts.check import Measure, percent
from bench.verdicts.check_data import score, times
from bench.verdicts.compatibility import refuse_copies
from bench.verdicts.fleet_data import same_work
from bench.verdicts.fleet_tests import Tests, test_nodes
from bench.verdicts.set_ups import Difference, differences


class Verdict(StrEnum):
    """The verdict on a case of a node, and on a node; of several, the first here is the node's."""

    SLOW = "slow"
    WORSE = "worse"
    FAILED = "failed"
    OTHER = "other work"
    MISSING = "missing"
    UNDECIDED = "undecided"
    ALIKE = "alike"


@dataclass(frozen=True, slots=True)
class NodeCase:
    """A case of a node.

    Attributes:
        reason: why the verdict is not `alike`; else empty.
        times: at how many different times it was measured.
        samples_per_s: the geometric mean over these; None where it was not measured.
        val_score: the mean over the runs; None where not measured.
        speed, score: the tests against the other nodes; None where the case was not tested.
        scale: in what the score is judged.
    """

    case: str
    verdict: Verdict
    reason: str = ""
    times: int = 0
    samples_per_s: float | None = None
    val_score: float | None = None
    speed: Measure | None = None
    score: Measure | None = None
    scale: Scale = OF_ACCURACY


@dataclass(frozen=True, slots=True)
class CheckedNode:
    """A node with its verdict, which is that of its worst case.

    Attributes:
        times: at how many different times it was measured.
        differs: in what it differs from most nodes.
        disturbed: what disturbed its cases while they were measured, each once.
        broken: why runs of it could not be read.
        other_scores: number of cases that end with another score than on most nodes.
        suspect: a case of it was slower by the gate or more, and that is not confirmed.
    """

    name: str
    verdict: Verdict
    times: int
    cases: tuple[NodeCase, ...]
    differs: tuple[Difference, ...] = ()
    disturbed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    other_scores: int = 0
    suspect: bool = False

    @property
    def worst(self) -> NodeCase | None:
        """Of the cases with the node's verdict the slowest; None where it has none."""
        own = [case for case in self.cases if case.verdict is self.verdict]
        return max(own or self.cases, key=_slower, default=None)

    @property
    def is_alike(self) -> bool:
        """Whether there is nothing to say of the node."""
        return self.verdict is Verdict.ALIKE and not self.differs and not self.other_scores


@dataclass(frozen=True, slots=True)
class FleetReport:
    """The outcome of `fleet check`.

    Attributes:
        folders: names of the fleets' folders.
        nodes: those with something to say first, by verdict and how slow they are.
        sizes: what was tolerated, and what had to be found.
        times: at how many different times most nodes were measured.
        needed: the runs of each node with which the gate would be found; None where not known.
        kinds: number of kinds of hardware that were compared each within itself.
    """

    folders: tuple[str, ...]
    nodes: tuple[CheckedNode, ...]
    sizes: Sizes
    times: int
    needed: int | None
    kinds: int = 1

    @property
    def smallest(self) -> float | None:
        """The least slow-down that is found on any node in any case; None where none was tested."""
        tested = (case.speed.smallest for node in self.nodes for case in node.cases if case.speed)
        return max(tested, default=None)

    @property
    def exit_code(self) -> ExitCode:
        """1 for a slow node, else 2 for one that failed, else 3 for an undecided one, else 0."""
        found = {node.verdict for node in self.nodes}
        if found & {Verdict.SLOW, Verdict.WORSE}:
            return ExitCode.REGRESSION
        if Verdict.FAILED in found:
            return ExitCode.WRONG_USE_OR_FAILED_CASE
        return ExitCode.PASSED if found == {Verdict.ALIKE} else ExitCode.INCONCLUSIVE


def check_fleet(folders: Sequence[str], nodes: Sequence[NodeRuns], sizes: Sizes) -> FleetReport:
    """Test each node against the others, over all cases that two nodes have measured.

    Args:
        folders: names of the fleets' folders.
        nodes: the runs of each node.
        sizes: what is tolerated, and what must be found.

    Raises:
        UserError: two runs are the same.
        NotComparable: one node, or work that no more than half of the runs agree in.
    """
    if len(nodes) < 2:
        raise NotComparable(
            f"{', '.join(folders)}: {counted(len(nodes), 'node')}: a node is compared with the "
            "others, so measure two at least; fmnist-bench check compares one with its own past"
        )
    refuse_copies([run for node in nodes for run in node.runs])
    nodes, odd = same_work(nodes)
    rows = [pair for node in nodes for run in node.runs for pair in run.rows.items()]
    cases = [*dict.fromkeys(case for case, row in rows if row["status"] != Status.SKIPPED)]
    tests = test_nodes(nodes, cases, sizes)
    differ = differences([[run.environment for run in node.runs] for node in nodes])
    others = _other_scores(nodes, cases)
    judged = []
    for number, node in enumerate(nodes):
        own = tuple(
            _case(node, case, (number, case), tests, odd.get((node.name, case), ""))
            for case in (cases if node.runs else ())
        )
        checked = _node(node, own, differ[number], others[number])
        judged.append(replace(checked, suspect=any(_is_suspect(case, sizes) for case in own)))
    usual = Counter(node.times for node in judged if node.times).most_common(1)
    return FleetReport(
        tuple(folders),
        tuple(sorted(judged, key=_order)),
        sizes,
        usual[0][0] if usual else 0,
        tests.needed,
        tests.kinds,
    )


def _node(
    node: NodeRuns, cases: tuple[NodeCase, ...], differs: tuple[Difference, ...], others: int
) -> CheckedNode:
    """A node with the verdict of its worst case."""
    found = {case.verdict for case in cases}
    if node.broken or not cases:
        found.add(Verdict.FAILED)
    disturbed = dict.fromkeys(
        warning.phrase
        for run in node.runs
        for row in run.rows.values()
        if row["warnings"]
        for warning in of_row(row)
        if warning.disturbs
    )
    return CheckedNode(
        node.name,
        next(verdict for verdict in Verdict if verdict in found),
        len(times(node.runs)),
        cases,
        differs,
        tuple(disturbed),
        node.broken,
        others,
    )


def _case(node: NodeRuns, case: str, key: tuple[int, str], tests: Tests, odd: str) -> NodeCase:
    """A case of a node with its verdict."""
    held = [run for run in node.runs if case in run.logs]
    speed, scored = tests.speed.get(key), tests.score.get(key)
    scale = tests.scales.get(case, OF_ACCURACY)
    known = [value for run in held if (value := score(run, case)) is not None]
    verdict, reason = _worse(speed, scored, scale, known)
    if not reason:
        verdict, reason = _unmeasured(node, case, odd)
    if not reason:
        untold = "" if scored else tests.untold.get(case, "")
        verdict, reason = _undecided(speed, scored, scale, untold, tests)
    return NodeCase(
        case,
        verdict if reason else Verdict.ALIKE,
        reason,
        len(times(held)) if len(held) > 1 else len(held),
        math.exp(-fmean(run.run_log(case) for run in held)) if held else None,
        fmean(known) if known else None,
        speed,
        scored,
        scale,
    )


def _worse(
    speed: Measure | None, scored: Measure | None, scale: Scale, known: Sequence[float]
) -> tuple[Verdict, str]:
    """(verdict, reason) of a case that is worse than on the other nodes; else without a reason."""
    said = [f"{speed.change:.1%} slower"] if speed and speed.regressed else []
    verdict = Verdict.SLOW if said else Verdict.WORSE
    if scored and scored.regressed:
        said.append(scale.fell(scored.change))
    broken = [value for value in known if not math.isfinite(value)]
    if broken:
        said.append(f"{scale.name} is {broken[0]:g}")
    return verdict, ", ".join(said)


def _unmeasured(node: NodeRuns, case: str, odd: str) -> tuple[Verdict, str]:
    """(verdict, reason) of a case that a run of the node has not measured, or did as other work."""
    rows = [run.rows[case] for run in node.runs if case in run.rows]
    for row in rows:
        if row["status"] not in (Status.OK, Status.SKIPPED):
            how = "" if row["status"] == Status.FAILED else f"{row['status']}: "
            return Verdict.FAILED, how + (row["reason"] or "it did not end")
    if odd:
        return Verdict.OTHER, f"it {odd}"
    if any(row["status"] == Status.OK for row in rows):
        return Verdict.ALIKE, ""
    why = f": {rows[0]['reason']}" if rows else ", it is not in its plan"
    return Verdict.MISSING, f"measured on other nodes, but not on this one{why}"


def _undecided(
    speed: Measure | None, scored: Measure | None, scale: Scale, untold: str, tests: Tests
) -> tuple[Verdict, str]:
    """(verdict, reason) of a case in which the gate could have been missed."""
    sizes, said = tests.sizes, []
    if speed is None:
        said.append("too few nodes or runs of a node have measured it to be tested")
    elif speed.smallest > sizes.gate:
        suspect = (
            f"{speed.change:.1%} slower, not confirmed: " if speed.change >= sizes.gate else ""
        )
        found = f"slow-downs are found from {percent(speed.smallest)} on, not from the gate"
        said.append(suspect + found)
    if scored and scored.smallest > sizes.accuracy_gate:
        size = scale.sized(scored.smallest)
        said.append(f"{scale.fall}s of {scale.name} are found from {size} on, not from their gate")
    return Verdict.UNDECIDED, "; ".join([*said, *([untold] if untold else [])])


def _is_suspect(case: NodeCase, sizes: Sizes) -> bool:
    return bool(case.speed and not case.speed.regressed and case.speed.change >= sizes.gate)


def _other_scores(nodes: Sequence[NodeRuns], cases: Sequence[str]) -> list[int]:
    """The number of cases of each node that end with another score than on most nodes.

    Counted where most nodes agree in every digit: then the same work has ended otherwise there.
    """
    found = [0] * len(nodes)
    for case in cases:
        ends = [
            tuple(dict.fromkeys(score(run, case) for run in node.runs if case in run.logs))
            for node in nodes
        ]
        counts = Counter(end for end in ends if end and None not in end)
        if len(counts) > 1 and 2 * counts.most_common(1)[0][1] > counts.total():
            usual = counts.most_common(1)[0][0]
            for number, end in enumerate(ends):
                found[number] += end in counts and end != usual
    return found


def _slower(case: NodeCase) -> float:
    return case.speed.change if case.speed else -math.inf


def _order(node: CheckedNode) -> tuple[int, bool, float, str]:
    """Nodes with something to say first, by verdict and how slow their worst case is."""
    worst = node.worst
    slower = _slower(worst) if worst else -math.inf
    rank = [*Verdict].index(node.verdict)
    return rank, node.is_alike, -slower, node.name
