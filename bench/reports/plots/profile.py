"""Draws `profile.png`: the phases of a step, one bar per case, in seconds and in shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.profile_rows import Profile
from bench.backends import DEFAULT, KNOWN
from bench.reports.formatting import replicas
from bench.reports.machine_text import machine_lines, title_of
from bench.reports.plots.canvas import blank_figure, save_picture
from bench.reports.plots.header import EDGE, PAGE_WIDTH, Legend, draw_frame, make_header
from bench.reports.plots.style import (
    INK,
    PANEL_PT,
    RULE,
    SMALL_PT,
    SOFT_INK,
    TEXT_PT,
    fitted,
    style,
    text_width,
)
from bench.schema.case import NETWORK_LOOPS
from bench.schema.profile import Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, in an order in which neighbours differ in lightness too.
COLOURS: Mapping[Phase, str] = {
    Phase.INPUT: "#56B4E9",
    Phase.FORWARD: "#0072B2",
    Phase.BACKWARD: "#009E73",
    Phase.OPTIMIZER: "#F0E442",
    Phase.METRICS: "#CC79A7",
    Phase.PYTHON: "#D55E00",
    Phase.IDLE: "#BBBBBB",
    Phase.UNEXPLAINED: "#FFFFFF",
}
_DARK = {Phase.FORWARD, Phase.BACKWARD, Phase.PYTHON}
# Inches.
BAR, GAP, TITLE, AXIS = 0.3, 0.34, 0.34, 0.5
LEAST_LABELLED = 0.07
# Factor of the seconds' axis, for the text right of the bars.
_ROOM = 1.2


def draw_profiles(profiles: Sequence[Profile], environment: Mapping[str, Any], path: Path) -> bool:
    """Write the picture to `path` as PNG, in one move; False where there is nothing to draw.

    Args:
        profiles: the profiles of one folder; those without a split are left out.
        environment: contents of environment.json.
        path: the file, in an existing folder.

    Raises:
        UserError: the picture cannot be written.
    """
    shown = sorted((p for p in profiles if p.split is not None), key=_order)
    if shown:
        with style([*machine_lines(environment, []), *(p.case.model for p in shown)]):
            save_picture(_figure(shown, environment), path)
    return bool(shown)


def profile_figure(profiles: Sequence[Profile], environment: Mapping[str, Any]) -> Figure:
    """The figure that `draw_profiles` writes.

    Its axes have the labels `seconds: GROUP` and `shares: GROUP`.
    """
    shown = sorted((p for p in profiles if p.split is not None), key=_order)
    with style(machine_lines(environment, [])):
        return _figure(shown, environment)


def _group(profile: Profile) -> str:
    case = profile.case
    parts = [f"{case.model}, {case.optimizer}", case.device, f"batch {case.batch_size}"]
    parts += [case.precision] + ([f"{case.threads} threads"] if case.threads else [])
    parts += [] if case.backend == DEFAULT else [KNOWN[case.backend].title]
    parts.append(replicas(case.replicas, case.processes))
    return ", ".join(filter(None, parts))


def _order(profile: Profile) -> tuple[Any, ...]:
    case = profile.case
    return (
        case.model,
        case.optimizer,
        case.device,
        case.precision,
        case.threads or 0,
        case.batch_size,
        list(KNOWN).index(case.backend),
        case.replicas,
        case.processes,
        NETWORK_LOOPS.index(case.loop),
    )


def _figure(shown: Sequence[Profile], environment: Mapping[str, Any]) -> Figure:
    figure = blank_figure(1, 1)
    label = str(environment.get("label") or "where the time of a step goes")
    title = title_of([profile.case.model for profile in shown], label)
    lines = machine_lines(environment, [])
    header = make_header(figure, title, lines, Legend())
    groups = [(name, list(own)) for name, own in groupby(shown, key=_group)]
    heights = [BAR * len(own) + GAP * (len(own) - 1) / 3 for _, own in groups]
    top = header.height + 0.55
    height = top + sum(h + TITLE + AXIS + 0.15 for h in heights)
    figure.set_size_inches(PAGE_WIDTH, height)
    draw_frame(figure, header, "")
    _legend(figure, header.height + 0.1)
    left = EDGE + text_width(figure, [p.case.loop for p in shown], TEXT_PT) + 0.15
    middle = (PAGE_WIDTH + left) / 2
    for (name, own), tall in zip(groups, heights, strict=True):
        top += TITLE
        figure.text(
            EDGE / PAGE_WIDTH,
            1 - (top - 0.12) / height,
            fitted(figure, name, PANEL_PT, PAGE_WIDTH - 2 * EDGE, "bold"),
            size=PANEL_PT,
            weight="bold",
        )
        for word, start, end in (
            ("seconds", left, middle - 0.35),
            ("shares", middle, PAGE_WIDTH - EDGE - 0.1),
        ):
            place = (
                start / PAGE_WIDTH,
                1 - (top + tall) / height,
                (end - start) / PAGE_WIDTH,
                tall / height,
            )
            _draw(figure.add_axes(place, label=f"{word}: {name}"), own, word == "shares")
        top += tall + AXIS + 0.15
    return figure


def _draw(axes: Axes, own: Sequence[Profile], as_shares: bool) -> None:
    """Draw the bars of one group; negative values are left of zero."""
    for row, profile in enumerate(own):
        assert profile.split is not None
        unit = profile.split.step_s if as_shares else 1e-3
        ends = {True: 0.0, False: 0.0}
        for share in profile.split.shares:
            width = share.seconds / unit
            negative = width < 0
            explained = share.phase is not Phase.UNEXPLAINED
            bar = axes.barh(
                row,
                width,
                left=ends[negative],
                height=0.72,
                color=COLOURS[share.phase],
                edgecolor=INK,
                linewidth=0.4,
                hatch=None if explained else "////",
            )
            if as_shares and explained and abs(share.share) >= LEAST_LABELLED:
                colour = "white" if share.phase in _DARK else INK
                axes.bar_label(
                    bar, [f"{share.share:.0%}"], label_type="center", size=SMALL_PT, color=colour
                )
            ends[negative] += width
        if not as_shares:
            axes.text(
                ends[False],
                row,
                f" {profile.split.step_s * 1e3:.3g} ms",
                size=SMALL_PT,
                va="center",
                color=SOFT_INK,
            )
    axes.set_ylim(len(own) - 0.5, -0.5)
    axes.set_yticks(range(len(own)), ["" if as_shares else p.case.loop for p in own])
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color=RULE)
    axes.set_axisbelow(True)
    axes.axvline(0, color=INK, linewidth=0.6)
    if as_shares:
        from matplotlib.ticker import PercentFormatter

        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.use_sticky_edges = False
        axes.margins(x=0.02)
        axes.set_xlabel("share of the measured step", size=TEXT_PT)
    else:
        low, high = axes.get_xlim()
        axes.set_xlim(low, low + (high - low) * _ROOM)
        axes.set_xlabel("milliseconds a step", size=TEXT_PT)


def _legend(figure: Figure, top: float) -> None:
    """Draw the legend of the phases on one line, in the order of the bars."""
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches()
    x = EDGE
    for phase, colour in COLOURS.items():
        hatch = "////" if phase is Phase.UNEXPLAINED else None
        figure.add_artist(
            Rectangle(
                (x / width, 1 - (top + 0.12) / height),
                0.18 / width,
                0.13 / height,
                facecolor=colour,
                edgecolor=INK,
                linewidth=0.4,
                hatch=hatch,
                transform=figure.transFigure,
            )
        )
        x += 0.24
        figure.text(x / width, 1 - (top + 0.055) / height, str(phase), size=TEXT_PT, va="center")
        x += text_width(figure, [str(phase)], TEXT_PT) + 0.18
