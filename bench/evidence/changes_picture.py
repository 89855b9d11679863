"""Draws changes.csv: false changes in a year, and how many runs it takes to find a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.evidence.change_counts import SOON
from bench.reports.plots import panels
from bench.reports.plots.canvas import blank_figure, save_picture
from bench.reports.plots.style import INK, SMALL_PT, SOFT_INK, TEXT_PT, TITLE_PT, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]
# The highest rate that is drawn in its place, in percent.
_HIGHEST = 1.4
# They differ in shape and line too, for readers without colour.
_STEPS: Mapping[float, Mapping[str, Any]] = {
    0.02: {"color": "#555555", "marker": "D", "linestyle": ":"},
    0.05: {"color": "#E69F00", "marker": "o", "linestyle": "-."},
    0.10: {"color": "#009E73", "marker": "s", "linestyle": "--"},
    0.20: {"color": "#0072B2", "marker": "^", "linestyle": "-"},
}
_LEFTS, _BOTTOMS, _WIDTH, _HEIGHT = (0.065, 0.395, 0.725), (0.575, 0.13), 0.255, 0.265


def draw(rows: Rows, path: Path) -> None:
    """Write the picture of the rows of changes.csv to `path`.

    Raises:
        UserError: the picture cannot be written.
    """
    years = [row for row in rows if row["test"] == "unchanged"]
    steps = [row for row in rows if row["test"] == "step" and row["of"] == "a case"]
    with style(()):
        figure = blank_figure(11.0, 8.4)
        place: dict[str, Any] = {"ha": "left", "va": "baseline"}
        figure.text(
            0.03, 0.965, "How often a history is wrong", size=TITLE_PT, weight="bold", **place
        )
        figure.text(
            0.03,
            0.912,
            f"{years[0]['suites']:,} made-up years of daily runs in each world, looked at after "
            f"each run; {steps[0]['suites']} suites with each step of one case\n"
            "launches with heavy tails, an own noise for each case; drift of runs autocorrelated "
            "by 0 to 0.9, shared by all cases or half of it each case's own",
            size=TEXT_PT,
            color=SOFT_INK,
            **place,
        )
        boxes = [
            figure.add_axes((left, bottom, _WIDTH, _HEIGHT))
            for bottom in _BOTTOMS
            for left in _LEFTS
        ]
        for axes in boxes:
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        _false(boxes[0], years)
        kinds = list(dict.fromkeys((_world(row), row["before"]) for row in steps))
        shown = [kind for kind in kinds if kind[1] == max(row["before"] for row in steps)]
        shown += [kind for kind in kinds if kind not in shown]
        for axes, (world, before) in zip(boxes[1:], shown, strict=False):
            own = [row for row in steps if (_world(row), row["before"]) == (world, before)]
            _found(axes, own, f"{world}; {before} runs before")
        boxes[1].legend(loc="lower right", frameon=False, fontsize=SMALL_PT, handlelength=2.6)
        save_picture(figure, path)


def _world(row: Mapping[str, Any]) -> str:
    drift = "no drift"
    if row["drift"]:
        half = ", half own" if row["shared"] < 1 else ""
        drift = f"drift {row['drift']:.0%}, {row['autocorrelation']:g}{half}"
    return f"{row['cases']} cases, {drift}"


def _false(axes: Axes, rows: Rows) -> None:
    panels.title(axes, "Years with a false change", "share, with 95% upper bound; a mark a world")
    kinds = [str(row["of"]).partition(", scatter")[0] for row in rows]
    names = list(dict.fromkeys(kinds))
    for place, name in enumerate(names):
        own = [row for row, kind in zip(rows, kinds, strict=True) if kind == name]
        xs = [place + 0.7 * ((at + 0.5) / len(own) - 0.5) for at in range(len(own))]
        rates, bounds = ([100 * row[column] for row in own] for column in ("rate", "rate_upper"))
        shown = [min(rate, _HIGHEST) for rate in rates]
        axes.vlines(xs, shown, bounds, color="#0072B2", linewidth=0.8)
        axes.plot(xs, shown, "o", color="#0072B2", markersize=3)
        for x, rate in zip(xs, rates, strict=True):
            if rate > _HIGHEST:
                axes.text(x, _HIGHEST, f"{rate:.0f}% ↑ ", size=SMALL_PT, ha="right", va="center")
    axes.axhline(1.0, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.set(ylim=(-0.03, 1.05 * _HIGHEST), ylabel="false (% of years)")
    axes.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names])
    axes.tick_params("x", labelsize=SMALL_PT - 1)


def _found(axes: Axes, rows: Rows, about: str) -> None:
    panels.title(axes, "Steps found", about)
    for row in rows:
        ys = [100 * row[f"found_in_{runs}"] for runs in SOON]
        axes.plot(SOON, ys, label=f"{row['step']:.0%}", markersize=4.5, **_STEPS[row["step"]])
    axes.set_xscale("log")
    axes.set(ylim=(-4, 104), xlabel="within so many runs", ylabel="found (%)")
    axes.set_xticks(SOON, [str(runs) for runs in SOON])
    axes.minorticks_off()
