"""Draws minutes.csv: how long a duel takes, and how often each rule calls a side worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.reports.plots import panels
from bench.reports.plots.canvas import blank_figure, save_picture
from bench.reports.plots.style import INK, SMALL_PT, SOFT_INK, TEXT_PT, TITLE_PT, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]
# They differ in shape and line too, for readers without colour.
_RULES: Mapping[str, Mapping[str, Any]] = {
    "duel": {"color": "#0072B2", "marker": "^", "linestyle": "-"},
    "three looks": {"color": "#56B4E9", "marker": "v", "linestyle": "-."},
    "pytest-benchmark": {"color": "#E69F00", "marker": "o", "linestyle": ":"},
    "hyperfine": {"color": "#009E73", "marker": "s", "linestyle": "--"},
}
_LEFT, _RIGHT, _BETWEEN, _BOTTOMS, _HEIGHT = 0.06, 0.98, 0.057, (0.54, 0.145), 0.255


def draw(rows: Rows, path: Path) -> None:
    """Write the picture of the rows of minutes.csv to `path`.

    Raises:
        UserError: the picture cannot be written.
    """
    settings = list(dict.fromkeys((row["loop"], row["load"]) for row in rows))
    highest = max(row["minutes_90"] for row in rows)
    with style(()):
        figure = blank_figure(11.0, 7.4)
        place: dict[str, Any] = {"ha": "left", "va": "baseline"}
        figure.text(0.03, 0.96, "Minutes until it is known", size=TITLE_PT, weight="bold", **place)
        about = (
            f"{rows[0]['draws']:,} duels for each point, drawn from recorded blocks of equals to "
            "which the change was added; median and nine tenths\n"
            "below: how often each rule calls B worse, with the launches of the same minutes"
        )
        figure.text(0.03, 0.895, about, size=TEXT_PT, color=SOFT_INK, **place)
        width = (_RIGHT - _LEFT + _BETWEEN) / len(settings) - _BETWEEN
        for number, (loop, load) in enumerate(settings):
            left = _LEFT + number * (width + _BETWEEN)
            own = [row for row in rows if (row["loop"], row["load"]) == (loop, load)]
            where = "a busy neighbour" if load else "quiet"
            top, bottom = (figure.add_axes((left, low, width, _HEIGHT)) for low in _BOTTOMS)
            _minutes(top, own, f"{loop}, {where}", highest)
            _worse(bottom, own)
        figure.legend(
            *bottom.get_legend_handles_labels(),
            loc="lower left",
            bbox_to_anchor=(0.05, 0.03),
            ncols=4,
            frameon=False,
            fontsize=TEXT_PT,
            handlelength=2.8,
        )
        save_picture(figure, path)


def _minutes(axes: Axes, rows: Rows, title: str, highest: float) -> None:
    panels.title(axes, title, "minutes of a duel", beside=0.1)
    for rule, aside in (("three looks", -0.15), ("duel", 0.15)):
        own = [row for row in rows if row["rule"] == rule]
        color, marker = _RULES[rule]["color"], _RULES[rule]["marker"]
        xs = [place + aside for place in range(len(own))]
        medians, most = ([row[name] for row in own] for name in ("minutes_median", "minutes_90"))
        axes.vlines(xs, medians, most, color=color, linewidth=1.0)
        axes.plot(xs, medians, marker, color=color, markersize=5)
        axes.plot(xs, most, "_", color=color, markersize=7)
    axes.set(ylim=(0, 1.08 * highest))
    _ticks(axes, own)


def _worse(axes: Axes, rows: Rows) -> None:
    for rule, look in _RULES.items():
        own = [row for row in rows if row["rule"] == rule]
        shares = [100 * row["worse"] for row in own]
        axes.plot(range(len(own)), shares, label=rule, markersize=4.5, **look)
    axes.axhline(1.0, color=INK, linewidth=0.7, linestyle=(0, (5, 3)))
    axes.set(ylim=(-4, 104), ylabel="called worse (%)", xlabel="B is slower by")
    _ticks(axes, own)


def _ticks(axes: Axes, rows: Rows) -> None:
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xticks(range(len(rows)), [f"{row['change']:.0%}" for row in rows])
    axes.tick_params("both", labelsize=SMALL_PT)
