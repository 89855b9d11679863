"""A chart of the page, and the parts that the charts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from bench.reports.palette import model_markers
from bench.schema.case import LOOPS

if TYPE_CHECKING:
    import altair as alt

# Filters out the cases that the reader has filtered out; `shown` is false before that.
SHOWN = "!shown || shown[datum.key]"
# Colours are CSS variables of the page, so that a chart works in light, dark and print style.
LOOP_COLOURS = [f"var(--{loop})" for loop in LOOPS]
PALETTE = [f"var(--c{number})" for number in range(1, 9)]
LOOP_FILLS: Mapping[str, float] = {"fit": 0.0, "multistep": 0.45, "compiled": 1.0, "sklearn": 1.0}
# Of each marker of the pictures, a shape of Vega and a character.
SHAPES: Mapping[str, tuple[str, str]] = {
    "o": ("circle", "\N{BLACK CIRCLE}"),
    "s": ("square", "\N{BLACK SQUARE}"),
    "^": ("triangle-up", "\N{BLACK UP-POINTING TRIANGLE}"),
    "D": ("diamond", "\N{BLACK DIAMOND}"),
    "v": ("triangle-down", "\N{BLACK DOWN-POINTING TRIANGLE}"),
    "P": ("cross", "\N{HEAVY GREEK CROSS}"),
    # Vega has no such shapes: paths in a square from -1 to 1.
    "X": (
        "M-1,-.5L-.5,-1L0,-.5L.5,-1L1,-.5L.5,0L1,.5L.5,1L0,.5L-.5,1L-1,.5L-.5,0Z",
        "\N{HEAVY MULTIPLICATION X}",
    ),
    "<": ("triangle-left", "\N{BLACK LEFT-POINTING TRIANGLE}"),
    ">": ("triangle-right", "\N{BLACK RIGHT-POINTING TRIANGLE}"),
    "p": ("M0,-1L.95,-.31L.59,.81L-.59,.81L-.95,-.31Z", "\N{BLACK PENTAGON}"),
    "*": (
        "M0,-1L.22,-.31L.95,-.31L.36,.12L.59,.81L0,.38L-.59,.81L-.36,.12L-.95,-.31L-.22,-.31Z",
        "\N{BLACK STAR}",
    ),
    "d": ("M0,-1L.6,0L0,1L-.6,0Z", "\N{BLACK MEDIUM LOZENGE}"),
}
POINT: Mapping[str, Any] = {"filled": True, "size": 60, "strokeWidth": 1.6, "opacity": 1}
# Pixels of a chart of cases.
HEIGHT = 320
# The columns that name a case in the table of a chart.
CASE = (("run", "run"), ("case", "case"))
DASHES = ([1, 0], [5, 3], [2, 2], [8, 3, 2, 3])
_DASHES_IN_WORDS = ("solid", "dashed", "dotted", "dash-dotted")
# Pixels of a line, and what one is called that has two and three times as many.
_THIN, _THICKER = 1.6, ("", "thick ", "very thick ")
_SCORES = ("score:", "val_score:")
_TITLES: Mapping[str, str] = {
    "speed": "samples/s",
    "training_s": "training, s",
    "trained_s": "trained, s",
    "fraction": "of roofline",
    "gflops": "GFLOP/s",
    "intensity": "FLOP per byte",
}
CONFIG: Mapping[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    # Space for the half of the last label that is beyond its axis.
    "padding": {"left": 2, "right": 16, "top": 6, "bottom": 2},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--rule)",
        "domainColor": "var(--soft)",
        "tickColor": "var(--soft)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 340,
        "labelOverlap": "greedy",
        "labelSeparation": 5,
        "labelFlush": False,
    },
}


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend: a swatch, as CSS class or as character, and its text."""

    text: str
    style: str = ""
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart.

    Attributes:
        name: unique on the page, of letters, digits and dashes.
        caption: what is drawn, and how it was measured.
        spec: the Vega-Lite specification, which refers to its data by name.
        columns: (field, heading) of the table with the same data.
        control: name of the page's control above the chart; empty for none.
    """

    name: str
    title: str
    caption: str
    spec: Mapping[str, Any]
    columns: tuple[tuple[str, str], ...]
    legend: tuple[Key, ...] = ()
    control: str = ""


def make(
    name: str,
    title: str,
    caption: str,
    chart: Any,
    columns: Sequence[tuple[str, str]],
    legend: Sequence[Key] = (),
) -> Figure:
    """A figure from an Altair chart, which is checked against the schema of Vega-Lite."""
    import altair as alt

    # The page sets these parameters when the reader filters; a chart gets those that it uses.
    named = repr(chart.to_dict(validate=False))
    for param, value in (("shown", False), ("narrowed", False), ("across", "epoch")):
        if param in named:
            chart = chart.add_params(alt.param(name=param, value=value))
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    spec = chart.properties(description=f"{title}. {caption}", autosize=fit).to_dict()
    # The page has its own configuration; the schema's address would look like a link.
    kept = {key: value for key, value in spec.items() if key not in ("$schema", "config")}
    return Figure(name, title, caption, kept, tuple(columns), tuple(legend))


def rows(data: str = "rows") -> alt.Chart:
    """A chart of the page's records `data`, without those that the reader has filtered out."""
    import altair as alt

    return alt.Chart(alt.NamedData(name=data)).transform_filter(SHOWN)


def loop_colour() -> alt.Color:
    """The colour of a loop, the same in every chart."""
    import altair as alt

    return alt.Color("loop:N", scale=_loop_scale(), legend=None)


def loop_look() -> dict[str, Any]:
    """The channels of a loop's point: colour and fill; each alone distinguishes the loops."""
    import altair as alt

    fills = [LOOP_FILLS[loop] for loop in LOOPS]
    fill_scale = alt.Scale(type="ordinal", domain=list(LOOPS), range=fills)
    return {
        "color": loop_colour(),
        "stroke": alt.Stroke("loop:N", scale=_loop_scale(), legend=None),
        "fillOpacity": alt.FillOpacity("loop:O", scale=fill_scale, legend=None),
    }


def _loop_scale() -> alt.Scale:
    import altair as alt

    return alt.Scale(domain=list(LOOPS), range=LOOP_COLOURS)


def log_axis(field: str, title: str, kind: str = "X") -> Any:
    """A logarithmic axis of a field; large numbers with SI prefixes, such as 20k."""
    import altair as alt

    channel = {"X": alt.X, "Y": alt.Y}[kind]
    ends = f"domain('{kind.lower()}')"
    first_digit = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"
    # A wide axis has labels only at 1, 2 and 5, so that they do not overlap.
    labels = (
        f"{ends}[1] > 4 * {ends}[0] && indexof([1, 2, 5], {first_digit}) < 0 ? '' : "
        "format(datum.value, datum.value < 1000 ? '~g' : '~s')"
    )
    axis = alt.Axis(labelExpr=labels, tickCount=5)
    scale = alt.Scale(type="log", nice=False, padding=12)
    return channel(f"{field}:Q", title=title, axis=axis, scale=scale)


def tooltip(*fields: tuple[str, str], score: str = "score") -> list[alt.Tooltip]:
    """The tooltip of a point: case, run, and these (field, format); `score` is the score's name."""
    import altair as alt

    def title(field: str) -> str:
        """A field in words; the fields `score` and `val_score` with the score's name."""
        return _words(field).removesuffix("score") + score * field.startswith(_SCORES)

    case = alt.Tooltip("case:N", title="case")
    named = [alt.Tooltip(field, title=title(field), format=how) for field, how in fields]
    return [case, alt.Tooltip("run:N", title="run"), *named]


def loops_of(records: Sequence[Mapping[str, Any]]) -> list[Key]:
    """Legend entries of the loops in these records."""
    here = {record["loop"] for record in records}
    return [Key(loop, f"loop {loop}") for loop in LOOPS if loop in here]


def looks_of(
    field: str, names: Sequence[str], runs: Sequence[str]
) -> tuple[dict[str, Any], alt.Shape, list[Key]]:
    """The channels of a line and the shape of its points, which tell names and runs apart.

    A name has a dash of its own. There are few dashes, so that with one run a name has a shape too,
    and with several runs, whose points have the shapes, the lines of more names are thicker.

    Returns:
        the channels of the lines, that of the points, and the legend: of several names, and of
        several runs.
    """
    import altair as alt

    count, several = len(names), len(runs) > 1
    places = range(count)
    dashes = [list(DASHES[n % len(DASHES)]) for n in places]
    words = [_DASHES_IN_WORDS[n % len(DASHES)] for n in places]
    dash = alt.Scale(domain=list(names), range=dashes)
    line: dict[str, Any] = {
        "strokeDash": alt.StrokeDash(f"{field}:N", legend=None, scale=dash),
        "strokeWidth": alt.value(_THIN),
    }
    signs = [""] * count
    if several and count > len(DASHES):
        thick = [min(n // len(DASHES), len(_THICKER) - 1) for n in places]
        width = alt.Scale(
            type="ordinal", domain=list(names), range=[_THIN * (1 + n) for n in thick]
        )
        # Vega-Lite takes no widths of names that have no order.
        line["strokeWidth"] = alt.StrokeWidth(f"{field}:O", legend=None, scale=width)
        words = [_THICKER[n] + word for n, word in zip(thick, words, strict=True)]
    elif not several and count > 1:
        signs = [sign for _, (_, sign) in zip(names, cycle(SHAPES.values()), strict=False)]
    domain, of = (runs, "run") if several else (names, field)
    shapes = [shape for _, (shape, _) in zip(domain, cycle(SHAPES.values()), strict=False)]
    shape = alt.Shape(f"{of}:N", legend=None, scale=alt.Scale(domain=list(domain), range=shapes))
    keys = [
        Key(f"{word}: {name}", sign=sign)
        for word, name, sign in zip(words, names, signs, strict=True)
        if count > 1
    ]
    keys += [
        Key(run, sign=sign)
        for run, (_, sign) in zip(runs, cycle(SHAPES.values()), strict=False)
        if several
    ]
    return line, shape, keys


def shapes_of(models: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(shape, character) of each model, as in the pictures."""
    markers = model_markers(models)
    return {model: SHAPES[markers[model]] for model in models}


def _words(field: str) -> str:
    name = field.partition(":")[0]
    return _TITLES.get(name, name.replace("_", " "))
