"""Draws the largest changes of a history: a small panel a case, readable without colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.reports.formatting import one_line
from bench.reports.plots import panels
from bench.reports.plots.canvas import blank_figure, save_picture
from bench.reports.plots.header import EDGE, PAGE_WIDTH, Legend, draw_frame, make_header
from bench.reports.plots.style import INK, SMALL_PT, SOFT_INK, fitted, style, with_prefix
from bench.reports.terminal.history_changes import size_of, verdict_line
from bench.reports.trend_data import SIGNS, Array, Mark, Standing, Trend, standing
from bench.schema.cells import counted, few_of
from bench.verdicts.history import HistoryReport
from bench.verdicts.history_change import ALL_CASES, What

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST, _COLUMNS = 9, 3
# Inches.
_HEIGHT, _ABOVE, _BELOW, _BESIDE, _GAP, _LINE = 1.25, 0.62, 0.38, 0.55, 0.25, 0.165
# Points of which a panel is crowded; from so many on the outermost hundredth may be cut off.
_MANY, _CUT = 150, 100
_LOSS, _GAIN = "#a34700", "#00704f"
# Shape, fill and dash tell them apart without colour.
_LOOKS: Mapping[Standing, Mapping[str, Any]] = {
    Standing.LOSS: {"color": _LOSS, "linestyle": "-", "fill": True},
    Standing.KNOWN: {"color": _LOSS, "linestyle": ":", "fill": False},
    Standing.GAIN: {"color": _GAIN, "linestyle": "--", "fill": True},
    Standing.QUIET: {"color": SOFT_INK, "linestyle": ":", "fill": False},
}


def draw_trends(trends: Sequence[Trend], report: HistoryReport, path: Path) -> None:
    """Write a picture of the series with the largest changes to `path` as PNG, in one move.

    Without a change it shows the first series. The axes of its figure are labelled with the names
    of the cases.

    Args:
        trends: of `bench.reports.trend_data.trends`; at least one.
        report: their changes.
        path: the file.

    Raises:
        UserError: the picture cannot be written.
    """
    shown = _chosen(trends)
    texts = [trend.series.case + trend.series.machine_name for trend in shown]
    with style(texts):
        save_picture(_figure(shown, trends, report), path)


def _chosen(trends: Sequence[Trend]) -> list[Trend]:
    """Those with the largest changes of their own, or else of all cases; else the first."""
    ordered = sorted(
        trends,
        key=lambda trend: (trend.largest, max((m.magnitude for m in trend.marks), default=0.0)),
        reverse=True,
    )
    changed = [trend for trend in ordered if trend.marks]
    return (changed or ordered)[:MOST]


def _figure(shown: Sequence[Trend], trends: Sequence[Trend], report: HistoryReport) -> Figure:
    figure = blank_figure(1, 1)
    names = list(dict.fromkeys(trend.series.machine_name for trend in trends))
    days = sorted(point.time_utc[:10] for trend in trends for point in trend.points)
    bars = any(len(trend.points) <= _MANY for trend in shown)
    lines = [
        f"{counted(len(trends), 'case')}, {days[0]} to {days[-1]} (UTC)",
        verdict_line(report),
        "filled triangle: a change; hollow and dotted: acknowledged, or it does not count; down is "
        "worse",
        "differs there: C the code, E the environment, E? the environment and perhaps the code, "
        "? nothing that was recorded",
        "dots: runs, in samples/s or, where it changed, the score; black: their median between "
        f"changes; {'grey bars: 95% intervals; ' * bars}ticks below: another environment",
    ]
    header = make_header(
        figure,
        f"Training over time: {few_of([one_line(name, 48) for name in names], 2)}",
        lines,
        Legend(),
    )
    rows = math.ceil(len(shown) / _COLUMNS)
    several = len(names) > 1
    above = _ABOVE + _LINE * several
    band = above + _HEIGHT + _BELOW
    page = header.height + rows * band + 0.3
    figure.set_size_inches(PAGE_WIDTH, page)
    left_out = sum(bool(trend.marks) for trend in trends) - len(shown)
    more = f"{counted(left_out, 'case')} more with changes on the page" if left_out > 0 else ""
    draw_frame(figure, header, more)
    width = (PAGE_WIDTH - 2 * EDGE - (_COLUMNS - 1) * _GAP) / _COLUMNS
    for number, trend in enumerate(shown):
        row, column = divmod(number, _COLUMNS)
        bottom = page - header.height - row * band - above - _HEIGHT
        place = EDGE + column * (width + _GAP) + _BESIDE, bottom, width - _BESIDE, _HEIGHT
        over = PAGE_WIDTH, page, PAGE_WIDTH, page
        share = [length / of for length, of in zip(place, over, strict=True)]
        axes = figure.add_axes((share[0], share[1], share[2], share[3]), label=trend.series.case)
        _panel(axes, trend, several)
    return figure


def _panel(axes: Axes, trend: Trend, several: bool) -> None:
    largest = max(trend.own or trend.marks, key=lambda mark: mark.magnitude, default=None)
    what = largest.change.what if largest else What.SPEED
    values = trend.values[what]
    _heading(axes, trend, largest, several)
    if not np.isfinite(values).any():
        panels.empty(axes, "no run ended ok")
        return
    times = np.array([datetime.fromisoformat(p.time_utc).timestamp() for p in trend.points])
    levels = trend.levels[what]
    low, high = _limits(values, [level.value for level in levels])
    axes.set_ylim(low, high)
    room = 0.02 * (times[-1] - times[0]) or 1.0
    axes.set_xlim(times[0] - room, times[-1] + room)
    size = 2.0 if values.size > _MANY else 3.2
    if values.size <= _MANY:
        _intervals(axes, trend, what, times)
    axes.plot(times, values, "o", color="#9a9a9a", markersize=size, markeredgewidth=0, zorder=2)
    for level in levels:
        ends = times[level.start], times[level.end - 1]
        axes.plot(ends, [level.value] * 2, color=INK, linewidth=1.4, zorder=3)
    for mark in trend.marks:
        if mark.change.what is what:
            _mark(axes, mark, times)
    _environments(axes, trend, times)
    _ticks(axes, trend, times)


def _heading(axes: Axes, trend: Trend, largest: Mark | None, several: bool) -> None:
    figure = axes.figure.get_figure(root=True)
    width = axes.get_window_extent().width / figure.dpi + _BESIDE - 0.1
    told = "no change found"
    if largest is not None:
        change = largest.change
        whose = f"{ALL_CASES}: " if largest.shared else ""
        told = f"{whose}{size_of(change)}, {trend.points[largest.first].time_utc[:10]}"
        told += ", acknowledged" * (change.note is not None)
    lines = [(trend.series.case, "bold"), (told, "normal")]
    if several:
        lines.insert(1, (trend.series.machine_name, "normal"))
    for place, (text, weight) in enumerate(lines):
        axes.annotate(
            fitted(figure, text, SMALL_PT, width, weight),
            (0, 1),
            (-_BESIDE * 72 + 4, 19 + 72 * _LINE * (len(lines) - 1 - place)),
            xycoords="axes fraction",
            textcoords="offset points",
            size=SMALL_PT,
            weight=weight,
        )


def _limits(values: Array, levels: Sequence[float]) -> tuple[float, float]:
    held = np.sort(values[np.isfinite(values)])
    cut = held.size // 100 if held.size >= _CUT else 0
    low, high = min(held[cut], *levels), max(held[-1 - cut], *levels)
    middle = (low + high) / 2
    room = max(0.08 * (high - low), (0.06 * abs(middle) - (high - low)) / 2) or 0.01
    return float(low - room), float(high + room)


def _intervals(axes: Axes, trend: Trend, what: What, times: Array) -> None:
    """Draw the interval of each run; where there are many they would be a wall."""
    values, halves = trend.values[what], trend.halves[what]
    if what is What.SPEED:
        ends = values * np.exp(-halves), values * np.exp(halves)
    else:
        ends = values - halves, values + halves
    held = np.isfinite(ends[0])
    lows, highs = (end[held] for end in ends)
    axes.vlines(times[held], lows, highs, color="#cccccc", linewidth=0.8, zorder=1, gid="interval")


def _mark(axes: Axes, mark: Mark, times: Array) -> None:
    look = _LOOKS[standing(mark.change)]
    colour = look["color"]
    at = (times[mark.first] + times[max(0, mark.first - 1)]) / 2
    axes.axvspan(times[mark.low], times[mark.high], color="#000000", alpha=0.09, linewidth=0)
    axes.axvline(at, color=colour, linewidth=1.2, linestyle=look["linestyle"], zorder=1.5)
    axes.plot(
        [at],
        [1.06],
        "v" if mark.change.worse else "^",
        transform=axes.get_xaxis_transform(),
        color=colour,
        markerfacecolor=colour if look["fill"] else "white",
        markersize=6,
        clip_on=False,
        gid="change",
    )
    axes.annotate(
        SIGNS[mark.change.place.cause],
        (at, 1.06),
        (5, 0),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        va="center_baseline",
        size=SMALL_PT - 1,
        annotation_clip=False,
    )


def _environments(axes: Axes, trend: Trend, times: Array) -> None:
    # A fact that only the later run recorded is no other environment.
    changed = [n for n, (a, b) in enumerate(pairwise(trend.points), 1) if b.changed_since(a)]
    axes.plot(
        times[changed],
        [-0.05] * len(changed),
        "|",
        transform=axes.get_xaxis_transform(),
        color=INK,
        markersize=5,
        clip_on=False,
        gid="environment",
    )


def _ticks(axes: Axes, trend: Trend, times: Array) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(4))
    if axes.get_ylim()[1] >= 1_000:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_prefix(round(value, 3))))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    days = [trend.points[0].time_utc[:10], trend.points[-1].time_utc[:10]]
    axes.set_xticks(
        axes.get_xlim() if days[0] != days[1] else [times.mean()], days[: len(set(days))]
    )
    axes.tick_params("both", labelsize=SMALL_PT - 1, length=0)
    axes.tick_params("x", pad=6)
    if days[0] != days[1]:
        first, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
