"""The text around the panels: title, machine, software, legend and footer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.reports.plots.style import (
    INK,
    MARKER_PT,
    SOFT_INK,
    TEXT_PT,
    TITLE_PT,
    fitted,
    loop_style,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches.
PAGE_WIDTH, EDGE = 11.0, 0.3
TITLE_LINE, LINE, LEGEND_LINE = 0.36, 0.2, 0.23
CAPTION, KEY, KEY_GAP = 0.68, 0.2, 0.26

LegendItem = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Header:
    """The text above the panels: title, lines of small text, and lines of the legend.

    Each legend item has its distance from the left edge in inches.
    """

    title: str
    lines: tuple[str, ...]
    legend: tuple[tuple[tuple[float, LegendItem], ...], ...]

    @property
    def height(self) -> float:
        """Inches from the page's upper edge to the first panel's title."""
        text = TITLE_LINE + LINE * len(self.lines)
        return EDGE + text + (0.08 + LEGEND_LINE * len(self.legend) if self.legend else 0) + 0.1


@dataclass(frozen=True, slots=True)
class Legend:
    """The contents of a picture's legend, in its order.

    Attributes:
        loops: the loops, which have their colours.
        markers: the marker of each model.
        placements: the line style of each device.
        marks: the style of each other mark.
    """

    loops: Sequence[str] = ()
    markers: Mapping[str, str] = field(default_factory=dict)
    placements: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def make_header(figure: Figure, title: str, lines: Sequence[str], legend: Legend) -> Header:
    """The header of a picture: its title, the lines of its machine, and its legend."""
    width = PAGE_WIDTH - 2 * EDGE
    blocks = []
    if legend.loops:
        blocks = [_loop_items(legend.loops, legend.marks), _model_items(figure, legend.markers)]
    if len(legend.placements) > 1:
        blocks.append(_placement_items(legend.placements))
    return Header(
        fitted(figure, title, TITLE_PT, width, "bold"),
        tuple(fitted(figure, line, TEXT_PT, width) for line in lines if line),
        tuple(line for block in blocks for line in _flow(figure, block, width)),
    )


def draw_frame(figure: Figure, header: Header, footer: str) -> None:
    """Write title, machine and legend above the panels and the footer below them."""
    y = EDGE + 0.1
    _write(figure, header.title, EDGE, y, size=TITLE_PT, weight="bold")
    y += TITLE_LINE
    for line in header.lines:
        _write(figure, line, EDGE, y, size=TEXT_PT, color=SOFT_INK)
        y += LINE
    y += 0.08
    for items in header.legend:
        for x, (label, look) in items:
            _key(figure, look, EDGE + x, y)
            _write(
                figure,
                label,
                EDGE + x + (KEY if look else 0),
                y,
                size=TEXT_PT,
                weight="normal" if look else "bold",
            )
        y += LEGEND_LINE
    if footer:
        _write(figure, footer, EDGE, figure.get_size_inches()[1] - 0.2, size=TEXT_PT, color=INK)


def _loop_items(loops: Sequence[str], marks: Mapping[str, Mapping[str, Any]]) -> list[LegendItem]:
    items: list[LegendItem] = [("Loop", {})]
    items += [(loop, {"marker": "o", **loop_style(loop)}) for loop in loops]
    return [*items, *marks.items()]


def _model_items(figure: Figure, markers: Mapping[str, str]) -> list[LegendItem]:
    look = {"color": SOFT_INK, "markersize": MARKER_PT}
    by_marker: dict[str, list[str]] = {}
    for model, marker in markers.items():
        by_marker.setdefault(marker, []).append(model)
    items: list[LegendItem] = [("Model", {})] if markers else []
    for marker, models in by_marker.items():
        name = fitted(figure, models[0], TEXT_PT, 3.0)
        name = name if len(models) == 1 else f"your own models ({len(models)})"
        items.append((name, {**look, "marker": marker}))
    return items


def _placement_items(placements: Mapping[str, str]) -> list[LegendItem]:
    look = {"color": SOFT_INK, "marker": ""}
    items: list[LegendItem] = [("Device", {})]
    items += [(place, {**look, "linestyle": dash}) for place, dash in placements.items()]
    return items


def _flow(
    figure: Figure, items: Sequence[LegendItem], width: float
) -> list[tuple[tuple[float, LegendItem], ...]]:
    """The legend items in as many lines as they need.

    The first item is the caption; later lines are indented by its width.
    """
    x = 0.0
    lines: list[list[tuple[float, LegendItem]]] = [[]]
    for label, look in items:
        wide = KEY + text_width(figure, [label], TEXT_PT) + KEY_GAP
        if not look:
            wide = CAPTION
        elif x + wide > width + KEY_GAP and x > CAPTION:
            lines.append([])
            x = CAPTION
        lines[-1].append((x, (label, look)))
        x += wide
    return [tuple(line) for line in lines]


def _write(figure: Figure, text: str, x: float, y: float, **look: Any) -> None:
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, va="center_baseline", **look)


def _key(figure: Figure, look: Mapping[str, Any], x: float, y: float) -> None:
    from matplotlib.lines import Line2D

    if not look:
        return
    width, height = figure.get_size_inches()
    half = 0.08 if look.get("linestyle", "None") != "None" else 0.0
    xs = [(x + 0.05 - half) / width, (x + 0.05 + half) / width] if half else [(x + 0.05) / width]
    line = Line2D(xs, [1 - y / height] * len(xs), **{"linestyle": "None", **look})
    line.set_transform(figure.transFigure)
    figure.add_artist(line)
