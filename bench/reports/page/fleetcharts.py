"""The charts of a fleet's page: how much slower each node is, and each case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.reports.fleet_data import Drawn, Span
from bench.reports.formatting import short_ids
from bench.reports.page.figure import POINT, Figure, Key, make, rows

# Pixels of a row, and around the rows.
_ROW, _AROUND = 18, 60
_COLUMNS = (
    ("node", "node"),
    ("case", "case"),
    ("slower", "slower"),
    ("least", "smallest found"),
    ("slow", "slow beyond doubt"),
)
_SLOW, _OTHER = "var(--front)", "var(--soft)"
_KEYS = (
    Key("slower beyond doubt", sign="\N{BLACK UP-POINTING TRIANGLE}"),
    Key("not slower beyond doubt", sign="\N{WHITE CIRCLE}"),
    Key("line: lowest to highest of the nodes that are shown as one; bar: their median"),
)


def fleet_figures(drawn: Drawn) -> list[Figure]:
    """The charts; empty where nothing was tested."""
    if not drawn.cases:
        return []
    names = [*(node.name for node in drawn.nodes), *(span.name for span in drawn.groups)]
    short = short_ids([span.name for span in drawn.cases])
    return [
        _figure(
            "nodes",
            "Nodes",
            "Each mark is a case: how much longer it takes on the node than on the median of the "
            "others." + _left(drawn.left_out[0], "node"),
            "node",
            names,
            [(span.name, span) for span in drawn.groups],
        ),
        _figure(
            "cases",
            "Cases",
            "How much longer a case takes on each node than on the median of the others."
            + _left(drawn.left_out[1], "case"),
            "short",
            [short[span.name] for span in drawn.cases],
            [(short[span.name], span) for span in drawn.cases],
        ),
    ]


def _left(number: int, what: str) -> str:
    return f" {number:,} more {what}s are in fleet.csv." if number else ""


def _figure(
    name: str,
    title: str,
    caption: str,
    field: str,
    order: Sequence[str],
    spans: Sequence[tuple[str, Span]],
) -> Figure:
    import altair as alt

    y = alt.Y(f"{field}:N", sort=list(order), title=None, scale=alt.Scale(domain=list(order)))
    axis = alt.Axis(format="+.0%")
    x = alt.X("slower:Q", title="slower than the median of the others", axis=axis)
    values = [
        {field: row, "low": span.lowest, "slower": span.middle, "high": span.highest}
        for row, span in spans
    ]
    ranges = alt.Chart(alt.InlineData(values=values))
    line = ranges.mark_rule(strokeWidth=4, opacity=0.45, color=_OTHER).encode(
        y=y, x=alt.X("low:Q", axis=axis), x2="high:Q"
    )
    middle = ranges.mark_tick(thickness=3, size=12, color=_OTHER).encode(y=y, x=x)
    zero = (
        alt.Chart(alt.InlineData(values=[{"zero": 0}]))
        .mark_rule(color="var(--ink)", strokeDash=[2, 2])
        .encode(x="zero:Q")
    )
    told = [alt.Tooltip("node:N", title="node"), alt.Tooltip("case:N", title="case")]
    told += [
        alt.Tooltip("slower:Q", title="slower", format="+.1%"),
        alt.Tooltip("least:Q", title="smallest found", format=".1%"),
    ]
    look: dict[str, Any] = {
        "y": y,
        "x": x,
        "shape": alt.Shape(
            "slow:N",
            legend=None,
            scale=alt.Scale(domain=[False, True], range=["circle", "triangle-up"]),
        ),
        "stroke": alt.Stroke(
            "slow:N", legend=None, scale=alt.Scale(domain=[False, True], range=[_OTHER, _SLOW])
        ),
        "fill": alt.Fill(
            "slow:N",
            legend=None,
            scale=alt.Scale(domain=[False, True], range=["transparent", _SLOW]),
        ),
        "tooltip": told,
    }
    dots = rows().transform_filter(f"isValid(datum.{field})").mark_point(**POINT).encode(**look)
    height = _AROUND + _ROW * len(order)
    chart = alt.layer(line, middle, zero, dots).properties(width="container", height=height)
    return make(name, title, caption, chart, _COLUMNS, _KEYS)
