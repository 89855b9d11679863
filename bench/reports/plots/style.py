"""The style of the pictures: colours, markers, fonts and axes that all panels share."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.machine.variables import refuse_unreadable
from bench.reports.formatting import one_line
from bench.reports.palette import LOOP_COLOURS, LOOP_FILLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DOTS_PER_INCH = 160
INK, SOFT_INK, RULE, BAND = "#1a1a1a", "#555555", "#d9d9d9", "#f0f0f0"
TITLE_PT, PANEL_PT, TEXT_PT, SMALL_PT = 15.0, 11.0, 9.0, 8.0
MARKER_PT, ROUND_PT = 5.5, 2.2

LINE_STYLES = ("-", "--", ":", "-.")

_STYLE: dict[str, Any] = {
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.labelsize": TEXT_PT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "font.size": TEXT_PT,
    # A label may contain "$", which would begin a formula.
    "text.parse_math": False,
    "text.color": INK,
    "xtick.color": SOFT_INK,
    "ytick.color": SOFT_INK,
    "xtick.labelsize": TEXT_PT,
    "ytick.labelsize": TEXT_PT,
}


@contextlib.contextmanager
def style(texts: Iterable[str]) -> Iterator[None]:
    """Within the context, use matplotlib's defaults with this suite's changes.

    The user's settings are restored afterwards. For characters of `texts` that DejaVu Sans does
    not have, installed fonts are used. A character that no font has is drawn as a box, without a
    warning.

    Raises:
        UserError: matplotlib cannot read the user's matplotlibrc.
    """
    _load_matplotlib()
    import matplotlib.style

    fonts = {"font.family": ["DejaVu Sans", *_fallback_fonts(texts)]}
    with matplotlib.style.context(["default", {**_STYLE, **fonts}]), warnings.catch_warnings():
        # No warning of a missing glyph: the user can do nothing, and environment.json has the text.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support", UserWarning)
        yield


def line_styles(placements: Iterable[str]) -> dict[str, str]:
    """A line style for every placement, in order; they repeat after the fourth."""
    return dict(zip(dict.fromkeys(placements), itertools.cycle(LINE_STYLES), strict=False))


def loop_style(loop: str) -> dict[str, Any]:
    """Colour and fill of a loop, as `plot` takes them."""
    colour = LOOP_COLOURS[loop]
    hollow = LOOP_FILLS[loop] == "none"
    return {
        "color": colour,
        "fillstyle": "full" if hollow else LOOP_FILLS[loop],
        "markerfacecolor": "white" if hollow else colour,
        "markerfacecoloralt": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 1.3,
        "markersize": MARKER_PT,
    }


def text_width(figure: Figure, texts: Iterable[str], size: float) -> float:
    """Width in inches of the widest of `texts`; 0.0 where there is none."""
    return max((text_extent(figure, text, size)[0] for text in texts), default=0.0)


def text_extent(
    figure: Figure, text: str, size: float, weight: str = "normal"
) -> tuple[float, float]:
    """(width, height) of a line of text in inches."""
    drawn = figure.text(0, 0, text, size=size, weight=weight)
    box = drawn.get_window_extent()
    drawn.remove()
    return box.width / figure.dpi, box.height / figure.dpi


def axes_size(axes: Axes) -> tuple[float, float]:
    """(width, height) of the axes in inches."""
    box = axes.get_window_extent()
    return box.width / figure_of(axes).dpi, box.height / figure_of(axes).dpi


def figure_of(axes: Axes) -> Figure:
    """The figure of the axes; raises ValueError where they have none."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes have no figure")
    return figure


def fitted(figure: Figure, text: str, size: float, width: float, weight: str = "normal") -> str:
    """`text` on one line of at most `width` inches, shortened in the middle where needed."""
    most = 200
    while most > 1:
        line = one_line(text, most)
        wide = text_extent(figure, line, size, weight)[0]
        if wide <= width:
            return line
        most = min(len(line) - 1, int(len(line) * width / wide) + 1)
    return ""


def log_limits(values: Sequence[float], least_ratio: float = 4.0) -> tuple[float, float]:
    """Limits of a log axis with a margin around `values`, spanning at least `least_ratio`."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.06 * (high - low), (math.log10(least_ratio) - (high - low)) / 2, 0.03)
    return 10 ** (low - margin), 10 ** (high + margin)


def log_axis(axes: Axes, axis: Axis, values: Sequence[float]) -> None:
    """Make `axis` logarithmic around `values`, with few labels, such as 0.5, 20 and 10 k."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    name = "x" if axis is axes.xaxis else "y"
    limits = log_limits(values)
    axes.set(**{f"{name}scale": "log", f"{name}lim": limits})
    length, label_in = (axes_size(axes)[0], 0.5) if name == "x" else (axes_size(axes)[1], 0.25)
    ticks = log_ticks(*limits, least_ratio=(limits[1] / limits[0]) ** (label_in / length))
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: with_prefix(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def with_prefix(value: float) -> str:
    """A round number as text: 0.5, 20, 1 k, 2 M."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor * 0.999:
            return f"{value / factor:g} {prefix}"
    return f"{value:g}"


def log_ticks(low: float, high: float, least_ratio: float) -> list[float]:
    """Round numbers between two limits, each at least `least_ratio` times the one before.

    They are 1, 2 and 5 in every decade, else 1 and 3, else 1, or 1 in every n-th decade.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        if least_ratio <= {3: 2.0, 2: 3.0, 1: 10.0}[len(digits)]:
            break
    step = max(1, math.ceil(math.log10(least_ratio)))
    ticks = [d * 10.0**e for e in range(first - first % step, last + 1, step) for d in digits]
    return [tick for tick in ticks if low <= tick <= high]


def _load_matplotlib() -> None:
    """Import matplotlib without the user's MPLBACKEND.

    The suite draws into files, and a notebook's backend is often not installed for a command.
    """
    if "matplotlib" not in sys.modules:
        refuse_unreadable(os.environ)
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib  # noqa: F401
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _fallback_fonts(texts: Iterable[str]) -> list[str]:
    """Names of installed fonts that have the characters that DejaVu Sans does not have."""
    from matplotlib import font_manager

    def lacks(path: str, characters: set[str]) -> set[str]:
        """Which of `characters` the font at `path` has no glyph for."""
        try:
            known = font_manager.get_font(path).get_charmap()
        except (OSError, RuntimeError):
            return characters
        return {c for c in characters if ord(c) not in known}

    wanted = {c for text in texts for c in text if c.isprintable()}
    missing = lacks(font_manager.findfont("DejaVu Sans"), wanted)
    names: list[str] = []
    for font in font_manager.fontManager.ttflist:
        if not missing:
            break
        # The last-resort font has a box for every character, so it would always be chosen.
        if font.weight != 400 or font.style != "normal" or "Last Resort" in font.name:
            continue
        still = lacks(font.fname, missing)
        if still != missing:
            names.append(font.name)
            missing = still
    return names
