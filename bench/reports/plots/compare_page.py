"""The page of a picture that compares runs: header, a row for each case, a lane for each run.

Each run has a letter as its marker, which needs neither colour nor legend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from bench.reports.formatting import one_line
from bench.reports.machine_text import machine_lines, title_of
from bench.reports.palette import LOOP_COLOURS
from bench.reports.plots.canvas import blank_figure
from bench.reports.plots.dots import EDGE_IN, HEADING_IN, heading
from bench.reports.plots.header import EDGE, PAGE_WIDTH, Header, draw_frame
from bench.reports.plots.style import (
    INK,
    RULE,
    SMALL_PT,
    TEXT_PT,
    TITLE_PT,
    fitted,
    text_width,
)
from bench.reports.selection import USUAL_SETTING
from bench.schema.case import LOOPS
from bench.schema.warnings import cpu_lines
from bench.verdicts.compare import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as MarkerPath

# Inches.
LANE, ROW_GAP, TITLE_BAND, AXIS_BAND, BETWEEN = 0.125, 0.08, 0.62, 0.75, 0.35
# The most that fits on one page; the rest is in comparison.csv.
MOST_LANES, MOST_RUNS = 170, 26
SEPARATOR = " · "
# A value and the ends of its interval, None where it has none.
Drawn = tuple[float, float | None, float | None]


@dataclass(frozen=True, slots=True)
class PlacedCase:
    """One case with a lane for each run; `top` is in inches below the upper edge of the axes."""

    case: str
    loop: str
    label: str
    top: float


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of both panels; places and height are in inches."""

    rows: tuple[PlacedCase, ...]
    headings: tuple[tuple[str, float], ...]
    height: float
    left_out: int


def texts_of_runs(found: Comparison) -> list[str]:
    """All texts of a picture that come from the user or the machines, for the choice of fonts."""
    return [*found.runs, *found.cases, *_machines(found)]


@dataclass(frozen=True, slots=True)
class Page:
    """The page of a picture that compares: a panel for each quantity, a row for each case.

    Attributes:
        rows: the drawn cases, on the axes of each panel.
        names: the drawn runs, the baseline first; their lanes are in this order.
        axes: the panels, left to right.
    """

    figure: Figure
    rows: Rows
    names: tuple[str, ...]
    axes: tuple[Axes, ...]


def page_of(found: Comparison, texts: Header, rows: Rows, labels: Sequence[str]) -> Page:
    """An empty page: header, names of the cases, and axes with these labels.

    Args:
        found: the comparison.
        texts: the header, from `header_of`.
        rows: the cases, from `rows_of`.
        labels: the name of each panel's axes.
    """
    figure = blank_figure(1, 1)
    names = drawn_names(found)
    page = texts.height + TITLE_BAND + rows.height + AXIS_BAND
    figure.set_size_inches(PAGE_WIDTH, page)
    draw_frame(figure, texts, _footer(found, rows, names))
    beside = text_width(figure, [row.label for row in rows.rows], SMALL_PT) + 0.12
    width = (PAGE_WIDTH - 2 * EDGE - beside - BETWEEN * (len(labels) - 1)) / len(labels)
    axes = tuple(
        figure.add_axes(
            (
                (EDGE + beside + place * (width + BETWEEN)) / PAGE_WIDTH,
                AXIS_BAND / page,
                width / PAGE_WIDTH,
                rows.height / page,
            ),
            label=label,
        )
        for place, label in enumerate(labels)
    )
    for panel in axes:
        _frame(panel, rows, beside if panel is axes[0] else 0.0, width)
    axes[0].set_yticks(
        [row.top + (ROW_GAP + LANE * len(names)) / 2 for row in rows.rows],
        [row.label for row in rows.rows],
        size=SMALL_PT,
    )
    return Page(figure, rows, names, axes)


def drawn_names(found: Comparison) -> tuple[str, ...]:
    """The runs that have a letter, the baseline first."""
    return tuple([found.baseline, *found.pairs][:MOST_RUNS])


def rows_of(found: Comparison) -> Rows:
    """The cases with a ratio, grouped by loop.

    Where there are too many, cases at the documented setting are kept first.
    """
    lanes = len(drawn_names(found))
    known = {pair.case for pairs in found.pairs.values() for pair in pairs if pair.ratio}
    facts = {case: row for run in found.runs.values() for case, row in run.rows.items()}
    cases = sorted(
        (case for case in found.cases if case in known),
        key=lambda c: (facts[c]["batch_size"], facts[c]["precision"]) != USUAL_SETTING,
    )
    kept = set(cases[: max(1, MOST_LANES // lanes)])
    rows: list[PlacedCase] = []
    headings = []
    y = EDGE_IN
    for loop in LOOPS:
        own = [case for case in found.cases if case in kept and facts[case]["loop"] == loop]
        if own:
            headings.append((loop, y))
            y += HEADING_IN
        for case in own:
            label = one_line(case.replace(f"-{loop}-", " ", 1).replace("-", " "), 46)
            rows.append(PlacedCase(case, loop, label, y))
            y += ROW_GAP + LANE * lanes
    return Rows(tuple(rows), tuple(headings), y + EDGE_IN, len(cases) - len(kept))


def header_of(found: Comparison, more: Sequence[str] = ()) -> Header:
    """Title, a line for each run with what it is, the lines `more`, and warnings of CPUs."""
    figure, names = blank_figure(1, 1), drawn_names(found)
    width = PAGE_WIDTH - 2 * EDGE
    models = [row["model"] for run in found.runs.values() for row in run.rows.values()]
    title = title_of(models, f"{len(found.runs)} runs compared")
    machines = dict(zip(found.runs, _machines(found), strict=True))
    own = {name: machine.split(SEPARATOR) for name, machine in machines.items()}
    lines = []
    for letter, name in zip(ascii_uppercase, names, strict=False):
        line = f"{letter}  {one_line(name, 40)}: {machines[name]}"
        if name in found.summaries:
            total = found.summaries[name]
            # Facts that are the same as A's are left out, because all would not fit.
            other = [fact for fact in own[name] if fact not in own[found.baseline]]
            line = (
                f"{letter}  {one_line(name, 40)}: {total.geometric_mean:.2f} times as fast as A "
                f"({total.lowest:.2f} to {total.highest:.2f}): "
                f"{SEPARATOR.join(other) or 'machine and software as A'}"
            )
        lines.append(fitted(figure, line, TEXT_PT, width))
    lines += (fitted(figure, line, TEXT_PT, width) for line in more)
    lines += cpu_lines(run.rows[case] for run in found.runs.values() for case in run.logs)
    return Header(fitted(figure, title, TITLE_PT, width, "bold"), tuple(lines), ())


def _machines(found: Comparison) -> list[str]:
    """Machine and software of each run on one line."""
    return [
        SEPARATOR.join(filter(None, machine_lines(run.environment, [])))
        for run in found.runs.values()
    ]


def _footer(found: Comparison, rows: Rows, names: Sequence[str]) -> str:
    parts = [f"{rows.left_out} cases"] if rows.left_out else []
    if len(found.runs) > len(names):
        parts.append(f"{len(found.runs) - len(names)} runs")
    return f"{' and '.join(parts)} more in comparison.csv" if parts else ""


def _frame(axes: Axes, rows: Rows, labels: float, width: float) -> None:
    axes.set_ylim(rows.height, 0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    for name, y in rows.headings:
        heading(axes, name if labels else "", y, -labels / width, labels + width)
    for row in rows.rows:
        axes.axhline(row.top, color=RULE, linewidth=0.5, zorder=0.5)


def draw_lane(axes: Axes, rows: Rows, lane: int, values: Mapping[str, Drawn]) -> None:
    """Draw the letter of a run at its value in each row, with the interval where it has one.

    Args:
        axes: the panel.
        rows: the rows.
        lane: the run's place among the letters.
        values: by case, the value and the ends of its interval.
    """
    look: dict[str, Any] = {"linestyle": "None", "markersize": 7.5, "markeredgewidth": 0}
    look |= {"marker": _letter(ascii_uppercase[lane]), "color": INK}
    for loop in dict.fromkeys(row.loop for row in rows.rows):
        own = [
            (row.top + ROW_GAP / 2 + LANE * (lane + 0.5), *values[row.case])
            for row in rows.rows
            if row.loop == loop and row.case in values
        ]
        ends = [(y, low, high) for y, _, low, high in own if low is not None and high is not None]
        places, lows, highs = zip(*ends, strict=True) if ends else ((), (), ())
        wide: dict[str, Any] = {"color": LOOP_COLOURS[loop], "linewidth": 3.2, "alpha": 0.35}
        axes.hlines(places, lows, highs, gid="interval", **wide)
        axes.plot([value for _, value, _, _ in own], [y for y, *_ in own], **look)


def _letter(letter: str) -> MarkerPath:
    """A bold letter as a marker, centred on the point."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as MarkerPath
    from matplotlib.textpath import TextPath

    drawn = TextPath((0, 0), letter, size=1, prop=FontProperties(weight="bold"))
    box = drawn.get_extents()
    middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    return MarkerPath(drawn.vertices - middle, drawn.codes)
