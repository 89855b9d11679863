"""The tests of all nodes and cases of a fleet, and the runs that they need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.schema.runs import MeasuredRun, NodeRuns
from bench.schema.score import Scale
from bench.schema.sizes import Sizes
from bench.verdicts.check import SCORE_LEVEL, SPEED_LEVEL, Measure
from bench.verdicts.check_data import holders, launch_scatter, scale_of, score, why_untold
from bench.verdicts.fleet import (
    LEAST_NODES_OF_ONE_RUN,
    compare_nodes,
    compare_scores,
    runs_needed,
)
from bench.verdicts.fleet_data import kinds, table
from bench.verdicts.regression import StoredTest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

By = dict[tuple[int, str], Measure]


@dataclass(frozen=True, slots=True)
class Tests:
    """The tests by (number of the node, case); what was not tested is not in them.

    Attributes:
        needed: runs of each node with which the gate would be found; None where not known.
        kinds: number of groups of alike hardware, each of which is compared within itself.
        scales: in what the score of each case is judged.
        untold: why the score of a case cannot be tested; empty where it has none.
        sizes: what is tolerated, and what must be found.
    """

    speed: By
    score: By
    needed: int | None
    kinds: int
    scales: Mapping[str, Scale]
    untold: Mapping[str, str]
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class _Group:
    """Nodes that are compared.

    Attributes:
        numbers: their places among all nodes.
        alike: which of them the others are compared with.
        share: of all nodes, and so of the error rate.
    """

    numbers: Sequence[int]
    nodes: Sequence[NodeRuns]
    alike: NDArray[np.bool_]
    share: float


@dataclass(frozen=True, slots=True)
class _Judged:
    """The cases that have a score: its scale, and the standard deviation of a run's score."""

    scales: dict[str, Scale] = field(default_factory=dict)
    scatter: dict[str, float] = field(default_factory=dict)
    untold: dict[str, str] = field(default_factory=dict)


def test_nodes(nodes: Sequence[NodeRuns], cases: Sequence[str], sizes: Sizes) -> Tests:
    """Test the speed and the score of each case of each node against the other nodes."""
    import numpy as np

    speed: By = {}
    scores: By = {}
    needed: list[int | None] = []
    scored = _judged(nodes, cases)
    groups = kinds(nodes)
    tested = sum(len(group) for group, _ in groups)
    for numbers, alike in groups:
        known = set(alike)
        group = _Group(
            numbers,
            [nodes[number] for number in numbers],
            np.array([number in known for number in numbers]),
            len(numbers) / tested,
        )
        needed += _speeds(group, cases, sizes, speed)
        _scores(group, scored, sizes, scores)
    most = None if not needed or None in needed else max(n for n in needed if n is not None)
    return Tests(speed, scores, most, len(groups), scored.scales, scored.untold, sizes)


def _speeds(group: _Group, cases: Sequence[str], sizes: Sizes, into: By) -> list[int | None]:
    """Test the speeds of a group; returns the runs that it needs, if it could be tested."""
    import numpy as np

    logs = table(group.nodes, cases, MeasuredRun.run_log)
    held = (~np.isnan(logs)).sum(1)
    fit = (held[group.alike] > 0).sum(0) >= 2
    if logs.shape[1] > 1:
        fit &= (held > 1).any(0)
    elif group.alike.sum() < LEAST_NODES_OF_ONE_RUN:
        return []
    places = np.flatnonzero(fit).tolist()
    if not places:
        return []
    level = SPEED_LEVEL * group.share
    found = compare_nodes(logs[..., places], sizes.log_margin, level, group.alike)
    _keep(into, found.found, group.numbers, [cases[place] for place in places], logs=True)
    return [runs_needed(found, sizes.log_margin, sizes.log_gate, len(group.nodes), level)]


def _judged(nodes: Sequence[NodeRuns], cases: Sequence[str]) -> _Judged:
    found = _Judged()
    runs = [run for node in nodes for run in node.runs]
    for case in cases:
        own = holders(runs, case)
        if not own:
            continue
        scale = found.scales[case] = scale_of(own, case)
        found.untold[case] = why_untold(own, case, scale)
        scatter = launch_scatter(own, case, scale)
        if scatter is not None and any(score(run, case) is not None for run in own):
            launches = min(len(run.logs[case]) for run in own)
            found.scatter[case] = scatter / math.sqrt(launches)
    return found


def _scores(group: _Group, scored: _Judged, sizes: Sizes, into: By) -> None:
    import numpy as np

    def loss(run: MeasuredRun, case: str) -> float | None:
        """The score as a share that is larger where it is worse; None where it is no number."""
        value = score(run, case)
        if value is None or not math.isfinite(value):
            return None
        return scored.scales[case].loss(value)

    cases = [*scored.scatter]
    losses = table(group.nodes, cases, loss)
    fit = np.flatnonzero((~np.isnan(losses[group.alike])).any(1).sum(0) >= 2).tolist()
    if not fit:
        return
    kept = [cases[place] for place in fit]
    found = compare_scores(
        losses[..., fit],
        np.array([scored.scatter[case] for case in kept]),
        sizes.accuracy_margin,
        SCORE_LEVEL * group.share,
        group.alike,
    )
    _keep(into, found, group.numbers, kept, logs=False)


def _keep(
    into: By, found: StoredTest, numbers: Sequence[int], cases: Sequence[str], *, logs: bool
) -> None:
    """Put the tests into a dictionary; logs as shares of time."""
    import numpy as np

    def shown(values: Array) -> Array:
        """The values as they are shown; infinite where a float cannot hold them."""
        with np.errstate(over="ignore"):
            return np.asarray(np.expm1(values) if logs else values)

    parts = (shown(found.change), shown(found.smallest), shown(found.threshold), found.p)
    known = np.argwhere(~np.isnan(found.change)).tolist()
    changes, smallest, thresholds, p = (part.tolist() for part in parts)
    rejected = found.rejected.tolist()
    for i, j in known:
        into[numbers[i], cases[j]] = Measure(
            changes[i][j], smallest[i][j], thresholds[i][j], p[i][j], rejected[i][j]
        )
