"""The figures of a fleet that are tested: of the same work, as tables of nodes, times and cases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.schema.errors import NotComparable
from bench.schema.runs import MeasuredRun, NodeRuns
from bench.verdicts.check_data import times
from bench.verdicts.compatibility import COLUMNS
from bench.verdicts.facts import FACTS, Purpose
from bench.verdicts.set_ups import hardware
from bench.verdicts.work import OF_ROWS, UNKNOWN, WORK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# From so many nodes on, a kind of hardware is compared within itself.
LEAST_OF_A_KIND = 3
_DATA = FACTS[0]
# What a case's row must agree in, and what is said of one that does not.
_SAME: Mapping[str, str] = {
    **WORK,
    **OF_ROWS,
    **{column: f"was measured with another --{column}" for column in COLUMNS[Purpose.BASELINE]},
}


def same_work(nodes: Sequence[NodeRuns]) -> tuple[list[NodeRuns], dict[tuple[str, str], str]]:
    """The nodes without figures of other work than most, and why a node's case has none, by both.

    Raises:
        NotComparable: of a case, no work is that of more than half of the runs.
    """
    runs = [(node.name, run) for node in nodes for run in node.runs]
    odd: dict[tuple[str, str], str] = {}
    dropped: dict[int, set[str]] = {}
    cases = dict.fromkeys(case for _, run in runs for case in run.logs)
    for case in cases:
        held = [(name, run) for name, run in runs if case in run.logs]
        for column, said in {"": "trained on other data", **_SAME}.items():
            values = [_value(run, case, column) for _, run in held]
            counts = Counter(value for value in values if value not in UNKNOWN)
            if len(counts) < 2:
                continue
            usual, most = counts.most_common(1)[0]
            if 2 * most <= counts.total():
                _refuse(case, said, values, [run for _, run in held])
            for value, (name, run) in zip(values, held, strict=True):
                if value != usual and value not in UNKNOWN:
                    odd.setdefault((name, case), f"{said} than on most nodes")
                    dropped.setdefault(id(run), set()).add(case)
    return [
        replace(node, runs=tuple(_without(run, dropped.get(id(run), set())) for run in node.runs))
        if any(id(run) in dropped for run in node.runs)
        else node
        for node in nodes
    ], odd


def _value(run: MeasuredRun, case: str, column: str) -> Any:
    """A column of a case's row; that of no name is the digest of the run's data set."""
    if column:
        return run.rows[case].get(column)
    digest = run.environment.get("dataset_digest")
    return digest if isinstance(digest, str) else None


def _refuse(case: str, said: str, values: Sequence[Any], runs: Sequence[MeasuredRun]) -> None:
    first = values[0]
    other = next(run for value, run in zip(values, runs, strict=True) if value != first)
    raise NotComparable(
        f"{case} {said} in {other.path} than in {runs[0].path}, and no more than half of the "
        "runs agree: check runs of one plan"
    )


def _without(run: MeasuredRun, cases: set[str]) -> MeasuredRun:
    kept = {case: own for case, own in run.logs.items() if case not in cases}
    return replace(run, logs=kept) if cases else run


def kinds(nodes: Sequence[NodeRuns]) -> list[tuple[list[int], list[int]]]:
    """The nodes by number in groups that are compared, each with those that it is compared with.

    A kind of hardware of three nodes or more is a group. The others are in the largest group, and
    no node is compared with them; where there is no group, all nodes are one.
    """
    found: dict[object, list[int]] = {}
    for number, node in enumerate(nodes):
        if node.runs:
            found.setdefault(hardware(run.environment for run in node.runs), []).append(number)
    large = [own for own in found.values() if len(own) >= LEAST_OF_A_KIND]
    rest = [number for own in found.values() if len(own) < LEAST_OF_A_KIND for number in own]
    if not large:
        return [(sorted(rest), sorted(rest))] if rest else []
    large.sort(key=len, reverse=True)
    return [(sorted([*large[0], *rest]), large[0]), *((own, own) for own in large[1:])]


def table(
    nodes: Sequence[NodeRuns],
    cases: Sequence[str],
    value: Callable[[MeasuredRun, str], float | None],
) -> Array:
    """The values of shape (nodes, times, cases); NaN where a node has none.

    Runs of a node that began within an hour are one time (`times`), with the mean of their values.
    """
    import numpy as np

    groups = [times(node.runs) for node in nodes]
    place = {case: number for number, case in enumerate(cases)}
    found = np.full((len(nodes), max(map(len, groups), default=0), len(cases)), math.nan)
    for number, of_node in enumerate(groups):
        for time, runs in enumerate(of_node):
            own: dict[str, list[float]] = {}
            for run in runs:
                for case in run.logs:
                    if case in place and (known := value(run, case)) is not None:
                        own.setdefault(case, []).append(known)
            for case, values in own.items():
                found[number, time, place[case]] = fmean(values)
    return found
