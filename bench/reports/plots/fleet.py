"""Draws a check of a fleet: how much slower each node is, and each case; alike nodes folded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.reports import fleet_words as words
from bench.reports.fleet_data import Drawn, Span, Spot, drawn
from bench.reports.formatting import one_line, shared_parts, short_ids
from bench.reports.plots import panels
from bench.reports.plots.canvas import blank_figure, save_picture
from bench.reports.plots.header import EDGE, PAGE_WIDTH, Legend, draw_frame, make_header
from bench.reports.plots.style import (
    INK,
    MARKER_PT,
    RULE,
    SMALL_PT,
    SOFT_INK,
    style,
    text_width,
)
from bench.verdicts.fleet_check import FleetReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_ROW, _TITLE, _AXIS, _LEAST = 0.2, 0.62, 0.6, 0.9
_LONGEST = 48
# A triangle and a hollow circle differ without colour too.
_SLOW: dict[str, Any] = {"marker": "^", "color": "#b3261e", "markersize": MARKER_PT + 1.5}
_OTHER: dict[str, Any] = {
    "marker": "o",
    "color": SOFT_INK,
    "markerfacecolor": "white",
    "markersize": MARKER_PT - 1,
}
_RANGE: dict[str, Any] = {"color": "#9aa4ae", "linewidth": 5.0, "solid_capstyle": "butt"}
_MIDDLE: dict[str, Any] = {"marker": "|", "color": INK, "markersize": 9, "markeredgewidth": 1.6}


def draw_fleet(report: FleetReport, path: Path) -> None:
    """Write the picture of a check to `path` as PNG, in one move; the axes of its figure are
    labelled `nodes` and `cases`.

    Raises:
        UserError: the picture cannot be written.
    """
    with style([*report.folders, *(node.name for node in report.nodes)]):
        save_picture(_figure(report), path)


def _figure(report: FleetReport) -> Figure:
    figure = blank_figure(1, 1)
    shown = drawn(report)
    lines = [line.partition(words.LEAST_SURE)[0] for line in words.summary_lines(report)]
    lines = [*words.difference_lines(report)[:4], *lines]
    title = f"Fleet {', '.join(report.folders)}: {words.MEANING[report.exit_code]}"
    header = make_header(figure, title, lines, Legend())
    nodes = [one_line(node.name, _LONGEST) for node in shown.nodes]
    rows = [*nodes, *(span.name for span in shown.groups)]
    short = short_ids([span.name for span in shown.cases])
    cases = [one_line(short[span.name], _LONGEST) for span in shown.cases]
    heights = [max(_LEAST, _ROW * len(names)) for names in (rows, cases)]
    page = header.height + sum(heights) + 2 * (_TITLE + _AXIS) + 0.1
    figure.set_size_inches(PAGE_WIDTH, page)
    draw_frame(figure, header, _footer(shown))
    labels = text_width(figure, [*rows, *cases], SMALL_PT) + 0.12
    places = header.height + _TITLE, header.height + heights[0] + 2 * _TITLE + _AXIS
    axes = [
        figure.add_axes(
            (
                (EDGE + labels) / PAGE_WIDTH,
                1 - (top + height) / page,
                (PAGE_WIDTH - 2 * EDGE - labels) / PAGE_WIDTH,
                height / page,
            ),
            label=label,
        )
        for top, height, label in zip(places, heights, ("nodes", "cases"), strict=True)
    ]
    if not shown.cases:
        for panel in axes:
            panels.empty(panel, "no case could be tested")
        return figure
    detail = (
        "each mark is a case; triangle: slower beyond doubt; circle: not; bar: all cases of the "
        "nodes that are shown as one, with their median"
    )
    panels.title(axes[0], "Time added to the median of the other nodes", detail)
    shared = shared_parts([span.name for span in shown.cases])
    detail = "bar: the nodes that are shown as one, with their median; marks: the others"
    panels.title(axes[1], f"By case{f' ({shared})' if shared else ''}", detail)
    places_of = {node.name: place for place, node in enumerate(shown.nodes)}
    _panel(axes[0], rows, shown.spots, [places_of[spot.node] for spot in shown.spots])
    _spans(axes[0], shown.groups, len(nodes))
    of_case = {span.name: place for place, span in enumerate(shown.cases)}
    spots = [spot for spot in shown.spots if spot.case in of_case]
    _panel(axes[1], cases, spots, [of_case[spot.case] for spot in spots])
    _spans(axes[1], shown.cases, 0)
    _same_limits(axes, shown, report.sizes.margin)
    return figure


def _panel(axes: Axes, names: Sequence[str], spots: Sequence[Spot], places: Sequence[int]) -> None:
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, size=SMALL_PT)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color=RULE, linewidth=0.5, zorder=0.5)
    for found, look in ((False, _OTHER), (True, _SLOW)):
        own = [(100 * s.slower, y) for s, y in zip(spots, places, strict=True) if s.found is found]
        if own:
            axes.plot([x for x, _ in own], [y for _, y in own], linestyle="None", **look)


def _spans(axes: Axes, spans: Sequence[Span], first: int) -> None:
    for place, span in enumerate(spans, first):
        axes.plot([100 * span.lowest, 100 * span.highest], [place] * 2, zorder=1.5, **_RANGE)
        axes.plot([100 * span.middle], [place], linestyle="None", zorder=1.6, **_MIDDLE)


def _same_limits(axes: Sequence[Axes], shown: Drawn, margin: float) -> None:
    """Give both panels the same axis, and lines at no change and at the margin."""
    ends = [*(s.slower for s in shown.spots)]
    ends += [end for span in (*shown.groups, *shown.cases) for end in (span.lowest, span.highest)]
    low, high = min(*ends, -margin), max(*ends, 2 * margin)
    room = 0.05 * (high - low)
    for panel in axes:
        panel.set_xlim(100 * (low - room), 100 * (high + room))
        panel.axvline(0.0, color=INK, linewidth=0.9, zorder=1)
        panel.axvline(100 * margin, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        panel.set_xlabel("slower than the median of the others (%); dashed: the margin")


def _footer(shown: Drawn) -> str:
    parts = [
        f"{number:,} {what}s"
        for number, what in zip(shown.left_out, ("node", "case"), strict=True)
        if number
    ]
    return f"{' and '.join(parts)} more in fleet.csv" if parts else ""
