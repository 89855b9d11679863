"""Draws `scaling.png`: efficiency against replicas, and what the all-reduce alone takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.reports.formatting import one_line
from bench.reports.machine_text import machine_lines, title_of
from bench.reports.palette import LOOP_COLOURS, model_markers
from bench.reports.plots import panels
from bench.reports.plots.canvas import blank_figure, save_picture, texts_of
from bench.reports.plots.header import EDGE, PAGE_WIDTH, Header, Legend, draw_frame, make_header
from bench.reports.plots.style import (
    INK,
    SMALL_PT,
    SOFT_INK,
    line_styles,
    loop_style,
    style,
    text_width,
)
from bench.reports.scaling_data import Sweep, highest, sweeps
from bench.reports.scaling_words import scaling_title
from bench.schema.case import LOOPS, SCALINGS
from bench.schema.cells import counted
from bench.schema.columns import Row
from bench.schema.warnings import cpu_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
EFFICIENCY, SHARE, ABOVE, BELOW, BESIDE = 3.6, 2.0, 0.62, 0.55, 0.6
# More lines cannot be told apart.
MOST_LINES = 12
MOST_LABEL = 48
# Octaves between the marks of two lines with the same number of replicas.
ASIDE = 0.05


@dataclass(frozen=True, slots=True)
class _Panel:
    """One panel: a column of the rows against their replicas.

    Attributes:
        label: of its axes.
        alone: the value of one replica, where the lines begin; None where it has none.
    """

    label: str
    title: str
    column: str
    axis: str
    height: float
    lines: tuple[Sweep, ...]
    alone: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether the column has an interval."""
        return f"{self.column}_low" in self.lines[0].rows[0]

    def values(self, sweep: Sweep) -> list[tuple[int, float]]:
        """(replicas, value) of the rows that have one."""
        told = [(row["replicas"], row[self.column]) for row in sweep.rows]
        return [(number, value) for number, value in told if value is not None]


def draw_scaling(results: Sequence[Row], environment: Mapping[str, Any], path: Path) -> bool:
    """Write the picture to `path` as PNG, in one move; False where there is nothing to draw.

    The axes of its figure are labelled `efficiency: SCALING` and `all-reduce: SCALING`.

    Args:
        results: rows with the keys `RESULT_COLUMNS`.
        environment: contents of environment.json; missing facts are left out.
        path: the file, in an existing folder.

    Raises:
        UserError: the picture cannot be written.
    """
    found = sweeps(results)
    if found:
        with style(texts_of(results, environment)):
            save_picture(_figure(found, environment), path)
    return bool(found)


def _figure(found: Sequence[Sweep], environment: Mapping[str, Any]) -> Figure:
    shown = found[:MOST_LINES]
    markers = model_markers(dict.fromkeys(sweep.rows[0]["model"] for sweep in shown))
    dashes = line_styles(sweep.label for sweep in shown)
    figure = blank_figure(1, 1)
    header = _header(figure, shown, markers, environment)
    every = _panels(shown)
    labels = text_width(figure, map(_name, shown), SMALL_PT) + 0.25
    height = header.height + sum(panel.height + ABOVE + BELOW for panel in every) + 0.2
    figure.set_size_inches(PAGE_WIDTH, height)
    left_out = len(found) - len(shown)
    draw_frame(
        figure, header, f"{counted(left_out, 'more line')} in results.csv" if left_out else ""
    )
    width = PAGE_WIDTH - 2 * EDGE - BESIDE - labels
    numbers = {1} | {row["replicas"] for sweep in shown for row in sweep.rows}
    top = header.height
    for panel in every:
        top += ABOVE
        bottom = height - top - panel.height
        place = ((EDGE + BESIDE) / PAGE_WIDTH, bottom / height)
        size = (width / PAGE_WIDTH, panel.height / height)
        axes = figure.add_axes((*place, *size), label=panel.label)
        panels.title(axes, panel.title, panel.lines[0].common, beside=labels)
        panels.doubling_axis(axes, numbers, "replicas")
        _draw(axes, panel, markers, dashes)
        top += panel.height + BELOW
    return figure


def _header(
    figure: Figure,
    shown: Sequence[Sweep],
    markers: Mapping[str, str],
    environment: Mapping[str, Any],
) -> Header:
    rows = [row for sweep in shown for row in sweep.rows]
    grey = {"color": SOFT_INK}
    marks: dict[str, Mapping[str, Any]] = {}
    if any(row["efficiency_low"] is not None for row in rows):
        marks["95% interval over launches"] = {**grey, "marker": "|", "linestyle": "-"}
    marks["nothing is lost"] = {"color": INK, "marker": "", "linestyle": "-"}
    loops = [loop for loop in LOOPS if any(row["loop"] == loop for row in rows)]
    models = dict.fromkeys(row["model"] for row in rows)
    legend = Legend(loops, {model: markers[model] for model in models}, marks=marks)
    lines = machine_lines(environment, [row["device_name"] for row in rows])
    title = title_of(models, str(environment.get("label") or ""))
    return make_header(figure, title, [*lines, *cpu_lines(rows)], legend)


def _panels(shown: Sequence[Sweep]) -> list[_Panel]:
    """The panels, from above: of each scaling the efficiency, and the all-reduce where known."""
    found = []
    for scaling in SCALINGS:
        own = tuple(sweep for sweep in shown if sweep.scaling == scaling)
        if not own:
            continue
        title = f"Efficiency. {scaling_title(scaling)}"
        axis = "speed-up over replicas"
        label = f"efficiency: {scaling}"
        found.append(_Panel(label, title, "efficiency", axis, EFFICIENCY, own, 1.0))
        timed = tuple(s for s in own if any(r["all_reduce_share"] is not None for r in s.rows))
        if timed:
            title = "The all-reduce alone, over the time of a step"
            label = f"all-reduce: {scaling}"
            found.append(_Panel(label, title, "all_reduce_share", "share of a step", SHARE, timed))
    return found


def _draw(axes: Axes, panel: _Panel, markers: Mapping[str, str], dashes: Mapping[str, str]) -> None:
    top = 1.08 * max(value for sweep in panel.lines for _, value in panel.values(sweep))
    if panel.has_interval:
        top = highest([row for sweep in panel.lines for row in sweep.rows])
        axes.axhline(1.0, color=INK, linewidth=0.9, zorder=1, gid="ideal")
    axes.set_ylim(0, top)
    axes.set_ylabel(panel.axis)
    middle = (len(panel.lines) - 1) / 2
    ends: list[tuple[float, float]] = []
    for i, sweep in enumerate(panel.lines):
        first = sweep.rows[0]
        aside = 2 ** (ASIDE * (i - middle))
        points = [(number * aside, value) for number, value in panel.values(sweep)]
        begin = [] if panel.alone is None else [(1.0, panel.alone)]
        colour = LOOP_COLOURS[first["loop"]]
        xs, ys = zip(*begin, *points, strict=True)
        axes.plot(xs, ys, color=colour, linestyle=dashes[sweep.label], linewidth=1.2)
        if panel.has_interval:
            _draw_intervals(axes, panel, sweep, aside, top)
        for x, y in points:
            axes.plot([x], [y], markers[first["model"]], **loop_style(first["loop"]))
        ends.append(points[-1])
    panels.name_ends(axes, ends, [_name(sweep) for sweep in panel.lines])


def _draw_intervals(axes: Axes, panel: _Panel, sweep: Sweep, aside: float, top: float) -> None:
    """Draw the intervals; an end above the axis has no cap."""
    look: dict[str, Any] = {"color": LOOP_COLOURS[sweep.rows[0]["loop"]], "gid": "interval"}
    for row in sweep.rows:
        low, high = (row[f"{panel.column}_{end}"] for end in ("low", "high"))
        if low is None or high is None:
            continue
        x = row["replicas"] * aside
        axes.plot([x, x], [low, min(high, top)], linewidth=1.1, **look)
        caps = [end for end in (low, high) if end < top]
        axes.plot([x] * len(caps), caps, "_", markersize=7, markeredgewidth=1.1, **look)


def _name(sweep: Sweep) -> str:
    return one_line(sweep.label, MOST_LABEL)
