"""The chart of efficiency against replicas."""

from __future__ import annotations

from collections.abc import Sequence

from bench.reports.page.figure import (
    CASE,
    HEIGHT,
    POINT,
    Figure,
    looks_of,
    loop_colour,
    loop_look,
    loops_of,
    make,
    rows,
    tooltip,
)
from bench.reports.page.records import Record
from bench.reports.scaling_data import highest
from bench.reports.scaling_words import scaling_title
from bench.schema.case import SCALINGS
from bench.schema.warnings import Kind, on_one_cpu


def scaling_figures(records: Sequence[Record]) -> list[Figure]:
    """A chart for each kind of scaling of which these cases have an efficiency, strong first."""
    known = [record for record in records if record["efficiency"] is not None]
    found = {name: [r for r in known if r["scaling"] == name] for name in SCALINGS}
    return [_scaling(name, own) for name, own in found.items() if own]


def _scaling(scaling: str, records: Sequence[Record]) -> Figure:
    import altair as alt

    numbers = sorted({1} | {record["replicas"] for record in records})
    x = alt.X(
        "at:Q",
        title="replicas",
        axis=alt.Axis(values=numbers, format="d"),
        scale=alt.Scale(type="log", base=2, nice=False, padding=16, domain=[1, numbers[-1]]),
    )
    scale = alt.Scale(domain=[0, highest(records)], nice=False)
    y = alt.Y("value:Q", title="speed-up over replicas", scale=scale)
    lines, runs = (list(dict.fromkeys(r[name] for r in records)) for name in ("line", "run"))
    line, shape, keys = looks_of("line", lines, runs)
    chart = rows().transform_filter(f"datum.efficiency != null && datum.scaling == '{scaling}'")
    # A line begins with one replica, whose efficiency is 1.
    from_one = chart.transform_calculate(
        at="[1, datum.replicas]", value="[1, datum.efficiency]"
    ).transform_flatten(["at", "value"])
    point = chart.transform_calculate(at="datum.replicas", value="datum.efficiency")
    said = tooltip(
        ("replicas:Q", "d"),
        ("processes:Q", "d"),
        ("efficiency:Q", ".2f"),
        ("efficiency_low:Q", ".2f"),
        ("efficiency_high:Q", ".2f"),
        ("share:Q", ".2f"),
    )
    one = alt.Chart(alt.InlineData(values=[{"one": 1}]))
    drawn = alt.layer(
        one.mark_rule(color="var(--soft)", strokeDash=[5, 3]).encode(y="one:Q"),
        from_one.mark_line().encode(x=x, y=y, color=loop_colour(), detail="sweep:N", **line),
        point.transform_filter("datum.efficiency_low != null")
        .mark_rule(strokeWidth=1.2, clip=True)
        .encode(x=x, y="efficiency_low:Q", y2="efficiency_high:Q", color=loop_colour()),
        point.mark_point(**POINT).encode(x=x, y=y, shape=shape, tooltip=said, **loop_look()),
    )
    legend = [*loops_of(records), *keys]
    columns = (
        *CASE,
        ("replicas", "replicas"),
        ("processes", "processes"),
        ("efficiency", "efficiency"),
        ("efficiency_low", "low"),
        ("efficiency_high", "high"),
        ("share", "all-reduce over step"),
    )
    return make(
        f"scaling-{scaling}",
        "Efficiency against replicas" + f": {scaling} scaling",
        _caption(scaling, records),
        drawn.properties(width="container", height=HEIGHT),
        columns,
        legend,
    )


def _caption(scaling: str, records: Sequence[Record]) -> str:
    text = (
        f"{scaling_title(scaling)}. Speed-up over one replica, over the number of replicas: at "
        "the dashed line nothing is lost. The bar is the 95% interval over launches, where there "
        "are several."
    )
    if any(map(on_one_cpu, records)):
        text += f" Warning: {Kind.ONE_CPU.value}."
    return text
