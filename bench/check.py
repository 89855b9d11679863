"""Checks a candidate against runs stored earlier: speed and accuracy, and what they could see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from bench.compatibility import (
    Purpose,
    refuse_copies,
    refuse_other_machine,
    refuse_other_work,
)
from bench.errors import ExitCode, NotComparable, UserError
from bench.record import Status
from bench.regression import DEFAULT_GATE, LEAST_RUNS, StoredTest, stored_test
from bench.runs import MeasuredRun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MARGIN = 0.01
# An accuracy may fall by so much without a word: seeds alone scatter it by 0.5 to 0.7 points.
ACCURACY_MARGIN = 0.02
# Of one launch, where the stored runs repeat each other to the last image and so show none.
SEED_SCATTER = 0.006
# Together the 1% of false alarms that a check may raise. A fault of accuracy is a gross one,
# so it needs less of it.
SPEED_LEVEL, ACCURACY_LEVEL = 0.009, 0.001


class Verdict(StrEnum):
    """What became of one case."""

    PASSED = "passed"
    REGRESSION = "regression"
    BLIND = "blind"
    MISSING = "missing"
    NEW = "new"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of one case.

    Attributes:
        change: for speed the share of time added (0.1: ten percent slower); for accuracy the
            drop, 0.01 being a point.
        smallest: the least change that would have been confirmed.
        p: one-sided, against the margin.
        regressed: confirmed within the family, and at least the gate.
    """

    change: float
    smallest: float
    p: float
    regressed: bool


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """One case; `speed` and `accuracy` are None where it was not tested."""

    case: str
    verdict: Verdict
    reason: str
    speed: Measure | None = None
    accuracy: Measure | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        baseline, candidate: folder names of the runs.
        gate: the slow-down that had to be seen.
        smallest: the slow-down that would have been confirmed in whichever case it struck;
            None where no case was tested.
    """

    baseline: tuple[str, ...]
    candidate: tuple[str, ...]
    gate: float
    cases: tuple[CheckedCase, ...]
    smallest: float | None

    @property
    def exit_code(self) -> ExitCode:
        """1 a confirmed regression, else 2 a failed case, else 3 something not seen, else 0."""
        found = {case.verdict for case in self.cases}
        if Verdict.REGRESSION in found:
            return ExitCode.REGRESSION
        if Verdict.FAILED in found:
            return ExitCode.WRONG_USE_OR_FAILED_CASE
        return ExitCode.PASSED if found == {Verdict.PASSED} else ExitCode.INCONCLUSIVE


def check(
    baseline: Sequence[MeasuredRun], candidate: Sequence[MeasuredRun], gate: float = DEFAULT_GATE
) -> CheckReport:
    """Test every case of one or more runs of a candidate against the stored runs.

    Args:
        baseline: runs at different times.
        candidate: runs of one candidate.
        gate: the least slow-down that counts, as a share: 0.1 is ten percent.

    Raises:
        UserError: a run is given twice, or the gate is not between the margin and 10.
        NotComparable: fewer than three stored runs, or another machine, data set or work.
    """
    refuse_unfit(baseline, candidate, gate)
    runs = [*baseline, *candidate]
    names = dict.fromkeys(case for run in runs for case in run.rows)
    held = {case: sum(case in run.logs for run in baseline) for case in names}
    tested = [
        case
        for case in names
        if held[case] >= LEAST_RUNS and all(case in run.logs for run in candidate)
    ]
    speed = _speed(baseline, candidate, tested, gate)
    accuracy = _accuracy(baseline, candidate, tested)
    cases = [
        _tested(case, speed[case], accuracy.get(case), gate)
        if case in speed
        else _untested(case, held[case], candidate)
        for case in names
        if held[case] or any(run.rows[case]["status"] != Status.SKIPPED
                             for run in candidate if case in run.rows)
    ]  # fmt: skip
    smallest = max((measure.smallest for measure in speed.values()), default=None)
    return CheckReport(
        tuple(run.path.name for run in baseline),
        tuple(run.path.name for run in candidate),
        gate,
        tuple(cases),
        smallest,
    )


def suspects(report: CheckReport) -> list[str]:
    """The cases that a duel should look at: regressions, and what is slower by the gate but
    could not be confirmed."""
    return [
        case.case
        for case in report.cases
        if case.verdict is Verdict.REGRESSION
        or (case.verdict is Verdict.BLIND and case.speed and case.speed.change >= report.gate)
    ]


def settled(report: CheckReport, found: Mapping[str, tuple[Verdict, str]]) -> CheckReport:
    """The report with the verdicts that a duel found, by case, and what it says of them."""
    cases = [
        replace(case, verdict=found[case.case][0], reason=found[case.case][1])
        if case.case in found
        else case
        for case in report.cases
    ]
    return replace(report, cases=tuple(cases))


def refuse_unfit(
    baseline: Sequence[MeasuredRun], candidate: Sequence[MeasuredRun], gate: float
) -> None:
    """What `check` refuses, which needs no figure of the candidate and so can be asked early.

    Raises:
        UserError, NotComparable: as `check`.
    """
    if not MARGIN < gate <= 10:
        raise UserError(f"--gate {gate:g}: write a share above {MARGIN:g}, such as 0.1 for 10%")
    if len(baseline) < LEAST_RUNS:
        raise NotComparable(
            f"the baseline holds {len(baseline)} runs: {LEAST_RUNS} taken at different times are "
            "the least that show how the machine drifts, 6 to 10 make a gate; add them with "
            "fmnist-bench baseline add"
        )
    runs = [*baseline, *candidate]
    refuse_copies(runs)
    refuse_other_machine(runs)
    refuse_other_work(runs, Purpose.BASELINE)


def _speed(
    baseline: Sequence[MeasuredRun],
    candidate: Sequence[MeasuredRun],
    cases: Sequence[str],
    gate: float,
) -> dict[str, Measure]:
    if not cases:
        return {}
    stored, now = (_table(runs, cases, MeasuredRun.run_log) for runs in (baseline, candidate))
    found, slowed = slow_downs(stored, now, gate)
    return {
        case: Measure(
            math.expm1(found.change[i]),
            _share(found.smallest[i]),
            float(found.p[i]),
            bool(slowed[i]),
        )
        for i, case in enumerate(cases)
    }


def slow_downs(
    stored: NDArray[np.float64], now: NDArray[np.float64], gate: float
) -> tuple[StoredTest, NDArray[np.bool_]]:
    """The test of log seconds per sample, runs by cases, and which cases are confirmed slow
    by at least `gate`."""
    found = stored_test(stored, now, math.log1p(MARGIN), SPEED_LEVEL)
    return found, found.rejected & (found.change >= math.log1p(gate))


def _accuracy(
    baseline: Sequence[MeasuredRun], candidate: Sequence[MeasuredRun], tested: Sequence[str]
) -> dict[str, Measure]:
    runs = [*baseline, *candidate]
    cases = [c for c in tested if all(_loss(run, c) is not None for run in runs if c in run.logs)]
    if not cases:
        return {}
    stored, now = (_table(side, cases, _loss) for side in (baseline, candidate))
    launches = min(len(run.logs[case]) for run in runs for case in cases if case in run.logs)
    floor = SEED_SCATTER / math.sqrt(launches)
    found = stored_test(stored, now, ACCURACY_MARGIN, ACCURACY_LEVEL, floor)
    return {
        case: Measure(
            float(found.change[i]),
            float(found.smallest[i]),
            float(found.p[i]),
            bool(found.rejected[i]),
        )
        for i, case in enumerate(cases)
    }


def _loss(run: MeasuredRun, case: str) -> float | None:
    """The share of validation images that were wrong."""
    accuracy = run.rows[case]["val_accuracy"]
    return None if accuracy is None else 1 - accuracy


def _table(
    runs: Sequence[MeasuredRun],
    cases: Sequence[str],
    value: Callable[[MeasuredRun, str], float | None],
) -> NDArray[np.float64]:
    """Runs by cases; NaN where a run lacks the case."""
    import numpy as np

    return np.array(
        [[value(run, case) if case in run.logs else None for case in cases] for run in runs],
        dtype=float,
    )


def _share(log: float) -> float:
    """The slow-down that a log stands for; infinite where a float cannot hold it."""
    return math.expm1(log) if log < 700 else math.inf


def _tested(case: str, speed: Measure, accuracy: Measure | None, gate: float) -> CheckedCase:
    reasons = []
    if speed.regressed:
        reasons.append(f"{speed.change:.1%} slower")
    if accuracy and accuracy.regressed:
        reasons.append(f"accuracy fell by {100 * accuracy.change:.1f} points")
    if reasons:
        return CheckedCase(case, Verdict.REGRESSION, ", ".join(reasons), speed, accuracy)
    if speed.smallest > gate:
        reason = f"this baseline sees slow-downs from {percent(speed.smallest)} on"
        if speed.change >= gate:
            reason = f"{speed.change:.1%} slower, not confirmed: {reason}"
        return CheckedCase(case, Verdict.BLIND, reason, speed, accuracy)
    return CheckedCase(case, Verdict.PASSED, "", speed, accuracy)


def _untested(case: str, held: int, candidate: Sequence[MeasuredRun]) -> CheckedCase:
    for run in candidate:
        row = run.rows.get(case)
        if row is None or row["status"] == Status.SKIPPED:
            reason = f"in the baseline, but not measured in {run.path.name}"
            return CheckedCase(case, Verdict.MISSING, reason)
        if row["status"] != Status.OK:
            return CheckedCase(case, Verdict.FAILED, f"{row['status']}: {row['reason']}")
    return CheckedCase(case, Verdict.NEW, f"{held} baseline runs hold it, {LEAST_RUNS} are needed")


def percent(share: float) -> str:
    """A slow-down for a person; beyond 1000% the figure says nothing more."""
    return f"{share:.1%}" if share <= 10 else ">1000%"
