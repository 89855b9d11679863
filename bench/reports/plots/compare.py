"""Draws a comparison: ratios per case on a log axis, and the throughput of each run.

Each run has a letter as its marker, which needs neither colour nor legend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from bench.reports.formatting import one_line
from bench.reports.machine_text import machine_lines, title_of
from bench.reports.palette import LOOP_COLOURS
from bench.reports.plots import panels
from bench.reports.plots.canvas import blank_figure, save_picture
from bench.reports.plots.dots import EDGE_IN, HEADING_IN, SPEED_LABEL, heading
from bench.reports.plots.header import EDGE, PAGE_WIDTH, Header, draw_frame
from bench.reports.plots.style import (
    INK,
    RULE,
    SMALL_PT,
    TEXT_PT,
    TITLE_PT,
    fitted,
    log_axis,
    log_limits,
    style,
    text_width,
)
from bench.reports.scaling_data import highest
from bench.reports.selection import USUAL_SETTING
from bench.schema.case import LOOPS
from bench.schema.columns import Row
from bench.schema.warnings import cpu_lines
from bench.verdicts.compare import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as MarkerPath

# Inches.
LANE, ROW_GAP, TITLE_BAND, AXIS_BAND, BETWEEN = 0.125, 0.08, 0.62, 0.75, 0.35
# The most that fits on one page; the rest is in comparison.csv.
MOST_LANES, MOST_RUNS = 170, 26
SEPARATOR = " · "
_TICKS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.5, 2.0, 5.0, 10.0, 20.0, 50.0)


@dataclass(frozen=True, slots=True)
class _Row:
    """One case with a lane for each run; `top` is in inches below the upper edge of the axes."""

    case: str
    loop: str
    label: str
    top: float


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of both panels; places and height are in inches."""

    rows: tuple[_Row, ...]
    headings: tuple[tuple[str, float], ...]
    height: float
    left_out: int


def draw_comparison(found: Comparison, path: Path) -> None:
    """Write the picture of a comparison to `path` as PNG, in one move; the axes of its figure are
    labelled `ratio` and `throughput`, and `efficiency` where a case of several replicas has one.

    Raises:
        UserError: the picture cannot be written.
    """
    texts = [*found.runs, *found.cases, *_machines(found)]
    with style(texts):
        save_picture(_figure(found), path)


def _figure(found: Comparison) -> Figure:
    figure = blank_figure(1, 1)
    names = [found.baseline, *found.pairs][:MOST_RUNS]
    rows = _rows(found, len(names))
    header = _header(figure, found, names)
    page = header.height + TITLE_BAND + rows.height + AXIS_BAND
    figure.set_size_inches(PAGE_WIDTH, page)
    draw_frame(figure, header, _footer(found, rows, names))
    labels = text_width(figure, [row.label for row in rows.rows], SMALL_PT) + 0.12
    spread = _spread(found, rows, names)
    count = 3 if spread else 2
    width = (PAGE_WIDTH - 2 * EDGE - labels - BETWEEN * (count - 1)) / count
    axes = [
        figure.add_axes(
            (
                (EDGE + labels + place * (width + BETWEEN)) / PAGE_WIDTH,
                AXIS_BAND / page,
                width / PAGE_WIDTH,
                rows.height / page,
            ),
            label=label,
        )
        for place, label in enumerate(("ratio", "throughput", "efficiency")[:count])
    ]
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
    for panel in axes:
        _frame(panel, rows, labels if panel is axes[0] else 0.0, width)
    axes[0].set_yticks(
        [row.top + (ROW_GAP + LANE * len(names)) / 2 for row in rows.rows],
        [row.label for row in rows.rows],
        size=SMALL_PT,
    )
    for lane, name in enumerate(names):
        _draw_run(axes, found, rows, lane, name)
        if spread:
            _draw_efficiencies(axes[2], found, rows, lane, name)
    return figure


def _rows(found: Comparison, lanes: int) -> _Rows:
    """The cases with a ratio, grouped by loop.

    Where there are too many, cases at the documented setting are kept first.
    """
    known = {pair.case for pairs in found.pairs.values() for pair in pairs if pair.ratio}
    facts = {case: row for run in found.runs.values() for case, row in run.rows.items()}
    cases = sorted(
        (case for case in found.cases if case in known),
        key=lambda c: (facts[c]["batch_size"], facts[c]["precision"]) != USUAL_SETTING,
    )
    kept = set(cases[: max(1, MOST_LANES // lanes)])
    rows: list[_Row] = []
    headings = []
    y = EDGE_IN
    for loop in LOOPS:
        own = [case for case in found.cases if case in kept and facts[case]["loop"] == loop]
        if own:
            headings.append((loop, y))
            y += HEADING_IN
        for case in own:
            label = one_line(case.replace(f"-{loop}-", " ", 1).replace("-", " "), 46)
            rows.append(_Row(case, loop, label, y))
            y += ROW_GAP + LANE * lanes
    return _Rows(tuple(rows), tuple(headings), y + EDGE_IN, len(cases) - len(kept))


def _header(figure: Figure, found: Comparison, names: Sequence[str]) -> Header:
    width = PAGE_WIDTH - 2 * EDGE
    models = [row["model"] for run in found.runs.values() for row in run.rows.values()]
    title = title_of(models, f"{len(found.runs)} runs compared")
    machines = dict(zip(found.runs, _machines(found), strict=True))
    own = {name: machine.split(SEPARATOR) for name, machine in machines.items()}
    lines = []
    for letter, name in zip(ascii_uppercase, names, strict=False):
        line = f"{letter}  {one_line(name, 40)}: {machines[name]}"
        if name in found.summaries:
            total = found.summaries[name]
            # Facts that are the same as A's are left out, because all would not fit.
            other = [fact for fact in own[name] if fact not in own[found.baseline]]
            line = (
                f"{letter}  {one_line(name, 40)}: {total.geometric_mean:.2f} times A "
                f"({total.lowest:.2f} to {total.highest:.2f}): "
                f"{SEPARATOR.join(other) or 'machine and software as A'}"
            )
        lines.append(fitted(figure, line, TEXT_PT, width))
    lines += cpu_lines(run.rows[case] for run in found.runs.values() for case in run.logs)
    return Header(fitted(figure, title, TITLE_PT, width, "bold"), tuple(lines), ())


def _machines(found: Comparison) -> list[str]:
    """Machine and software of each run on one line."""
    return [
        SEPARATOR.join(filter(None, machine_lines(run.environment, [])))
        for run in found.runs.values()
    ]


def _footer(found: Comparison, rows: _Rows, names: Sequence[str]) -> str:
    parts = [f"{rows.left_out} cases"] if rows.left_out else []
    if len(found.runs) > len(names):
        parts.append(f"{len(found.runs) - len(names)} runs")
    return f"{' and '.join(parts)} more in comparison.csv" if parts else ""


def _frame(axes: Axes, rows: _Rows, labels: float, width: float) -> None:
    axes.set_ylim(rows.height, 0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    for name, y in rows.headings:
        heading(axes, name if labels else "", y, -labels / width, labels + width)
    for row in rows.rows:
        axes.axhline(row.top, color=RULE, linewidth=0.5, zorder=0.5)


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


def _ratios(found: Comparison, rows: _Rows, names: Sequence[str]) -> list[float]:
    shown = {row.case for row in rows.rows}
    pairs = [p for name in names[1:] for p in found.pairs[name] if p.case in shown and p.ratio]
    return [value for p in pairs for value in (p.ratio, p.low, p.high) if value is not None]


def _speeds(found: Comparison, rows: _Rows, names: Sequence[str]) -> list[float]:
    runs = [found.runs[name] for name in names]
    return [
        run.rows[row.case]["samples_per_s"]
        for run in runs
        for row in rows.rows
        if row.case in run.logs
    ]


def _draw_run(axes: Sequence[Axes], found: Comparison, rows: _Rows, lane: int, name: str) -> None:
    """Draw the letter of a run in each row, and the intervals of its ratios."""
    look: dict[str, Any] = {"linestyle": "None", "markersize": 7.5, "markeredgewidth": 0}
    look |= {"marker": _letter(ascii_uppercase[lane]), "color": INK}
    pairs = {pair.case: pair for pair in found.pairs.get(name, ())}
    run = found.runs[name]
    for loop in dict.fromkeys(row.loop for row in rows.rows):
        own = [row for row in rows.rows if row.loop == loop]
        ys = {row.case: row.top + ROW_GAP / 2 + LANE * (lane + 0.5) for row in own}
        colour = LOOP_COLOURS[loop]
        drawn = [(ys[c], pairs[c]) for c in ys if c in pairs]
        ends = [(y, p.low, p.high) for y, p in drawn if p.low is not None and p.high is not None]
        places, lows, highs = zip(*ends, strict=True) if ends else ((), (), ())
        axes[0].hlines(places, lows, highs, color=colour, linewidth=3.2, alpha=0.35, gid="interval")
        ratios = [(y, p.ratio) for y, p in drawn if p.ratio is not None]
        axes[0].plot([ratio for _, ratio in ratios], [y for y, _ in ratios], **look)
        held = [case for case in ys if case in run.logs]
        speeds = [run.rows[case]["samples_per_s"] for case in held]
        axes[1].plot(speeds, [ys[case] for case in held], **look)


def _spread(found: Comparison, rows: _Rows, names: Sequence[str]) -> list[Row]:
    """The rows of the drawn cases whose efficiencies are compared."""
    shown = {row.case for row in rows.rows}
    return [found.runs[name].rows[case] for name in names for case in found.spread(name) & shown]


def _draw_efficiencies(axes: Axes, found: Comparison, rows: _Rows, lane: int, name: str) -> None:
    """Draw the letter of a run, and its interval, at each efficiency that is compared."""
    look: dict[str, Any] = {"linestyle": "None", "markersize": 7.5, "markeredgewidth": 0}
    look |= {"marker": _letter(ascii_uppercase[lane]), "color": INK}
    compared = found.spread(name)
    for place in (place for place in rows.rows if place.case in compared):
        row = found.runs[name].rows[place.case]
        y = place.top + ROW_GAP / 2 + LANE * (lane + 0.5)
        if row["efficiency_low"] is not None:
            ends = row["efficiency_low"], row["efficiency_high"]
            colour = LOOP_COLOURS[place.loop]
            axes.hlines(y, *ends, color=colour, linewidth=3.2, alpha=0.35, gid="interval")
        axes.plot([row["efficiency"]], [y], **look)


def _letter(letter: str) -> MarkerPath:
    """A bold letter as a marker, centred on the point."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as MarkerPath
    from matplotlib.textpath import TextPath

    drawn = TextPath((0, 0), letter, size=1, prop=FontProperties(weight="bold"))
    box = drawn.get_extents()
    middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    return MarkerPath(drawn.vertices - middle, drawn.codes)
