"""What a figure shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text


def figure_of(draw: Callable[..., Any], *data: Any) -> Figure:
    """What `draw` would save of the data."""
    kept: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(draw.__globals__, "save_picture", lambda figure, _: kept.append(figure))
        draw(*data, Path("unsaved.png"))
    (figure,) = kept
    return figure


def texts(figure: Figure) -> list[Text]:
    """Every text that shows: of ticks those within the limits."""
    figure.draw_without_rendering()
    found = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    hidden: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # Which ticks lie within the limits, no public method tells.
            shown = {tick.label1 for tick in axis._update_ticks()}  # type: ignore[union-attr]
            every = itertools.chain(axis.get_major_ticks(), axis.get_minor_ticks())
            labels = {label for tick in every for label in (tick.label1, tick.label2)}
            hidden |= labels - shown
    return [text for text in found if text not in hidden]


def panel(figure: Figure, label: str) -> Any:
    return next(axes for axes in figure.axes if axes.get_label() == label)


def drawn(axes: Any, gid: str | None = None) -> list[tuple[float, float]]:
    """The data of what is drawn: the markers, or what carries `gid`."""
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
    lines = [line for line in lines if line.get_gid() == gid]
    return [xy for line in lines for xy in zip(*line.get_data(), strict=True)]


def texts_off_the_page(figure: Figure) -> list[str]:
    """The texts of which a part lies beyond the edge of the picture."""
    page, found = figure.bbox, []
    for text in texts(figure):
        box = text.get_window_extent()
        if min(box.x0, box.y0) < 0 or max(box.x1 - page.x1, box.y1 - page.y1) > 0:
            found.append(text.get_text())
    return found
