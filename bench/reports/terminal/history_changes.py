"""The lines of `history changes`: each change, what could not be seen, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from bench.reports.terminal.history import COMMIT, SHORT, commit, facts_text, minute
from bench.schema.cells import counted, few_of
from bench.schema.errors import ExitCode
from bench.schema.history import HistoryPoint
from bench.verdicts.history import SOON, HistoryReport, Reach
from bench.verdicts.history_change import ALL_CASES, Cause, Change, Shape, What
from bench.verdicts.history_found import PROMISED

_MEANING = {
    ExitCode.PASSED: "no new loss",
    ExitCode.REGRESSION: "a new loss",
    ExitCode.INCONCLUSIVE: "inconclusive",
}


def print_changes(report: HistoryReport, console: Console) -> None:
    """Print a paragraph of each change, and the verdict."""
    for change in report.changes:
        for line in change_lines(change):
            console.print(Text(line), soft_wrap=True)
    for line in (*limit_lines(report), verdict_line(report)):
        console.print(Text(line), soft_wrap=True)


def change_lines(change: Change) -> Iterator[str]:
    """What changed, how sure that is, where, and what else differs there."""
    yield f"{change.id} {change.case} on {change.machine_name}: {size_of(change)}"
    kind = {Shape.STEP: "a step", Shape.CREEP: "a creep", Shape.DRIFT: "a drift"}[change.shape]
    sure = f"{change.chance:.0e}" if change.chance >= 1e-99 else "under 1e-99"
    after = f"{counted(change.runs, 'run')} after it"
    yield f"  {kind}, {after}; in a year without a change, one as sure has a chance of {sure}"
    place = change.place
    yield f"  between {_run(place.before)} and {_run(place.after)}; likeliest {_run(place.first)}"
    if place.between:
        yield f"  measured commits: {few_of([one[:COMMIT] for one in place.between])}"
    yield f"  differs: {differs_of(change)}"
    for told in standing_lines(change):
        yield f"  {told}"


def size_of(change: Change) -> str:
    """The size with its interval: `5.2% slower (4.1 to 6.3%)`."""
    low, high = sorted(abs(end) for end in (change.low, change.high))
    if change.what is What.SPEED:
        word = "slower" if change.worse else "faster"
        return f"{abs(change.size):.1%} {word} ({100 * low:.1f} to {high:.1%})"
    scale = change.scale
    ends = f"({100 * low:.1f} to {scale.sized(high)})"
    word = "worse" if change.worse else "better"
    return f"{scale.name} {word} by {scale.sized(abs(change.size))} {ends}"


def differs_of(change: Change) -> str:
    """What differs at its place: `code and environment: driver 570 -> 580`."""
    facts = facts_text(change.place.facts)
    return f"{change.place.cause}{f': {facts}' if facts else ''}"


def standing_lines(change: Change) -> Iterator[str]:
    """Why it does not count, or what is not known of it."""
    if change.note is not None:
        yield f"acknowledged: {change.note}"
    if change.over:
        yield "over: a later change took it back"
    if not change.counts:
        yield "within the margin"
    if change.shape is Shape.DRIFT:
        yield "slow, and no control series shows that it is not the machine's"
    elif change.case == ALL_CASES and not change.controlled and change.place.cause is Cause.CODE:
        yield "no control series: the machine itself may have changed"


def _run(point: HistoryPoint) -> str:
    named = commit(point.revision)
    told = filter(None, (minute(point.time_utc), named))
    return f"run {point.run[:SHORT]} ({', '.join(told)})"


def limit_lines(report: HistoryReport) -> Iterator[str]:
    """What is not known, and of how many cases."""
    for machine, runs in report.left_out.items():
        yield f"{machine}: {counted(runs, 'run')} of fewer than five cases left out"
    blind = report.blind
    if blind:
        named = few_of([f"{reach.case} {_least(reach)}" for reach in blind])
        points = f"{100 * report.sizes.accuracy_gate:g} points or percent"
        gates = f"{report.sizes.gate:.0%} of time, {points}"
        yield f"not found within {SOON} runs where it is as large as the gate ({gates}): {named}"


def _least(reach: Reach) -> str:
    if reach.smallest > 10:
        return f"({reach.what}, {counted(reach.runs, 'run')})"
    least = reach.smallest
    size = f"{least:.0%}" if reach.what is What.SPEED else reach.scale.sized(least)
    return f"({reach.what}, from {size} on)"


def verdict_line(report: HistoryReport) -> str:
    """The verdict, with the numbers behind it."""
    alarms = sum(change.alarms for change in report.changes)
    known = sum(change.note is not None for change in report.changes)
    told = [counted(len(report.changes), "change"), f"{alarms} new for the worse"]
    told += [f"{known} acknowledged"] * bool(known)
    told += [f"{counted(len(report.blind), 'figure')} not judged"] * bool(report.blind)
    rate = f"false ones in fewer than {PROMISED:.0%} of years of daily runs"
    code = report.exit_code
    return f"{_MEANING[code]} (exit {int(code)}): {', '.join(told)}; {rate}"
