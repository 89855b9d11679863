"""Checks speed and score of a candidate against stored runs, and which changes it could find."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bench.schema.cells import counted
from bench.schema.errors import ExitCode, NotComparable
from bench.schema.launch import Status
from bench.schema.runs import MeasuredRun
from bench.schema.score import OF_ACCURACY, Scale
from bench.schema.sizes import DUEL_ACCURACY_GATE, Sizes
from bench.verdicts.check_data import (
    broken_scores,
    holders,
    losses,
    scale_of,
    tables,
    times,
    why_untold,
)
from bench.verdicts.compatibility import refuse_copies, refuse_other_machine, refuse_other_work
from bench.verdicts.facts import Purpose
from bench.verdicts.regression import LEAST_RUNS, Estimate, estimate, stored_test
from bench.verdicts.work import apart, without

# At most 1% of checks may raise a false alarm. The levels are lower than that, because launches
# have heavier tails than Student's t assumes (results/evidence). A fault of the score shows as a
# large change, so a small level is enough for it.
SPEED_LEVEL, SCORE_LEVEL = 0.005, 0.001


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
    """The test of one case's speed or score.

    Attributes:
        change: for speed, the added share of time (0.1 is ten percent slower); for the score, the
            change for the worse as a share (`Scale`; of an accuracy, 0.01 is one point).
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
        speed, score: the tests; None where the case was not tested.
        brief: the reason without figures, so that cases with the same reason can be grouped.
        scale: in what the score is judged.
    """

    case: str
    verdict: Verdict
    reason: str
    speed: Measure | None = None
    score: Measure | None = None
    brief: str = ""
    scale: Scale = OF_ACCURACY


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
        """The least change of a score for the worse that is found in any case, as a share.

        None where no score was tested.
        """
        return max((case.score.smallest for case in self.cases if case.score), default=None)

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
    matched = without(runs, other := apart(runs))
    baseline, candidate = matched[: len(baseline)], matched[len(baseline) :]
    held = {case: len(times(holders(baseline, case))) for case in names}
    tested = [
        case
        for case in names
        if held[case] >= LEAST_RUNS and all(case in run.logs for run in candidate)
    ]
    speed = _speed(baseline, candidate, tested, sizes)
    scales = {case: scale_of(baseline, case) for case in tested}
    scores = _scores(baseline, candidate, scales, sizes)

    def judged(case: str) -> CheckedCase:
        """A case with its verdict."""
        if case in other:
            return CheckedCase(case, Verdict.NEW, f"{other[case]}: measure a baseline of that work")
        if case not in speed:
            return _untested(case, held[case], candidate)
        found = CheckedCase(case, Verdict.PASSED, "", speed[case], scores.get(case))
        found = replace(found, scale=scales[case])
        broken = broken_scores(baseline, candidate, case)
        untold = why_untold(holders(runs, case), case, scales[case]) if case not in scores else ""
        return _tested(found, sizes, broken, untold)

    kept = [
        case
        for case in names
        if held[case]
        or case in other
        or any(run.rows[case]["status"] != Status.SKIPPED for run in candidate if case in run.rows)
    ]
    return CheckReport(
        tuple(run.path.name for run in baseline),
        tuple(run.path.name for run in candidate),
        sizes,
        tuple(map(judged, kept)),
        len(times(candidate)),
        {run.path.name: run.disturbed for run in runs if run.disturbed},
    )


def suspects(report: CheckReport) -> list[str]:
    """The cases that a duel should measure.

    These are regressions, and undecided cases whose measured loss of speed or score reaches the
    gate of a duel.
    """
    return [
        case.case
        for case in report.cases
        if case.verdict is Verdict.REGRESSION
        or (case.verdict is Verdict.BLIND and _a_duel_would_find(case, report.sizes))
    ]


def _a_duel_would_find(case: CheckedCase, sizes: Sizes) -> bool:
    slower = case.speed is not None and case.speed.change >= sizes.confirming_gate
    worse = case.score is not None and case.score.change >= DUEL_ACCURACY_GATE
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
        as_one = f", which count as {apart}, because those within an hour are one"
        as_one *= apart < len(baseline)
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
    return _measures(cases, found, sizes.log_margin, SPEED_LEVEL / sizes.checks, _share)


def _scores(
    baseline: Sequence[MeasuredRun],
    candidate: Sequence[MeasuredRun],
    scales: Mapping[str, Scale],
    sizes: Sizes,
) -> dict[str, Measure]:
    cases, stored, now, floors = losses(baseline, candidate, scales)
    if not cases:
        return {}
    found = estimate(stored, now, floors)
    return _measures(cases, found, sizes.accuracy_margin, SCORE_LEVEL / sizes.checks, float)


def _measures(
    cases: Sequence[str], of: Estimate, margin: float, level: float, shown: Callable[[float], float]
) -> dict[str, Measure]:
    found = stored_test(of, margin, level)
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


def _tested(case: CheckedCase, sizes: Sizes, broken: str, untold: str) -> CheckedCase:
    """The case with its verdict; `untold`: why its score was not tested."""
    worse = []
    if case.speed and case.speed.regressed:
        worse.append(f"{case.speed.change:.1%} slower")
    if case.score and case.score.regressed:
        worse.append(case.scale.fell(case.score.change))
    worse += [broken] if broken else []
    if worse:
        return replace(case, verdict=Verdict.REGRESSION, reason=", ".join(worse))
    blind = _unseen(case, sizes, untold)
    if blind:
        reason, brief = ("; ".join(texts) for texts in zip(*blind, strict=True))
        return replace(case, verdict=Verdict.BLIND, reason=reason, brief=brief)
    return case


def _unseen(case: CheckedCase, sizes: Sizes, untold: str) -> list[tuple[str, str]]:
    """Why a case without a regression does not pass: (reason with figures, reason without)."""
    found, speed, scale = list[tuple[str, str]](), case.speed, case.scale
    if speed and speed.smallest > sizes.gate:
        reason = f"slow-downs are found from {percent(speed.smallest)} on, not from the gate"
        if speed.change >= sizes.gate:
            reason = f"{speed.change:.1%} slower, not confirmed: {reason}"
        found.append((reason, "the baseline is too noisy or too small to find the gate there"))
    if case.score and case.score.smallest > sizes.accuracy_gate:
        size = scale.sized(case.score.smallest)
        brief = f"the baseline is too noisy or too small to find the {scale.name} gate there"
        text = f"{scale.fall}s of {scale.name} are found from {size} on, not from their gate"
        found.append((text, brief))
    if untold:
        found.append((untold, untold))
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
