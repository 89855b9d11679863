"""What `check --confirm` says: before the duel of the suspects, and of each once it was fought."""

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
    """What is about to happen, a sentence each."""
    for case, reason in asked.left.items():
        yield f"{case} keeps its verdict: it cannot duel: {reason}"
    if asked.plan.cases:
        how = "goes on" if asked.goes_on else "begins"
        yield f"the duel in {asked.folder} {how}; its gate is {asked.plan.gate:.1%}"


def settled_by(report: CheckReport, asked: Confirmation, duel: DuelReport | None) -> CheckReport:
    """The report of a check once its suspects went through the duel.

    A case that duelled has the duel's verdict; one that could not keeps its own, with the reason.
    Of a duel that was interrupted, cases that it had not decided keep theirs as well.

    Args:
        report: of the check.
        asked: what was to be confirmed.
        duel: None where none of the suspects could duel.
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
