"""The panels for scores and batch sizes, and the title or the reason of an empty panel."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from bench.reports.formatting import one_line
from bench.reports.palette import LOOP_COLOURS
from bench.reports.plots.dots import SPEED_LABEL, Markers, draw_interval, draw_rounds, speeds
from bench.reports.plots.style import (
    INK,
    MARKER_PT,
    PANEL_PT,
    SMALL_PT,
    SOFT_INK,
    TEXT_PT,
    axes_size,
    figure_of,
    fitted,
    log_axis,
    loop_style,
    text_extent,
)
from bench.reports.scores import directed
from bench.reports.selection import Point, Series
from bench.schema.score import ACCURACY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

# Inches.
LINE_IN = 0.145
# Places of a name around its point, in the order in which they are tried.
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1))


def title(axes: Axes, text: str, detail: str = "", beside: float = 0.4) -> None:
    """Write the panel's title above its top left corner, and `detail` below it in small type.

    Both are shortened to the width of the axes and `beside` inches right of them.
    """
    room = axes_size(axes)[0] + beside
    text = fitted(figure_of(axes), text, PANEL_PT, room, "bold")
    detail = fitted(figure_of(axes), detail, SMALL_PT, room)
    place: dict[str, Any] = {"xy": (0, 1), "xycoords": "axes fraction", "ha": "left"}
    place |= {"textcoords": "offset points", "va": "baseline"}
    axes.annotate(text, xytext=(0, 20 if detail else 8), size=PANEL_PT, weight="bold", **place)
    if detail:
        axes.annotate(detail, xytext=(0, 7), size=SMALL_PT, color=SOFT_INK, **place)


def empty(axes: Axes, reason: str) -> None:
    """Write the reason why the panel is empty."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#f7f7f7")
    place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, reason, size=TEXT_PT, color=SOFT_INK, **place)


def score(axes: Axes, measured: Sequence[Point], every: Sequence[Point], markers: Markers) -> None:
    """Draw the score on validation data over training seconds; all points have the same score.

    The points of `every` device set the limits, so that the panels of several devices are
    comparable.
    """
    times = [p.training_s for p in every]
    log_axis(axes, axes.xaxis, times)
    targets = sorted({p.score_target for p in every if math.isfinite(p.score_target)})
    heights = [*(p.val_score for p in every), *targets]
    # So that the noise of scores that are almost the same does not fill the panel.
    least = 0.005 * (1.0 if every[0].score == ACCURACY else max(map(abs, heights)) or 1.0)
    margin = max(0.08 * (max(heights) - min(heights)), least)
    axes.set_ylim(min(heights) - margin, max(heights) + margin)
    axes.locator_params(axis="y", nbins=7)
    axes.grid()
    axes.set_axisbelow(True)
    axes.set_ylabel(directed(every[0].score, every[0].better))
    _draw_targets(axes, targets)
    for point in measured:
        style = loop_style(point.loop) | {"markersize": MARKER_PT + 1}
        axes.plot([point.training_s], [point.val_score], markers[point.model], **style)
    _name_where_room(axes, measured, _names(measured, markers))


def _draw_targets(axes: Axes, targets: Sequence[float]) -> None:
    """Draw a line for each target, its value right of it, moved up or down until none overlap."""
    dpi, box = figure_of(axes).dpi, axes.get_window_extent()
    wanted = [axes.transData.transform((1, target))[1] / dpi for target in targets]
    heights = spread(wanted, 2 * LINE_IN, box.y0 / dpi, box.y1 / dpi)
    for target, height in zip(targets, heights, strict=True):
        axes.axhline(
            target, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1, gid="target"
        )
        axes.annotate(
            f"target\n{target:g}",
            (1, (height * dpi - box.y0) / box.height),
            (4, 0),
            "axes fraction",
            textcoords="offset points",
            va="center",
            size=SMALL_PT,
        )


def batches(axes: Axes, series: Sequence[Series], markers: Markers, dashes: Markers) -> None:
    """Draw samples/s over the batch size, one line per series, with its name at the right end."""
    shown = [point for line in series for point in line.points]
    log_axis(axes, axes.yaxis, speeds(shown))
    doubling_axis(axes, {point.batch_size for point in shown}, "batch size (samples)")
    axes.set_ylabel(SPEED_LABEL)
    for line in series:
        first = line.points[0]
        dash = dashes[first.placement]
        drawn = [p.batch_size for p in line.points], [p.samples_per_s for p in line.points]
        axes.plot(*drawn, color=LOOP_COLOURS[first.loop], linestyle=dash, linewidth=1.2)
        for point in line.points:
            draw_interval(axes, point, point.batch_size, vertical=True)
            axes.plot(
                [point.batch_size],
                [point.samples_per_s],
                markers[point.model],
                **loop_style(point.loop),
            )
            draw_rounds(axes, point, point.batch_size, vertical=True)
    ends = [(line.points[-1].batch_size, line.points[-1].samples_per_s) for line in series]
    name_ends(axes, ends, series_labels(series))


def doubling_axis(axes: Axes, numbers: Collection[int], label: str) -> None:
    """Make x logarithmic around whole numbers, with a label at each for which there is room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ordered = sorted(numbers)
    axes.set_xscale("log", base=2)
    axes.set_xlim(ordered[0] / 1.25, ordered[-1] * 1.25)
    axes.xaxis.set_major_locator(FixedLocator(_apart(axes, ordered)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid()
    axes.set_axisbelow(True)
    axes.set_xlabel(label)


def series_labels(series: Sequence[Series]) -> list[str]:
    """The names right of the axes of `batches`."""
    return [one_line(line.label, 36) for line in series]


def _apart(axes: Axes, sizes: Sequence[int]) -> list[int]:
    """The batch sizes whose labels do not overlap; the largest is always one of them."""
    kept: list[int] = []
    left = float("inf")
    for size in reversed(sizes):
        x = axes.transData.transform((size, 1))[0] / figure_of(axes).dpi
        half = text_extent(figure_of(axes), str(size), TEXT_PT)[0] / 2
        if x + half < left:
            kept.append(size)
            left = x - half - 0.06
    return kept


def name_ends(axes: Axes, ends: Sequence[tuple[float, float]], labels: Sequence[str]) -> None:
    """Write a name at the right of each line's end, moved up or down until none overlap."""
    dpi = figure_of(axes).dpi
    pixels = [axes.transData.transform(end)[1] for end in ends]
    order = sorted(range(len(ends)), key=lambda i: pixels[i])
    box = axes.get_window_extent()
    wanted = [pixels[i] / dpi for i in order]
    heights = spread(wanted, LINE_IN, box.y0 / dpi, box.y1 / dpi)
    for i, height in zip(order, heights, strict=True):
        axes.annotate(
            labels[i],
            ends[i],
            (1 + 0.08 * dpi / box.width, (height * dpi - box.y0) / box.height),
            textcoords="axes fraction",
            va="center_baseline",
            size=SMALL_PT,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": "#999999",
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 13,
            },
        )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart, close to the sorted positions `wanted`.

    They are between `low` and `high`, where they fit.
    """
    placed: list[float] = []
    for i, position in enumerate(wanted):
        floor = placed[-1] + gap if placed else low
        placed.append(max(min(position, high - gap * (len(wanted) - 1 - i)), floor))
    return placed


def _name_where_room(axes: Axes, measured: Sequence[Point], names: Sequence[str]) -> None:
    """Write names of points where they cover nothing and are not close to another point."""
    from matplotlib.transforms import Bbox

    pixels = figure_of(axes).dpi / 72
    centres = [axes.transData.transform((p.training_s, p.val_score)) for p in measured]
    clear = (MARKER_PT / 2 + 5) * pixels
    around = [Bbox([centre - clear, centre + clear]) for centre in centres]
    inside = axes.get_window_extent()
    covered = [line.get_window_extent() for line in axes.lines if line.get_gid() == "target"]
    for i, (point, name) in enumerate(zip(measured, names, strict=True)):
        for side, up in _SIDES:
            text = axes.annotate(
                name,
                (point.training_s, point.val_score),
                (side * 6, up * 6),
                textcoords="offset points",
                ha={1: "left", 0: "center", -1: "right"}[side],
                va={1: "bottom", 0: "center_baseline", -1: "top"}[up],
                size=SMALL_PT,
                color=SOFT_INK,
            )
            box = text.get_window_extent()
            others = around[:i] + around[i + 1 :] + covered
            if _fits(box, inside) and not any(box.overlaps(other) for other in others):
                covered.append(box)
                break
            text.remove()


def _names(measured: Sequence[Point], markers: Markers) -> list[str]:
    """The name of each point: the optimizer, and the builder where own models share a marker."""
    sharing = Counter(markers[model] for model in {p.model for p in measured})
    several = len({p.optimizer for p in measured if p.optimizer}) > 1
    names = []
    for point in measured:
        name = point.optimizer or point.model
        if sharing[markers[point.model]] > 1:
            builder = point.model.rpartition(":")[2]
            name = f"{builder} {name}" if several else builder
        names.append(one_line(name, 24))
    return names


def _fits(box: Bbox, inside: Bbox) -> bool:
    return bool(
        box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 and box.y1 <= inside.y1
    )
