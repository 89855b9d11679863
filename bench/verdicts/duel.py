"""The cases of a duel while it runs, and its report: plain data and pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.schema.case import Case
from bench.schema.cells import finite_fields
from bench.schema.duel import Block, DuelPlan
from bench.schema.errors import ExitCode
from bench.schema.score import OF_ACCURACY, Scale
from bench.schema.sizes import DUEL_ACCURACY_MARGIN, MARGIN, Sizes
from bench.verdicts.check import Verdict
from bench.verdicts.sequential import (
    LAST_LOOK,
    MISSED,
    SCORE_SHARE,
    SPEED_SHARE,
    SPENDING,
    Decision,
    Look,
    look,
    paired_p,
)

INTERRUPTED = "interrupted"


@dataclass(slots=True)
class Standing:
    """One case of a duel, with the blocks measured so far.

    Attributes:
        speed: log of B's time over A's, for each block.
        score: by how much B's score is worse than A's, as a share, for each block; empty where
            none was taken.
        speed_look, score_look: the last look at each; None before the first.
        failure: why the case could not be measured; empty where it could.
        scale: in what the score is judged; A's are the baseline.
        scores: the scores of A and B, for each block added.
    """

    case: Case
    speed: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    speed_look: Look | None = None
    score_look: Look | None = None
    failure: str = ""
    scale: Scale = OF_ACCURACY
    scores: list[tuple[float, float]] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """Add a measured block."""
        self.failure = block.failure
        if not block.failure:
            self.speed.append(block.speed)
            if block.scores is not None:
                self.scores.append(block.scores)
                self.scale = Scale.of(block.name, block.better, [a for a, _ in self.scores])
                self.score = [self.scale.worse(a, b) for a, b in self.scores]

    @property
    def looks(self) -> list[Look]:
        """The last look at each measure."""
        return [seen for seen in (self.speed_look, self.score_look) if seen]

    @property
    def verdict(self) -> Verdict:
        """The verdict so far; `BLIND` while nothing is decided."""
        if self.failure:
            return Verdict.FAILED
        decisions = {seen.decision for seen in self.looks}
        if Decision.WORSE in decisions:
            return Verdict.REGRESSION
        return Verdict.PASSED if decisions == {Decision.NOT_WORSE} else Verdict.BLIND

    @property
    def is_over(self) -> bool:
        """Whether no further block can change the verdict."""
        done = len(self.speed) >= LAST_LOOK
        return done or self.verdict is not Verdict.BLIND


@dataclass(frozen=True, slots=True)
class DuelReport:
    """The outcome of a duel.

    Attributes:
        cases: one for each case of the plan.
        control: log of the control probe's time before B over its time before A, for each block,
            as the mean over the cases.
        control_differs: the machine was not equally fast for both sides, which no side can cause.
        stopped: why the duel ended early, such as the budget; empty where it did not.
    """

    plan: DuelPlan
    cases: tuple[Standing, ...]
    control: tuple[float, ...]
    control_differs: bool
    stopped: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """130 if interrupted, 3 where the control differs, else as in `fmnist-bench check`."""
        found = {standing.verdict for standing in self.cases}
        if self.stopped == INTERRUPTED:
            return ExitCode.INTERRUPTED
        if self.control_differs:
            return ExitCode.INCONCLUSIVE
        if Verdict.REGRESSION in found:
            return ExitCode.REGRESSION
        if Verdict.FAILED in found:
            return ExitCode.WRONG_USE_OR_FAILED_CASE
        return ExitCode.PASSED if found == {Verdict.PASSED} else ExitCode.INCONCLUSIVE


def take_look(standing: Standing, sizes: Sizes, cases: int) -> None:
    """Look at the blocks of a case, at its share of the error of a duel of `cases` cases."""
    standing.speed_look = look(
        standing.speed, sizes.log_margin, sizes.log_gate, SPEED_SHARE / cases
    )
    if 0 < len(standing.score) < len(standing.speed):
        standing.failure = f"the validation {standing.scale.name} of some blocks is missing"
    elif standing.score:
        standing.score_look = look(
            standing.score, sizes.accuracy_margin, sizes.accuracy_gate, SCORE_SHARE / cases
        )


def control_differs(values: Sequence[float]) -> bool:
    """Whether the control was slower before one side than before the other.

    Tested against the margin, with a false-alarm rate of 1% over all looks.

    Args:
        values: log of the control's time before B over its time before A, one for each block; as
            many as one of the looks.
    """
    margin = math.log1p(MARGIN)
    level = SPENDING.get(len(values), 0.0) / 2
    return level > 0 and any(
        paired_p(way, margin) <= level for way in (values, [-v for v in values])
    )


def as_json(report: DuelReport) -> dict[str, Any]:
    """The report as plain JSON values; a number that is not finite is null."""
    return {
        "schema_version": 1,
        "exit_code": int(report.exit_code),
        "gate": report.plan.gate,
        "margin": report.plan.margin,
        "accuracy_margin": DUEL_ACCURACY_MARGIN,
        "accuracy_gate": report.plan.accuracy_gate,
        "missed_at_most": MISSED,
        "stopped": report.stopped,
        "control": list(report.control),
        "control_differs": report.control_differs,
        "cases": [
            {
                "case": standing.case.id,
                "verdict": str(standing.verdict),
                "failure": standing.failure,
                "speed": standing.speed,
                "accuracy": standing.score if _is_accuracy(standing) else [],
                "speed_look": finite_fields(standing.speed_look),
                "accuracy_look": finite_fields(standing.score_look)
                if _is_accuracy(standing)
                else None,
                **({} if _is_accuracy(standing) else {"score": _score_of(standing)}),
            }
            for standing in report.cases
        ],
    }


def _is_accuracy(standing: Standing) -> bool:
    """Whether the score is an accuracy in points, whose values have fields of their own."""
    return standing.scale == OF_ACCURACY


def _score_of(standing: Standing) -> dict[str, Any]:
    """The values of another score, which are shares for the worse as those of the accuracy."""
    look = finite_fields(standing.score_look)
    return {**standing.scale.to_json(), "worse": standing.score, "look": look}


def from_verdict(plan: DuelPlan, values: Mapping[str, Any]) -> DuelReport:
    """The report of a duel with this plan, from the values of `as_json`.

    Raises:
        KeyError, TypeError, ValueError: the values are of another plan or another revision.
    """
    by_id = {told["case"]: told for told in values["cases"]}
    standings = tuple(_standing_from(case, by_id[case.id]) for case in plan.cases)
    control = tuple(float(value) for value in values["control"])
    return DuelReport(
        plan, standings, control, bool(values["control_differs"]), str(values["stopped"])
    )


def _standing_from(case: Case, told: Mapping[str, Any]) -> Standing:
    own = {"worse": told["accuracy"], "look": told["accuracy_look"], **told.get("score", {})}
    return Standing(
        case,
        [float(value) for value in told["speed"]],
        [float(value) for value in own["worse"]],
        _look_from(told["speed_look"]),
        _look_from(own["look"]),
        str(told["failure"]),
        Scale.from_json(told.get("score", {})),
    )


def _look_from(values: Mapping[str, Any] | None) -> Look | None:
    if values is None:
        return None
    # A number that is not finite was written as null.
    told: dict[str, Any] = {k: math.inf if v is None else v for k, v in values.items()}
    told["decision"] = Decision(told["decision"])
    return Look(**told)
