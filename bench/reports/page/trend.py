"""The page of a history: a small chart for each case of each machine, with its changes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.reports.formatting import one_line
from bench.reports.page.document import Parts, assembled, write_page
from bench.reports.page.table import choices_of
from bench.reports.page.trend_records import trend_data
from bench.reports.terminal.history import COMMIT, SHORT
from bench.reports.terminal.history_changes import (
    differs_of,
    limit_lines,
    size_of,
    standing_lines,
    verdict_line,
)
from bench.reports.trend_data import Standing, Trend, standing
from bench.schema.case import AXES
from bench.schema.cells import as_cell, counted, few_of
from bench.verdicts.facts import UNKNOWN
from bench.verdicts.history import HistoryReport
from bench.verdicts.history_change import ALL_CASES, Change, What

NAME = "trend.html"
FILTERS = ("machine", *AXES, "score", "changes")
HEADINGS = (
    "since",
    "case",
    "machine",
    "change",
    "how",
    "differs",
    "measured commits",
    "counts",
    "id",
)
# Of the changes below a chart, the newest; and of the commits of one.
_MOST_MARKS, _MOST_COMMITS = 3, 5
# Signs of the name of a machine.
_MOST_NAME = 48
# Of a change for the better and for the worse, filled where it is news.
_FILLED = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"
_HOLLOW = "\N{WHITE UP-POINTING TRIANGLE}", "\N{WHITE DOWN-POINTING TRIANGLE}"
_CHANGED = {
    Standing.LOSS: "new losses",
    Standing.KNOWN: "acknowledged",
    Standing.GAIN: "gains",
    Standing.QUIET: "others",
}


@dataclass(frozen=True, slots=True)
class MarkView:
    """A change in the list below a chart: how it is marked, its sign, text, day and cause."""

    standing: str
    sign: str
    text: str
    day: str
    cause: str


@dataclass(frozen=True, slots=True)
class Card:
    """What stands around the chart of a case.

    Attributes:
        key: its place in the script's data.
        facets: its values for the filters, in the order of `FILTERS`.
        loop: decides the colour of its points; empty where not known.
        about: machine, number of runs, and the figures of the last one.
        more: number of changes that are not in `marks`.
    """

    key: int
    case: str
    facets: tuple[str, ...]
    loop: str
    about: str
    marks: tuple[MarkView, ...]
    more: int


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A row of the table of changes; `card` is the key of its chart, None without one."""

    day: str
    case: str
    card: int | None
    standing: str
    sign: str
    cells: tuple[str, ...]


def write_trend(trends: Sequence[Trend], report: HistoryReport, output: Path) -> None:
    """Write the page of these series to `output`.

    Args:
        trends: of `bench.reports.trend_data.trends`; at least one.
        report: their changes.
        output: the file.

    Raises:
        UserError: something else than a page is there, or it cannot be written.
    """
    write_page(output, trend_page(trends, report))


def trend_page(trends: Sequence[Trend], report: HistoryReport) -> str:
    """The whole page as HTML, new losses first."""
    shown = sorted(trends, key=lambda trend: trend.order, reverse=True)
    machines = dict.fromkeys(trend.series.machine_name for trend in shown)
    several = len(machines) > 1
    works = Counter((trend.series.machine, trend.series.case) for trend in shown)
    cards = [_card(key, trend, several, works) for key, trend in enumerate(shown)]
    return assembled(
        "trend.html",
        Parts(("report.css", "trend.css"), ("shared.js", "trend.js")),
        {"filters": FILTERS, **trend_data(shown)},
        machines=few_of([one_line(name, _MOST_NAME) for name in machines], 2),
        about=_about(shown),
        verdict=verdict_line(report),
        limits=list(limit_lines(report)),
        headings=[name for name in HEADINGS if several or name != "machine"],
        changes=[_row(change, shown, several) for change in reversed(report.changes)],
        cards=cards,
        filters=FILTERS,
        choices=choices_of(FILTERS, [card.facets for card in cards]),
        scored=any(np.isfinite(trend.values[What.SCORE]).any() for trend in shown),
        sizes=report.sizes,
    )


def _about(trends: Sequence[Trend]) -> str:
    """How much there is, and of which time."""
    runs = {(trend.series.machine, point.run) for trend in trends for point in trend.points}
    days = sorted(point.time_utc[:10] for trend in trends for point in trend.points)
    cases = counted(len({trend.series.case for trend in trends}), "case")
    return f"{cases}, {counted(len(runs), 'run')} from {days[0]} to {days[-1]} (UTC)"


def _card(key: int, trend: Trend, several: bool, works: Counter[tuple[str, str]]) -> Card:
    series = trend.series
    parts = [one_line(series.machine_name, _MOST_NAME)] if several else []
    if works[series.machine, series.case] > 1:
        parts.append(f"work {series.workload[:SHORT] or UNKNOWN}")
    parts += [counted(len(trend.points), "run"), *_latest(trend)]
    marks = [
        MarkView(
            standing(mark.change),
            _sign(mark.change),
            f"{ALL_CASES}: " * mark.shared + size_of(mark.change),
            trend.points[mark.first].time_utc[:10],
            str(mark.change.place.cause),
        )
        for mark in reversed(trend.marks)
    ]
    return Card(
        key,
        series.case,
        _facets(trend),
        trend.case.loop if trend.case else "",
        " · ".join(parts),
        tuple(marks[:_MOST_MARKS]),
        len(marks[_MOST_MARKS:]),
    )


def _sign(change: Change) -> str:
    signs = _FILLED if standing(change) in (Standing.LOSS, Standing.GAIN) else _HOLLOW
    return signs[change.worse]


def _latest(trend: Trend) -> list[str]:
    """The figures of the last run; its status where it has none."""
    last = trend.points[-1]
    if not last.logs:
        return [f"last {last.status}"]
    speed, half = (float(of[What.SPEED][-1]) for of in (trend.values, trend.halves))
    told = [f"last {speed:,.0f}/s" + (f" ±{math.expm1(half):.1%}" if half >= 0 else "")]
    if last.scores:
        told.append(f"{trend.series.score} {trend.values[What.SCORE][-1]:.3g}")
    return told


def _facets(trend: Trend) -> tuple[str, ...]:
    case = trend.case
    axes = (as_cell(getattr(case, name)) if case else "" for name in AXES)
    kinds = {standing(mark.change) for mark in trend.marks}
    changed = next((_CHANGED[kind] for kind in Standing if kind in kinds), "none")
    named = (trend.series.machine_name, *axes, trend.series.score, changed)
    return tuple(value or "(none)" for value in named)


def _row(change: Change, trends: Sequence[Trend], several: bool) -> ChangeRow:
    keys = (key for key, trend in enumerate(trends) for mark in trend.own if mark.change is change)
    place, kind = change.place, standing(change)
    cells = [
        *([one_line(change.machine_name, _MOST_NAME)] if several else []),
        size_of(change),
        f"{change.shape}, {counted(change.runs, 'run')} since",
        differs_of(change),
        few_of([one[:COMMIT] for one in place.between], _MOST_COMMITS),
        "; ".join(["new"] * (kind is Standing.LOSS) + list(standing_lines(change))),
        change.id,
    ]
    return ChangeRow(
        place.first.time_utc[:10],
        change.case,
        next(keys, None),
        kind,
        _sign(change),
        tuple(cells),
    )
