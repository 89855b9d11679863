"""Dot plots of throughput: one row per case, one lane per loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.reports.formatting import one_line
from bench.reports.palette import LOOP_COLOURS
from bench.reports.plots.style import (
    BAND,
    INK,
    ROUND_PT,
    RULE,
    TEXT_PT,
    axes_size,
    figure_of,
    fitted,
    log_axis,
    loop_style,
)
from bench.reports.selection import Group, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches. A lane has the marker of one loop and, below it, the rounds.
LANE_IN, ROW_GAP_IN, HEADING_IN, EDGE_IN = 0.19, 0.06, 0.25, 0.06
# Inches from the marker's middle to the rounds of the first launch, from one launch to the next,
# and at most across all launches.
ROUNDS_ASIDE_IN, LAUNCH_IN, ROUNDS_IN = 0.074, 0.028, 0.084
SPEED_LABEL = "throughput (samples/s)"
Markers = Mapping[str, str]


def dots_height(groups: Sequence[Group]) -> float:
    """The height in inches that `dots` needs for its axes."""
    rows = sum(ROW_GAP_IN + LANE_IN * len(row) for group in groups for _, row in group.rows)
    return 2 * EDGE_IN + HEADING_IN * len(groups) + rows


def dots_labels(groups: Sequence[Group]) -> list[str]:
    """The row labels left of the axes of `dots`."""
    return [one_line(label, 36) for group in groups for label, _ in group.rows]


def dots(axes: Axes, groups: Sequence[Group], markers: Markers, label_in: float) -> None:
    """Draw one row per case and one lane per loop: marker, interval and, below, every round.

    x is samples/s on a log axis.

    Args:
        axes: the axes; the rows fill their height.
        groups: the rows by heading.
        markers: the marker of each model.
        label_in: width of the row labels left of the axes, in inches.
    """
    shown = [point for group in groups for _, row in group.rows for point in row]
    log_axis(axes, axes.xaxis, speeds(shown))
    width, height = axes_size(axes)
    axes.set_ylim(height, 0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(SPEED_LABEL)
    axes.spines["left"].set_visible(False)
    fixed = HEADING_IN * len(groups) + 2 * EDGE_IN
    stretch = (height - fixed) / (dots_height(groups) - fixed)
    ticks: list[float] = []
    y = EDGE_IN
    for group in groups:
        heading(axes, group.heading, y, -label_in / width, label_in + width)
        y += HEADING_IN
        for _, row in group.rows:
            lane = LANE_IN * stretch
            for i, point in enumerate(row):
                _lane(axes, point, y + ROW_GAP_IN * stretch / 2 + lane * (i + 0.5), markers)
            below = y + ROW_GAP_IN * stretch + lane * len(row)
            ticks.append((y + below) / 2)
            y = below
            if y < height - 2 * EDGE_IN:
                axes.axhline(y, color=RULE, linewidth=0.5, zorder=0.5)
    axes.set_yticks(ticks, dots_labels(groups))
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def heading(axes: Axes, text: str, y: float, left: float, width_in: float) -> None:
    """Draw a grey band with a name at `y` inches, from `left` (in axes widths) to the right edge.

    The name is shortened to `width_in` inches.
    """
    from matplotlib.patches import Rectangle

    across = axes.get_yaxis_transform()
    band = Rectangle((left, y + 0.02), 1 - left, HEADING_IN - 0.04, color=BAND, linewidth=0)
    band.set(transform=across, clip_on=False, zorder=0.6)
    axes.add_patch(band)
    name = fitted(figure_of(axes), text, TEXT_PT, width_in - 0.15, "bold")
    drawn = axes.text(left, y + HEADING_IN / 2, f" {name}", transform=across)
    drawn.set(size=TEXT_PT, weight="bold", va="center_baseline", ha="left", clip_on=False)


def _lane(axes: Axes, point: Point, middle: float, markers: Markers) -> None:
    y = middle - (ROUNDS_ASIDE_IN + ROUNDS_IN / 2) / 2
    draw_interval(axes, point, y, vertical=False)
    axes.plot([point.samples_per_s], [y], markers[point.model], **loop_style(point.loop))
    draw_rounds(axes, point, y, vertical=False)


def draw_rounds(axes: Axes, point: Point, across: float, *, vertical: bool) -> None:
    """Draw every round as a small point, one line per launch, beside the marker."""
    from matplotlib.transforms import ScaledTranslation

    pitch = min(LAUNCH_IN, ROUNDS_IN / max(1, len(point.rounds)))
    for launch, speeds in enumerate(point.rounds):
        aside = ROUNDS_ASIDE_IN + pitch * launch
        right, up = (aside + 0.02, 0.0) if vertical else (0.0, -aside)
        moved = axes.transData + ScaledTranslation(right, up, figure_of(axes).dpi_scale_trans)
        places = [across] * len(speeds), speeds
        axes.plot(
            *(places if vertical else places[::-1]),
            "o",
            color=LOOP_COLOURS[point.loop],
            markersize=ROUND_PT,
            markeredgewidth=0,
            alpha=0.6,
            transform=moved,
            gid="rounds",
        )


def draw_interval(axes: Axes, point: Point, across: float, *, vertical: bool) -> None:
    """Draw the interval of a point, where it has one."""
    if point.low is None or point.high is None:
        return
    ends, same = (point.low, point.high), (across, across)
    axes.plot(
        *((same, ends) if vertical else (ends, same)),
        "_" if vertical else "|",
        linestyle="-",
        linewidth=1.1,
        markersize=5,
        color=LOOP_COLOURS[point.loop],
        gid="interval",
    )


def speeds(shown: Sequence[Point]) -> list[float]:
    """Every samples/s that is drawn for these points: estimates, interval ends and rounds."""
    ends = [end for p in shown for end in (p.low, p.high) if end is not None]
    return (
        [p.samples_per_s for p in shown]
        + ends
        + [r for p in shown for launch in p.rounds for r in launch]
    )
