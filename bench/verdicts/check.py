"""Checks speed and accuracy of a candidate against stored runs, and which changes it could find."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bench.schema.cells import counted
from bench.schema.errors import ExitCode, NotComparable
from bench.schema.launch import Status
from bench.schema.runs import MeasuredRun
from bench.schema.sizes import DUEL_ACCURACY_GATE, Sizes
from bench.verdicts.check_data import holders, loss, tables, times
from bench.verdicts.compatibility import (
    Purpose,
    refuse_copies,
    refuse_other_machine,
    refuse_other_work,
)
from bench.verdicts.regression import LEAST_RUNS, StoredTest, estimate, stored_test

# The least standard deviation of one launch's accuracy, as a share. Stored runs of one seed may
# agree in every image and show no scatter; over seeds, 0.5 to 0.7 points were measured.
SEED_SCATTER = 0.007
# At most 1% of checks may raise a false alarm. The levels are lower than that, because launches
# have heavier tails than Student's t assumes (results/evidence). A fault of accuracy shows as a
# large drop, so a small level is enough for it.
SPEED_LEVEL, ACCURACY_LEVEL = 0.005, 0.001


class Verdict(StrEnum):
    """The verdict on one case."""

    PASSED = "passed"
    REGRESSION = "regression"
    BLIND = "blind"
    MISSING = "missing"
    NEW = "new"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Measure:
    """The test of one case's speed or accuracy.

    Attributes:
        change: for speed, the added share of time (0.1 is ten percent slower); for accuracy, the
            drop (0.01 is one point).
        smallest: the least true change that is found with a probability of `POWER`.
        threshold: the least measured change that would have been confirmed.
        p: one-sided p-value against the margin.
        regressed: the change is above the margin, confirmed at the level for all cases together.
    """

    change: float
    smallest: float
    threshold: float
    p: float
    regressed: bool


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """The outcome of one case.

    Attributes:
        reason: why the verdict is not `passed`; else empty.
        speed, accuracy: the tests; None where the case was not tested.
        brief: the reason without figures, so that cases with the same reason can be grouped.
    """

    case: str
    verdict: Verdict
    reason: str
    speed: Measure | None = None
    accuracy: Measure | None = None
    brief: str = ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        baseline, candidate: folder names of the runs.
        sizes: what was tolerated, and what had to be found.
        times: number of different times at which the candidate ran.
        disturbed: number of disturbed cases, by run.
    """

    baseline: tuple[str, ...]
    candidate: tuple[str, ...]
    sizes: Sizes
    cases: tuple[CheckedCase, ...]
    times: int = 1
    disturbed: Mapping[str, int] = field(default_factory=dict)

    @property
    def smallest(self) -> float | None:
        """The least slow-down that is found in any case with a probability of `POWER`.

        None where no case was tested.
        """
        return max((case.speed.smallest for case in self.cases if case.speed), default=None)

    @property
    def smallest_drop(self) -> float | None:
        """The least drop of accuracy that is found in any case; None where none was tested."""
        return max((case.accuracy.smallest for case in self.cases if case.accuracy), default=None)

    @property
    def exit_code(self) -> ExitCode:
        """1 for a regression, else 2 for a failed case, else 3 for an undecided one, else 0."""
        found = {case.verdict for case in self.cases}
        if Verdict.REGRESSION in found:
            return ExitCode.REGRESSION
        if Verdict.FAILED in found:
            return ExitCode.WRONG_USE_OR_FAILED_CASE
        return ExitCode.PASSED if found == {Verdict.PASSED} else ExitCode.INCONCLUSIVE


def check(
    baseline: Sequence[MeasuredRun], candidate: Sequence[MeasuredRun], sizes: Sizes
) -> CheckReport:
    """Test every case of one or more runs of a candidate against the stored runs.

    Args:
        baseline: stored runs, taken at different times.
        candidate: runs of one candidate.
        sizes: what is tolerated, and what must be found.

    Raises:
        UserError: a run is given twice.
        NotComparable: fewer than three stored runs, or another machine, data set or work.
    """
    refuse_unfit(baseline, candidate)
    runs = [*baseline, *candidate]
    names = dict.fromkeys(case for run in runs for case in run.rows)
    held = {case: len(times(holders(baseline, case))) for case in names}
    tested = [
        case
        for case in names
        if held[case] >= LEAST_RUNS and all(case in run.logs for run in candidate)
    ]
    speed = _speed(baseline, candidate, tested, sizes)
    accuracy = _accuracy(baseline, candidate, tested, sizes)
    partly = {
        case
        for case in tested
        if case not in accuracy and any(loss(run, case) is not None for run in holders(runs, case))
    }
    cases = [
        _tested(case, speed[case], accuracy.get(case), sizes, case in partly)
        if case in speed
        else _untested(case, held[case], candidate)
        for case in names
        if held[case]
        or any(run.rows[case]["status"] != Status.SKIPPED for run in candidate if case in run.rows)
    ]
    return CheckReport(
        tuple(run.path.name for run in baseline),
        tuple(run.path.name for run in candidate),
        sizes,
        tuple(cases),
        len(times(candidate)),
        {run.path.name: run.disturbed for run in runs if run.disturbed},
    )


def suspects(report: CheckReport) -> list[str]:
    """The cases that a duel should measure.

    These are regressions, and undecided cases whose measured loss of speed or accuracy reaches
    the gate of a duel.
    """
    return [
        case.case
        for case in report.cases
        if case.verdict is Verdict.REGRESSION
        or (case.verdict is Verdict.BLIND and _a_duel_would_find(case, report.sizes))
    ]


def _a_duel_would_find(case: CheckedCase, sizes: Sizes) -> bool:
    slower = case.speed is not None and case.speed.change >= sizes.confirming_gate
    worse = case.accuracy is not None and case.accuracy.change >= DUEL_ACCURACY_GATE
    return slower or worse


def settled(report: CheckReport, found: Mapping[str, tuple[Verdict, str]]) -> CheckReport:
    """The report with the (verdict, reason) of a duel for each case in `found`."""
    cases = [
        replace(case, verdict=found[case.case][0], reason=found[case.case][1], brief="")
        if case.case in found
        else case
        for case in report.cases
    ]
    return replace(report, cases=tuple(cases))


def refuse_unfit(baseline: Sequence[MeasuredRun], candidate: Sequence[MeasuredRun]) -> None:
    """Refuse runs that `check` cannot use; callable early, as it needs no figure of the candidate.

    Raises:
        UserError: a run is given twice.
        NotComparable: fewer than three stored runs, or another machine, data set or work.
    """
    apart = len(times(baseline))
    if apart < LEAST_RUNS:
        as_one = (
            f", which count as {apart}, because those within an hour are one"
            if apart < len(baseline)
            else ""
        )
        raise NotComparable(
            f"the baseline holds {counted(len(baseline), 'run')}{as_one}: {LEAST_RUNS} taken at "
            "different times are the least that show the machine's drift, 6 to 10 are better; add "
            "them with fmnist-bench baseline add"
        )
    runs = [*baseline, *candidate]
    refuse_copies(runs)
    refuse_other_machine(runs)
    refuse_other_work(runs, Purpose.BASELINE)


def _speed(
    baseline: Sequence[MeasuredRun],
    candidate: Sequence[MeasuredRun],
    cases: Sequence[str],
    sizes: Sizes,
) -> dict[str, Measure]:
    if not cases:
        return {}
    found = estimate(*tables(baseline, candidate, cases, MeasuredRun.run_log))
    return _measures(cases, stored_test(found, sizes.log_margin, SPEED_LEVEL), _share)


def _accuracy(
    baseline: Sequence[MeasuredRun],
    candidate: Sequence[MeasuredRun],
    tested: Sequence[str],
    sizes: Sizes,
) -> dict[str, Measure]:
    runs = [*baseline, *candidate]
    cases = [c for c in tested if all(loss(run, c) is not None for run in holders(runs, c))]
    if not cases:
        return {}
    stored, now = tables(baseline, candidate, cases, loss)
    launches = [min(len(run.logs[case]) for run in holders(runs, case)) for case in cases]
    found = estimate(stored, now, [SEED_SCATTER / math.sqrt(count) for count in launches])
    return _measures(cases, stored_test(found, sizes.accuracy_margin, ACCURACY_LEVEL), float)


def _measures(
    cases: Sequence[str], found: StoredTest, shown: Callable[[float], float]
) -> dict[str, Measure]:
    return {
        case: Measure(
            shown(found.change[i]),
            shown(found.smallest[i]),
            shown(found.threshold[i]),
            float(found.p[i]),
            bool(found.rejected[i]),
        )
        for i, case in enumerate(cases)
    }


def _share(log: float) -> float:
    """The slow-down of a log ratio, as a share; infinite where a float cannot hold it."""
    return math.expm1(log) if log < 700 else math.inf


def _tested(
    case: str, speed: Measure, accuracy: Measure | None, sizes: Sizes, partly: bool
) -> CheckedCase:
    worse = []
    if speed.regressed:
        worse.append(f"{speed.change:.1%} slower")
    if accuracy and accuracy.regressed:
        worse.append(f"accuracy fell by {100 * accuracy.change:.1f} points")
    if worse:
        return CheckedCase(case, Verdict.REGRESSION, ", ".join(worse), speed, accuracy)
    blind = _unseen(speed, accuracy, sizes, partly)
    if blind:
        reason, brief = ("; ".join(texts) for texts in zip(*blind, strict=True))
        return CheckedCase(case, Verdict.BLIND, reason, speed, accuracy, brief)
    return CheckedCase(case, Verdict.PASSED, "", speed, accuracy)


def _unseen(
    speed: Measure, accuracy: Measure | None, sizes: Sizes, partly: bool
) -> list[tuple[str, str]]:
    """Why a case without a regression does not pass: (reason with figures, reason without)."""
    found = []
    if speed.smallest > sizes.gate:
        reason = f"slow-downs are found from {percent(speed.smallest)} on, not from the gate"
        if speed.change >= sizes.gate:
            reason = f"{speed.change:.1%} slower, not confirmed: {reason}"
        found.append((reason, "the baseline is too noisy or too small to find the gate there"))
    if accuracy and accuracy.smallest > sizes.accuracy_gate:
        points = f"{100 * accuracy.smallest:.1f} points"
        brief = "the baseline is too noisy or too small to find the accuracy gate there"
        found.append((f"drops of accuracy are found from {points} on, not from their gate", brief))
    if partly:
        text = "validation accuracy is missing in some of the runs"
        found.append((text, text))
    return found


def _untested(case: str, held: int, candidate: Sequence[MeasuredRun]) -> CheckedCase:
    for run in candidate:
        row = run.rows.get(case)
        if row is None or row["status"] == Status.SKIPPED:
            reason = f"in the baseline, but not measured in {run.path.name}"
            return CheckedCase(case, Verdict.MISSING, reason)
        if row["status"] != Status.OK:
            # The verdict says that it failed; how else it ended, as where it was killed, is told.
            how = "" if row["status"] == Status.FAILED else f"{row['status']}: "
            return CheckedCase(case, Verdict.FAILED, how + row["reason"])
    return CheckedCase(case, Verdict.NEW, f"{held} baseline runs hold it, {LEAST_RUNS} are needed")


def percent(share: float) -> str:
    """A slow-down as text in percent; `>1000%` above that."""
    return f"{share:.1%}" if share <= 10 else ">1000%"
