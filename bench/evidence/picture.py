"""Draws the simulation: false alarms, power and coverage, and how a check ends."""

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
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
# They differ in shape and line too, for readers without colour.
_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "check, 3 runs": {"color": "#E69F00", "marker": "o", "linestyle": ":"},
    "check, 6 runs": {"color": "#009E73", "marker": "s", "linestyle": "-."},
    "check, 10 runs": {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    "duel of 30 cases": {"color": "#555555", "marker": "D", "linestyle": (0, (6, 2))},
    "duel of 1 case": {"color": "#000000", "marker": "v", "linestyle": "-"},
}
_COVERAGE: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("throughput", "this run"): {"color": "#0072B2", "marker": "o", "label": "of this run's rate"},
    ("throughput", "machine"): {"color": "#E69F00", "marker": "x", "label": "of the machine's"},
    ("duel", "ratio"): {"color": "#000000", "marker": "v", "label": "of a duel's ratio"},
}


# Left edges of the columns, bottoms of the rows, and size of the panels, as shares of the page.
_LEFTS, _BOTTOMS, _WIDTH, _HEIGHT = (0.065, 0.395, 0.725), (0.57, 0.145), 0.26, 0.27


def draw(tables: Mapping[str, Rows], path: Path) -> None:
    """Write the picture of the tables that `simulate` returns to `path`.

    Raises:
        UserError: the picture cannot be written.
    """
    with style(()):
        figure = blank_figure(11.0, 8.4)
        suites = tables["false_alarms"][0]["suites"]
        place: dict[str, Any] = {"ha": "left", "va": "baseline"}
        figure.text(
            0.03, 0.965, "How often the verdicts are wrong", size=TITLE_PT, weight="bold", **place
        )
        about = (
            f"{suites:,} made-up suites in each world; launches with heavy tails, an own noise for "
            "each case, rounds autocorrelated by 0, 0.5 and 0.8\n"
            "check: 30 cases in 3 launches, one run of the candidate against 3, 6 or 10 stored ones"
        )
        figure.text(0.03, 0.912, about, size=TEXT_PT, color=SOFT_INK, **place)
        alarms, power = (_plain(tables[name]) for name in ("false_alarms", "power"))
        _false_alarms(_panel(figure, 0, 0), alarms)
        _power(_panel(figure, 1, 0), power)
        _coverage(_panel(figure, 2, 0), tables["coverage"])
        exits = [row for row in _plain(tables["exits"]) if row["test"] == "check"]
        _passed(_panel(figure, 0, 1), exits, 0.0, "quiet host: no drift between runs")
        _passed(_panel(figure, 1, 1), exits, 0.03, "drifting host: 3% between runs")
        _found(_panel(figure, 2, 1), exits)
        save_picture(figure, path)


def _plain(rows: Rows) -> Rows:
    """The rows of duels, and of checks with 30 cases, 3 launches and one run of the candidate."""
    return [
        row
        for row in rows
        if row["test"] == "duel"
        or (row["cases"], row["launches"], row["candidate_runs"]) == (30, 3, 1)
    ]


def _panel(figure: Figure, column: int, line: int) -> Axes:
    axes = figure.add_axes((_LEFTS[column], _BOTTOMS[line], _WIDTH, _HEIGHT))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return axes


def _name(row: Mapping[str, Any]) -> str:
    if row["test"] == "check":
        return f"check, {row['stored_runs']} runs"
    return f"duel of {counted(row['cases'], 'case')}"


def _series(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in _LOOKS}
    for row in rows:
        found[_name(row)].append(row)
    return found


def _false_alarms(axes: Axes, rows: Rows) -> None:
    """Draw each world as a point with its upper bound, in a column for each drift."""
    panels.title(axes, "False alarms", "share of unchanged suites, with 95% upper bound")
    for number, (name, own) in enumerate(_series(rows).items()):
        look = {**_LOOKS[name], "linestyle": "None"}
        places: dict[float, int] = {}
        xs, rates, bounds = [], [], []
        for row in own:
            nth = places[row["drift"]] = places.get(row["drift"], -1) + 1
            xs.append(100 * row["drift"] + 0.17 * (number - 2) + 0.024 * (nth - 2.5))
            rates.append(100 * row["rate"])
            bounds.append(100 * row["rate_upper"])
        axes.vlines(xs, rates, bounds, color=look["color"], linewidth=0.8)
        axes.plot(xs, rates, markersize=3, **look)
    axes.axhline(1.0, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.annotate(
        "promised: at most 1%",
        (0, 1.0),
        (2, 3),
        axes.get_yaxis_transform(),
        textcoords="offset points",
        size=SMALL_PT,
    )
    axes.set(ylim=(-0.03, 1.2), xlabel="drift between runs (%)", ylabel="false alarms (%)")
    axes.set_xticks([0, 1, 2, 3])


def _power(axes: Axes, rows: Rows) -> None:
    panels.title(axes, "Slow-downs found", "one slower case; drift 1%, rounds 0.5, shared by all")
    chosen = [r for r in rows if (r["autocorrelation"], r["drift"], r["shared"]) == (0.5, 0.01, 1)]
    for name, own in _series(chosen).items():
        xs = [100 * row["slower"] for row in own]
        ys = [100 * row["power"] for row in own]
        axes.plot(xs, ys, label=name, markersize=4.5, linewidth=1.2, **_LOOKS[name])
    axes.set_xscale("log")
    axes.set(ylim=(-4, 104), xlabel="true slow-down (%)", ylabel="found (%)")
    axes.set_xticks([2, 5, 10, 20], ["2", "5", "10", "20"])
    axes.minorticks_off()
    figure = axes.get_figure()
    if figure is not None:
        figure.legend(
            *axes.get_legend_handles_labels(),
            loc="lower left",
            bbox_to_anchor=(0.055, 0.03),
            ncols=5,
            frameon=False,
            fontsize=TEXT_PT,
            handlelength=2.6,
            columnspacing=1.4,
        )


def _coverage(axes: Axes, rows: Rows) -> None:
    panels.title(axes, "Intervals that hold the truth", "nominal 95%, over every world")
    for key, look in _COVERAGE.items():
        own = [row for row in rows if (row["interval"], row["truth"]) == key]
        shift = {"o": 0.94, "x": 1.0, "v": 1.06}[look["marker"]]
        xs = [row["values"] * shift for row in own]
        ys = [100 * row["coverage"] for row in own]
        axes.plot(xs, ys, linestyle="None", markersize=4, **look)
    axes.axhspan(93, 97, color="#dddddd", zorder=0)
    axes.set_xscale("log")
    axes.set(xlabel="launches, or blocks of a duel", ylabel="coverage (%)", ylim=(0, 103))
    axes.set_xticks([3, 5, 8, 10, 16, 24], ["3", "5", "8", "10", "16", "24"])
    axes.minorticks_off()
    axes.legend(loc="lower left", frameon=False, fontsize=SMALL_PT, handletextpad=0.2)


def _passed(axes: Axes, rows: Rows, drift: float, about: str) -> None:
    """Draw one line per number of stored runs: the mean over the worlds with that drift."""
    panels.title(axes, "Unchanged suites that pass (exit 0)", about)
    for name, own in _series([row for row in rows if row["drift"] == drift]).items():
        shares: dict[float, list[float]] = {}
        for row in own:
            shares.setdefault(row["gate"], []).append(100 * row["exit_0"])
        if shares:
            means = [sum(values) / len(values) for values in shares.values()]
            axes.plot(
                [100 * gate for gate in shares],
                means,
                markersize=4.5,
                linewidth=1.2,
                **_LOOKS[name],
            )
    axes.axhline(50, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    _by_gate(axes)
    axes.set(ylim=(-4, 104), ylabel="exit 0 (%)")


def _found(axes: Axes, rows: Rows) -> None:
    """Draw every world in which at least 1% of the suites pass, with its 95% bounds."""
    panels.title(axes, "The gate found where the exit is 0", "worlds in which 1% or more pass")
    for number, (name, own) in enumerate(_series(rows).items()):
        look = {**_LOOKS[name], "linestyle": "None"}
        seen = [row for row in own if row["able"] >= row["suites"] / 100]
        xs = [100 * row["gate"] * (0.94 + 0.06 * number) for row in seen]
        axes.vlines(
            xs,
            [100 * row["power_lower"] for row in seen],
            [100 * row["power_upper"] for row in seen],
            color=look["color"],
            linewidth=0.7,
        )
        axes.plot(xs, [100 * row["power"] for row in seen], markersize=3, **look)
    axes.axhline(90, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.annotate(
        "promised: at least 90%",
        (0, 90),
        (2, -9),
        axes.get_yaxis_transform(),
        textcoords="offset points",
        size=SMALL_PT,
    )
    _by_gate(axes)
    axes.set(ylim=(78, 101), ylabel="found (%)")


def _by_gate(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set(xlim=(4.4, 58), xlabel="gate (%)")
    axes.set_xticks([5, 7.5, 10, 15, 20, 30, 50], ["5", "7.5", "10", "15", "20", "30", "50"])
    axes.minorticks_off()
