"""`fmnist-bench history changes` and `ack`: where training got slower, and which of it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.cli.declared import SIZE_OPTIONS
from bench.cli.history import history_at, machine_option, store_option
from bench.cli.options import Verb, options
from bench.cli.verb import console_of
from bench.schema.bounds import shortened
from bench.schema.cells import few_of
from bench.schema.errors import ExitCode
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.schema.history import HistorySeries
    from bench.verdicts.history import HistoryReport

_F = TypeVar("_F", bound=Callable[..., Any])
_LONGEST_NOTE = 500


def control_option(function: _F) -> _F:
    """A decorator that adds `--control` to a verb."""
    told = (
        "what shows the machine alone: cases whose code is frozen, or the word probe for the "
        "reading before each launch; may be repeated"
    )
    return click.option("--control", multiple=True, metavar="PATTERN", help=told)(function)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed of a history that shall be judged, by option."""

    store: str | None
    machine: str | None
    since: str | None
    cases: str
    control: tuple[str, ...]
    sizes: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A history that was judged.

    Attributes:
        place: where it is, as a user is told.
        series: all runs of the machines.
        begun: the time, ISO 8601 in UTC, since which changes are told; empty for all.
    """

    place: str
    series: Sequence[HistorySeries]
    report: HistoryReport
    begun: str


def judged(wanted: Wanted) -> Judged:
    """Judge all runs, and tell what was asked for.

    Raises:
        UserError: the history cannot be read, or what was typed names nothing in it.
    """
    from bench.schema.sizes import Sizes
    from bench.verdicts.history import chosen, judge, since_time

    sizes = wanted.sizes
    allowed = Sizes.of_check(sizes["gate"], sizes["margin"], sizes["accuracy_gate"])
    with history_at(wanted.store) as there:
        # All runs: a later beginning would find other places.
        series = there.series(wanted.machine, last=None)
        notes = {note.id: note.note for note in there.notes().values()}
    begun = "" if wanted.since is None else since_time(series, wanted.since)
    refuse_no_control(wanted.control, series)
    refuse_unmatched("--cases", (wanted.cases,), series)
    report = chosen(judge(series, allowed, wanted.control, notes), begun, wanted.cases)
    return Judged(there.shown, series, report, begun)


@click.command(name="changes", cls=Verb)
@store_option
@machine_option
@click.option("--since", metavar="DATE|REV", help="only changes since a date, or since a commit")
@click.option("--cases", default="*", metavar="PATTERN", help="only these, such as '*-fit-*'")
@control_option
@options(lambda _: True, SIZE_OPTIONS)
def history_changes(
    store: str | None,
    machine: str | None,
    since: str | None,
    cases: str,
    control: tuple[str, ...],
    **sizes: float | None,
) -> int:
    """Find where the speed or the score of a case changed: by how much, and between which commits.

    In a year of daily runs without a change, fewer than 1% of machines show any, however often you
    look. A change counts where it is larger than the margin; a slow one, which no --control shows
    to be the code's, is a drift and does not count.

    Exit codes: 0, none; 1, a case got slower or worse, and nobody acknowledged it; 2, wrong use;
    3, too few runs, or too noisy ones, to find a change as large as the gate within 30 runs.
    """
    from bench.reports.terminal.history_changes import print_changes

    wanted = Wanted(store, machine, since, cases, control, sizes)
    report = judged(wanted).report
    print_changes(report, console_of())
    return report.exit_code


@click.command(name="ack", cls=Verb)
@click.argument("change")
@click.option("--note", required=True, metavar="TEXT", help="why it may stay")
@control_option
@store_option
def history_ack(change: str, note: str, control: tuple[str, ...], store: str | None) -> int:
    """Acknowledge a CHANGE by its id: it stays visible, with the note, and no longer counts."""
    from bench.schema.plan import validate_label
    from bench.schema.sizes import Sizes
    from bench.verdicts.history import judge

    validate_label(note, "--note", _LONGEST_NOTE)
    with history_at(store) as there:
        series = there.series(last=None)
        refuse_no_control(control, series)
        report = judge(series, Sizes.of_check(), control)
        known = {found.id for found in report.changes}
        named = [one for one in sorted(known | set(there.notes())) if one.startswith(change)]
        if len(named) != 1:
            told = f"is the beginning of {len(named)} ids" if named else "is no id of a change"
            raise UserError(f"{shortened(change)} {told}: fmnist-bench history changes shows them")
        there.note(named[0], note)
    click.echo(f"acknowledged {named[0]}: {note}")
    return ExitCode.PASSED


def refuse_no_control(control: tuple[str, ...], series: Sequence[HistorySeries]) -> None:
    """Refuse a pattern that no case matches, and the probe where no run has a reading of it.

    Raises:
        UserError: there is such a pattern.
    """
    from bench.verdicts.history import PROBE

    patterns = tuple(pattern for pattern in control if pattern != PROBE)
    refuse_unmatched("--control", patterns, series)
    if (
        series
        and patterns != control
        and all(point.control is None for one in series for point in one.points)
    ):
        raise UserError(
            f"--control {PROBE}: no run has a reading of the probe: name cases whose code is "
            "frozen, or measure runs with this version"
        )


def refuse_unmatched(
    option: str, patterns: tuple[str, ...], series: Sequence[HistorySeries]
) -> None:
    """Refuse a pattern that no case matches.

    Raises:
        UserError: there is such a pattern; the message names some cases.
    """
    from fnmatch import fnmatchcase

    cases = dict.fromkeys(one.case for one in series)
    for pattern in patterns:
        if cases and not any(fnmatchcase(case, pattern) for case in cases):
            raise UserError(
                f"{option} {shortened(pattern)}: no case is called so; there are "
                f"{few_of(list(cases))}"
            )
