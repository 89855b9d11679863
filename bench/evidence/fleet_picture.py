"""Draws the simulated fleets: false alarms, slow nodes that are found, and how checks end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.reports.plots import panels
from bench.reports.plots.canvas import blank_figure, save_picture
from bench.reports.plots.style import INK, SMALL_PT, SOFT_INK, TEXT_PT, TITLE_PT, style
from bench.schema.cells import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]
# They differ in shape and line too, for readers without colour.
_LOOKS: Sequence[Mapping[str, Any]] = (
    {"color": "#E69F00", "marker": "o", "linestyle": ":"},
    {"color": "#009E73", "marker": "s", "linestyle": "-."},
    {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    {"color": "#000000", "marker": "v", "linestyle": "-"},
)
# Left edges of the columns, bottoms of the rows, and size of the panels, as shares of the page.
_LEFTS, _BOTTOMS, _WIDTH, _HEIGHT = (0.065, 0.395, 0.725), (0.57, 0.145), 0.26, 0.27
_DRIFT = 0.02


def draw(rows: Rows, path: Path) -> None:
    """Write the picture of the rows that `fleet_rows` returns to `path`.

    Raises:
        UserError: the picture cannot be written.
    """
    with style(()):
        figure = blank_figure(11.0, 8.4)
        place: dict[str, Any] = {"ha": "left", "va": "baseline"}
        title = "How often fleet check is wrong, and what it finds"
        figure.text(0.03, 0.965, title, size=TITLE_PT, weight="bold", **place)
        about = (
            f"{min(row['fleets'] for row in rows):,} made-up fleets and more for each point; "
            f"{counted(rows[0]['cases'], 'case')} in {rows[0]['launches']} launches with heavy "
            "tails, an own noise for each case\nfound: one node slower in all cases; runs of that "
            f"node drift as those of the others, by {_DRIFT:.0%} where nothing else is said"
        )
        figure.text(0.03, 0.912, about, size=TEXT_PT, color=SOFT_INK, **place)
        drifting = [row for row in rows if row["drift"] == _DRIFT]
        quiet = [row for row in rows if row["drift"] == 0]
        axes = [
            figure.add_axes((left, bottom, _WIDTH, _HEIGHT))
            for bottom in _BOTTOMS
            for left in _LEFTS
        ]
        _false_alarms(axes[0], rows)
        for panel, by in zip(axes[1:3], (5, 10), strict=True):
            _found(panel, drifting, f"found_{by}", f"A node slower by {by}%", "found (%)")
        _found(axes[3], drifting, "found_20", "A node slower by 20%", "found (%)")
        _found(axes[4], quiet, "exit_0", "Exit 0 without drift", "exit 0 (%)")
        _found(axes[5], drifting, "exit_0", f"Exit 0, runs drift by {_DRIFT:.0%}", "exit 0 (%)")
        figure.legend(
            *axes[1].get_legend_handles_labels(),
            loc="lower left",
            bbox_to_anchor=(0.055, 0.03),
            ncols=5,
            frameon=False,
            fontsize=TEXT_PT,
            handlelength=2.6,
            columnspacing=1.4,
        )
        save_picture(figure, path)


def _series(rows: Rows) -> list[tuple[int, Mapping[str, Any], Rows]]:
    """(nodes, look, rows) of each number of nodes."""
    numbers = sorted({row["nodes"] for row in rows})
    return [
        (number, look, [row for row in rows if row["nodes"] == number])
        for number, look in zip(numbers, _LOOKS, strict=False)
    ]


def _panel(axes: Axes, rows: Rows, text: str, detail: str) -> None:
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    panels.title(axes, text, detail)
    axes.set_xlabel("runs of each node")
    axes.set_xticks(sorted({row["runs"] for row in rows}))


def _false_alarms(axes: Axes, rows: Rows) -> None:
    """Draw each world as a point with its upper bound, beside its number of runs."""
    _panel(axes, rows, "False alarms", "share of alike fleets, every world, with 95% upper bound")
    drifts = sorted({row["drift"] for row in rows})
    for number, (_, look, own) in enumerate(_series(rows)):
        xs = [
            row["runs"] + 0.17 * (number - 1.5) + 0.05 * (drifts.index(row["drift"]) - 1)
            for row in own
        ]
        rates = [100 * row["rate"] for row in own]
        axes.vlines(
            xs, rates, [100 * row["rate_upper"] for row in own], color=look["color"], linewidth=0.8
        )
        axes.plot(xs, rates, markersize=3, **{**look, "linestyle": "None"})
    axes.axhline(1.0, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.annotate(
        "promised: at most 1%",
        (0, 1.0),
        (2, 3),
        axes.get_yaxis_transform(),
        textcoords="offset points",
        size=SMALL_PT,
    )
    axes.set(ylim=(-0.03, 1.4), ylabel="false alarms (%)")


def _found(axes: Axes, rows: Rows, column: str, text: str, label: str) -> None:
    detail = "share of fleets, by runs of each node"
    if column == "exit_0":
        detail = "alike fleets in which a gate of 25% would be found"
    _panel(axes, rows, text, detail)
    for number, look, own in _series(rows):
        axes.plot(
            [row["runs"] for row in own],
            [100 * row[column] for row in own],
            label=counted(number, "node"),
            markersize=4.5,
            linewidth=1.2,
            **look,
        )
    axes.set(ylim=(-4, 104), ylabel=label)
