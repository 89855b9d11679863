"""Draws `roofline.png`: the roof of each setting of the machine, with one point per case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis import roofline
from bench.reports.machine_text import machine_lines, title_of
from bench.reports.palette import model_markers
from bench.reports.plots import panels
from bench.reports.plots.canvas import blank_figure, save_picture, texts_of
from bench.reports.plots.header import EDGE, PAGE_WIDTH, Legend, draw_frame, make_header
from bench.reports.plots.style import (
    INK,
    RULE,
    SMALL_PT,
    SOFT_INK,
    TEXT_PT,
    figure_of,
    log_axis,
    loop_style,
    style,
)
from bench.reports.roofline_data import RoofPanel, cache_and_memory, intensity, roof_panels
from bench.schema import ceilings
from bench.schema.case import LOOPS
from bench.schema.columns import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
COLUMNS = 3
PANEL_HEIGHT, ABOVE, BELOW, BESIDE, NAME_WIDTH = 3.2, 0.62, 0.55, 0.6, 0.3
PRODUCTS_MARK: Mapping[str, Any] = {"color": SOFT_INK, "marker": "_", "linestyle": "None"}


def draw_roofline(
    results: Sequence[Row],
    ceilings: Sequence[ceilings.Ceilings],
    environment: Mapping[str, Any],
    path: Path,
) -> bool:
    """Write the picture to `path` as PNG, in one move; False where there is nothing to draw.
    The axes of its figure are labelled by their titles.

    Args:
        results: rows with the keys `RESULT_COLUMNS`.
        ceilings: the machine's ceilings that the run measured.
        environment: contents of environment.json; missing facts are left out.
        path: the file, in an existing folder.

    Raises:
        UserError: the picture cannot be written.
    """
    shown = roof_panels(results, ceilings)
    if shown:
        with style(texts_of(results, environment)):
            save_picture(_figure(shown, environment), path)
    return bool(shown)


def _figure(shown: Sequence[RoofPanel], environment: Mapping[str, Any]) -> Figure:
    figure = blank_figure(1, 1)
    rows = [row for panel in shown for row in panel.rows]
    markers = model_markers(dict.fromkeys(row["model"] for row in rows))
    header = make_header(
        figure,
        title_of([row["model"] for row in rows], str(environment.get("label") or "")),
        machine_lines(environment, [row["device_name"] for row in rows]),
        Legend(
            [loop for loop in LOOPS if any(row["loop"] == loop for row in rows)],
            {model: markers[model] for model in dict.fromkeys(row["model"] for row in rows)},
            marks={
                "the case's products alone": PRODUCTS_MARK,
                "roof, fastest cache": {"color": INK, "marker": "", "linestyle": "-"},
                "roof, memory": {"color": INK, "marker": "", "linestyle": "--"},
            },
        ),
    )
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    height = header.height + lines * (ABOVE + PANEL_HEIGHT + BELOW)
    figure.set_size_inches(PAGE_WIDTH, height)
    draw_frame(figure, header, "")
    width = (PAGE_WIDTH - 2 * EDGE) / columns
    for number, panel in enumerate(shown):
        line, column = divmod(number, columns)
        left = EDGE + column * width + BESIDE
        top = header.height + line * (ABOVE + PANEL_HEIGHT + BELOW) + ABOVE
        place = (left, height - top - PANEL_HEIGHT, width - BESIDE - 0.1, PANEL_HEIGHT)
        share = [part / (PAGE_WIDTH, height)[i % 2] for i, part in enumerate(place)]
        _draw(
            figure.add_axes((share[0], share[1], share[2], share[3]), label=panel.title),
            panel,
            markers,
            rows,
            shown,
        )
    return figure


def _draw(
    axes: Axes,
    panel: RoofPanel,
    markers: Mapping[str, str],
    rows: Sequence[Row],
    shown: Sequence[RoofPanel],
) -> None:
    """Draw one panel; `rows` and `shown` are those of all panels, which get the same axes."""
    peak = panel.limits.peak_flops_per_s / 1e9
    cache, memory = (rate / 1e9 for rate in cache_and_memory(panel.limits))
    detail = f"{peak:,.0f} GFLOP/s, cache {cache:,.0f} GB/s, memory {memory:,.0f} GB/s"
    panels.title(axes, panel.title, detail)
    peaks = [other.limits.peak_flops_per_s / 1e9 for other in shown]
    # The axes include the ridge points of the fastest memory, so that its slope is visible.
    ridges = [other.limits.peak_flops_per_s / cache_and_memory(other.limits)[0] for other in shown]
    intensities = [*map(intensity, rows), min(ridges) / 2]
    log_axis(axes, axes.xaxis, intensities)
    log_axis(axes, axes.yaxis, [row["gflops"] for row in rows] + peaks)
    axes.set_xlabel("FLOP per byte that must move", size=TEXT_PT)
    axes.set_ylabel("GFLOP/s", size=TEXT_PT)
    axes.grid(color=RULE)
    axes.set_axisbelow(True)
    _draw_roof(axes, panel.limits)
    for row in panel.rows:
        x = intensity(row)
        if row["products_fraction"] is not None:
            axes.plot(x, row["gflops"] / row["products_fraction"], markersize=7, **PRODUCTS_MARK)
    for row in panel.rows:
        look = {**loop_style(row["loop"]), "linestyle": "None", "zorder": 3}
        axes.plot(intensity(row), row["gflops"], marker=markers[row["model"]], **look)
    _name_batches(axes, panel.rows)


def _draw_roof(axes: Axes, limits: roofline.Limits) -> None:
    """Draw the peak, and the slopes of the fastest cache and of memory."""
    peak = limits.peak_flops_per_s
    low, high = axes.get_xlim()
    for rate, dash in zip(cache_and_memory(limits), ("-", "--"), strict=True):
        ridge = min(max(peak / rate, low), high)
        xs, ys = [low, ridge, high], [min(peak, rate * x) / 1e9 for x in (low, ridge, high)]
        axes.plot(xs, ys, color=INK, linestyle=dash, linewidth=1.0, zorder=2)


def _name_batches(axes: Axes, rows: Sequence[Row]) -> None:
    """Write the batch size below the points of the fastest case, where the panel has several."""
    if len({row["batch_size"] for row in rows}) < 2:
        return
    named = -math.inf
    for batch_size in sorted({row["batch_size"] for row in rows}):
        best = max(
            (row for row in rows if row["batch_size"] == batch_size), key=lambda r: r["gflops"]
        )
        x = axes.transData.transform((intensity(best), best["gflops"]))[0]
        lowest = min(row["gflops"] for row in rows if intensity(row) == intensity(best))
        # A name that would touch the one before it is a line lower.
        below = -7 if x - named > NAME_WIDTH * figure_of(axes).dpi else -17
        named = x if below == -7 else -math.inf
        axes.annotate(
            f"{batch_size}",
            (intensity(best), lowest),
            xytext=(0, below),
            textcoords="offset points",
            size=SMALL_PT,
            color=SOFT_INK,
            ha="center",
            va="top",
        )
