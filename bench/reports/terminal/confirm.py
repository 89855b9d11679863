"""The output of `check --confirm`: before the duel of the suspects, and their reasons after it."""

from __future__ import annotations

from collections.abc import Iterator

from bench.reports.terminal.duel import measured_words
from bench.session.confirm import Confirmation
from bench.verdicts.check import CheckReport, Verdict, settled
from bench.verdicts.duel import INTERRUPTED, DuelReport

_SAID = {
    Verdict.REGRESSION: "confirmed by a duel",
    Verdict.PASSED: "not confirmed by a duel",
}


def confirmation_lines(asked: Confirmation) -> Iterator[str]:
    """Sentences about the duel that begins, and about the cases that cannot duel."""
    for case, reason in asked.left.items():
        yield f"{case} keeps its verdict: it cannot duel: {reason}"
    if asked.plan.cases:
        how = "goes on" if asked.goes_on else "begins"
        yield f"the duel in {asked.folder} {how}; its gate is {asked.plan.gate:.1%}"


def settled_by(report: CheckReport, asked: Confirmation, duel: DuelReport | None) -> CheckReport:
    """The report of a check with the verdicts of the duel of its suspects.

    A case in the duel has the duel's verdict. A case that cannot duel keeps its own, with the
    reason. After an interrupted duel, undecided cases keep their own verdict too.

    Args:
        report: the check.
        asked: the duel that was prepared.
        duel: its report; None where no suspect could duel.
    """
    by_name = {case.case: case for case in report.cases}
    found = {
        name: (by_name[name].verdict, f"{by_name[name].reason}; it cannot duel: {reason}")
        for name, reason in asked.left.items()
    }
    for standing in duel.cases if duel else ():
        assert duel is not None
        name = standing.case.id
        verdict = Verdict.BLIND if duel.control_differs else standing.verdict
        if duel.stopped == INTERRUPTED and verdict not in _SAID:
            reason = f"{by_name[name].reason}; the duel was interrupted"
            found[name] = by_name[name].verdict, reason
            continue
        failed = f"in the duel, {standing.failure}"
        said = failed if standing.failure else _SAID.get(verdict, "a duel could not decide")
        found[name] = verdict, ": ".join(filter(None, (said, measured_words(standing))))
    return settled(report, found)
