"""Draws a comparison: ratios per case on a log axis, and the throughput of each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.reports.plots import panels
from bench.reports.plots.canvas import save_picture
from bench.reports.plots.compare_page import (
    Rows,
    draw_lane,
    drawn_names,
    header_of,
    page_of,
    rows_of,
    texts_of_runs,
)
from bench.reports.plots.dots import SPEED_LABEL
from bench.reports.plots.style import (
    INK,
    log_axis,
    log_limits,
    style,
)
from bench.reports.scaling_data import highest
from bench.schema.columns import Row
from bench.verdicts.compare import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TICKS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.5, 2.0, 5.0, 10.0, 20.0, 50.0)


def draw_comparison(found: Comparison, path: Path) -> None:
    """Write the picture of a comparison to `path` as PNG, in one move; the axes of its figure are
    labelled `ratio` and `throughput`, and `efficiency` where a case of several replicas has one.

    Raises:
        UserError: the picture cannot be written.
    """
    with style(texts_of_runs(found)):
        save_picture(_figure(found), path)


def _figure(found: Comparison) -> Figure:
    names = drawn_names(found)
    rows = rows_of(found)
    spread = _spread(found, rows, names)
    labels = ("ratio", "throughput", "efficiency")[: 3 if spread else 2]
    page = page_of(found, header_of(found), rows, labels)
    axes = page.axes
    detail = "above 1 is faster"
    # Three panels have no room for more.
    detail += "; interval where both sides have several launches" * (not spread)
    panels.title(axes[0], "Throughput over that of A", detail)
    panels.title(axes[1], "Throughput", "samples trained per second")
    _ratio_axis(axes[0], _ratios(found, rows, names))
    log_axis(axes[1], axes[1].xaxis, _speeds(found, rows, names))
    axes[1].set_xlabel(SPEED_LABEL)
    if spread:
        panels.title(axes[2], "Efficiency", "speed-up over replicas", beside=0.0)
        axes[2].set(xlim=(0, highest(spread)), xlabel="1 where nothing is lost")
        axes[2].axvline(1.0, color=INK, linewidth=1.0, zorder=1)
    for lane, name in enumerate(names):
        _draw_run(axes, found, rows, lane, name)
        if spread:
            _draw_efficiencies(axes[2], found, rows, lane, name)
    return page.figure


def _ratio_axis(axes: Axes, values: Sequence[float]) -> None:
    """Make a log axis around 1, with labels where they fit; 1 itself always has a label."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = log_limits([*values, 1.0], 1.25)
    axes.set(xscale="log", xlim=(low, high), xlabel="ratio of samples/s")
    inches = axes.get_window_extent().width / axes.figure.dpi / math.log(high / low)
    ticks = [1.0]
    for tick in sorted(_TICKS, key=lambda value: abs(math.log(value))):
        apart = min(abs(math.log(tick / other)) for other in ticks) * inches
        if low < tick < high and apart > 0.42:
            ticks.append(tick)
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(1.0, color=INK, linewidth=1.0, zorder=1)


def _ratios(found: Comparison, rows: Rows, names: Sequence[str]) -> list[float]:
    shown = {row.case for row in rows.rows}
    pairs = [p for name in names[1:] for p in found.pairs[name] if p.case in shown and p.ratio]
    return [value for p in pairs for value in (p.ratio, p.low, p.high) if value is not None]


def _speeds(found: Comparison, rows: Rows, names: Sequence[str]) -> list[float]:
    runs = [found.runs[name] for name in names]
    return [
        run.rows[row.case]["samples_per_s"]
        for run in runs
        for row in rows.rows
        if row.case in run.logs
    ]


def _draw_run(axes: Sequence[Axes], found: Comparison, rows: Rows, lane: int, name: str) -> None:
    """Draw the letter of a run in each row, and the intervals of its ratios."""
    run = found.runs[name]
    ratios = {
        pair.case: (pair.ratio, pair.low, pair.high)
        for pair in found.pairs.get(name, ())
        if pair.ratio is not None
    }
    speeds = {case: (run.rows[case]["samples_per_s"], None, None) for case in run.logs}
    draw_lane(axes[0], rows, lane, ratios)
    draw_lane(axes[1], rows, lane, speeds)


def _spread(found: Comparison, rows: Rows, names: Sequence[str]) -> list[Row]:
    """The rows of the drawn cases whose efficiencies are compared."""
    shown = {row.case for row in rows.rows}
    return [found.runs[name].rows[case] for name in names for case in found.spread(name) & shown]


def _draw_efficiencies(axes: Axes, found: Comparison, rows: Rows, lane: int, name: str) -> None:
    """Draw the letter of a run, and its interval, at each efficiency that is compared."""
    own = found.runs[name].rows
    columns = ("efficiency", "efficiency_low", "efficiency_high")
    values = {case: tuple(own[case][column] for column in columns) for case in found.spread(name)}
    draw_lane(axes, rows, lane, values)
