"""The charts of cases: throughput, scores against time, scaling, precision, roofline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.reports import roofline_data
from bench.reports.page.figure import (
    CASE,
    DASHES,
    HEIGHT,
    POINT,
    Figure,
    log_axis,
    looks_of,
    loop_colour,
    loop_look,
    loops_of,
    make,
    rows,
    tooltip,
)
from bench.reports.page.records import Record, roofs
from bench.reports.page.scalingcharts import scaling_figures
from bench.reports.page.scorecharts import score_figures
from bench.reports.page.source import Source
from bench.reports.scores import heading_of
from bench.schema.score import ACCURACY

if TYPE_CHECKING:
    import altair as alt

# With more names on its axis, a chart shows only the cases at the base setting.
MOST_NAMES = 90
_SPEED = ("speed", "samples/s")


def case_figures(sources: Sequence[Source], records: Sequence[Record]) -> list[Figure]:
    """The charts of these cases, in the order of the page; those without data are left out."""
    figures = [_throughput(records)] if records else []
    figures += score_figures(records)
    for axis, make_one in (("batch", _batches), ("threads", _threads)):
        swept = [record for record in records if record[f"{axis}_series"] is not None]
        figures += [make_one(swept)] if swept else []
    figures += scaling_figures(records)
    narrow = [record for record in records if record["over_float32"] is not None]
    figures += [_precision(narrow)] if narrow else []
    return [*figures, *_rooflines(sources, records)]


def _throughput(records: Sequence[Record]) -> Figure:
    import altair as alt

    chart = rows()
    caption = (
        "Samples trained a second in the timed rounds, on a logarithmic axis; the bar is the 95% "
        "interval over launches, where there are several."
    )
    if len({record["name"] for record in records}) > MOST_NAMES:
        chart = chart.transform_filter("datum.base || narrowed")
        caption += " Cases at the usual batch size and precision, until you filter by these."
    # The runs of a case are on neighbouring rows.
    plain = {r["name"]: r["name"].removesuffix(f" · {r['run']}") for r in records}
    order = list(dict.fromkeys(plain.values()))
    names = sorted(plain, key=lambda name: order.index(plain[name]))
    place = {"y": alt.Y("name:N", sort=names, title=None)}
    bars = chart.transform_filter("datum.low != null").mark_rule(strokeWidth=1.4)
    points = chart.mark_point(**POINT)
    said = tooltip(("speed:Q", ",.0f"), ("low:Q", ",.0f"), ("high:Q", ",.0f"))
    drawn = alt.layer(
        bars.encode(x=log_axis("low", "samples/s"), x2="high:Q", color=loop_colour(), **place),
        points.encode(x=log_axis("speed", "samples/s"), tooltip=said, **loop_look(), **place),
    )
    return make(
        "throughput",
        "Throughput",
        caption,
        drawn.properties(width="container", height=alt.Step(17)),
        (*CASE, _SPEED, ("low", "low"), ("high", "high")),
        loops_of(records),
    )


def _scored(records: Sequence[Record]) -> tuple[str, *tuple[tuple[str, str], ...]]:
    """The name of the score in a tooltip, and its (field, format) where there is one."""
    names = list(dict.fromkeys(record["judge"] for record in records if record["judge"]))
    if not names:
        return ("score",)
    return heading_of(names), ("score:Q", ".4f" if names == [ACCURACY] else ".5g")


def _batches(swept: Sequence[Record]) -> Figure:
    import altair as alt

    sizes = sorted({record["batch"] for record in swept})
    x = alt.X(
        "batch:Q",
        title="batch size",
        axis=alt.Axis(values=sizes, format="d"),
        scale=alt.Scale(type="log", base=2, nice=False, padding=16),
    )
    return _sweep(
        "batch",
        "Batch sizes",
        "Throughput of each case that ran at several batch sizes; both axes are logarithmic.",
        x,
        swept,
    )


def _threads(swept: Sequence[Record]) -> Figure:
    import altair as alt

    x = alt.X("threads:O", title="threads inside an operation", axis=alt.Axis(labelAngle=0))
    return _sweep(
        "threads",
        "Threads",
        "Throughput of each case that ran with several numbers of "
        "threads, in one run or in runs on the same machine with the same software and "
        "variables.",
        x,
        swept,
    )


def _sweep(axis: str, title: str, caption: str, x: alt.X, swept: Sequence[Record]) -> Figure:
    import altair as alt

    series = f"{axis}_series"
    chart = rows().transform_filter(f"datum.{series} != null")
    curves, runs = (
        list(dict.fromkeys(record[name] for record in swept)) for name in ("curve", "run")
    )
    line, shape, keys = looks_of("curve", curves, runs)
    y = log_axis("speed", "samples/s", "Y")
    name, *shown = _scored(swept)
    said = tooltip((f"{axis}:Q", ",d"), ("speed:Q", ",.0f"), *shown, score=name)
    drawn = alt.layer(
        chart.mark_line().encode(
            x=x,
            y=y,
            color=loop_colour(),
            detail=f"{series}:N",
            **line,
        ),
        chart.transform_filter("datum.low != null")
        .mark_rule(strokeWidth=1)
        .encode(x=x, y=log_axis("low", "samples/s", "Y"), y2="high:Q", color=loop_colour()),
        chart.mark_point(**POINT).encode(x=x, y=y, shape=shape, tooltip=said, **loop_look()),
    )
    legend = loops_of(swept) + keys
    columns = (*CASE, (axis, title.lower()), _SPEED, *((("score", name),) if shown else ()))
    return make(
        axis, title, caption, drawn.properties(width="container", height=HEIGHT), columns, legend
    )


def _precision(narrow: Sequence[Record]) -> Figure:
    import altair as alt

    several = len({record["batch"] for record in narrow}) > 1
    chart = (
        rows()
        .transform_filter("datum.over_float32 != null")
        .transform_calculate(
            what="datum.precision + ' · ' + datum.pair" + (" + ' · batch ' + datum.batch" * several)
        )
    )
    one = alt.Chart(alt.InlineData(values=[{"one": 1}])).mark_rule(color="var(--soft)")
    x = log_axis("over_float32", "throughput over that of float32")
    name, *shown = _scored(narrow)
    said = tooltip(("over_float32:Q", ".2f"), ("speed:Q", ",.0f"), *shown, score=name)
    drawn = alt.layer(
        one.encode(x="one:Q"),
        chart.mark_point(**POINT).encode(
            x=x, y=alt.Y("what:N", sort=None, title=None), **loop_look(), tooltip=said
        ),
    )
    caption = "The same case in float32 is 1: right of the line the precision helps, left it hurts."
    columns = (*CASE, ("precision", "precision"), ("over_float32", "over float32"))
    return make(
        "precision",
        "Precision",
        caption,
        drawn.properties(width="container", height=alt.Step(24)),
        columns,
        loops_of(narrow),
    )


def _rooflines(sources: Sequence[Source], records: Sequence[Record]) -> Iterator[Figure]:
    import altair as alt

    for number, (source, panel) in enumerate(roofs(sources)):
        below = [record for record in records if record["roof"] == number]
        peak = panel.limits.peak_flops_per_s
        lines = _roof(panel, [record["intensity"] for record in below])
        x, y = log_axis("intensity", "FLOP per byte"), log_axis("gflops", "GFLOP/s", "Y")
        said = tooltip(
            ("fraction:Q", ".2f"), ("gflops:Q", ".3g"), ("intensity:Q", ".3g"), ("bound:N", "")
        )
        roof = alt.Chart(alt.InlineData(values=lines)).mark_line(
            color="var(--ink)", strokeWidth=1.3
        )
        dash = alt.StrokeDash(
            "line:N",
            legend=None,
            scale=alt.Scale(domain=["cache", "memory"], range=[list(DASHES[0]), list(DASHES[1])]),
        )
        drawn = alt.layer(
            roof.encode(x=x, y=y, strokeDash=dash),
            rows()
            .transform_filter(f"datum.roof == {number}")
            .mark_point(**POINT)
            .encode(x=x, y=y, tooltip=said, **loop_look()),
        )
        where = f"{source.name}: " if len(sources) > 1 else ""
        cache, memory = (rate / 1e9 for rate in roofline_data.cache_and_memory(panel.limits))
        caption = (
            f"Each case below the roof of this machine: {peak / 1e9:,.0f} GFLOP/s in large matrix "
            f"products, {cache:,.0f} GB/s from the fastest cache (solid), {memory:,.0f} GB/s from "
            "memory (dashed), all measured in the run."
        )
        columns = (
            *CASE,
            ("intensity", "FLOP per byte"),
            ("gflops", "GFLOP/s"),
            ("fraction", "of roofline"),
            ("bound", "bound"),
        )
        yield make(
            f"roofline-{number}",
            f"Roofline: {where}{panel.title}",
            caption,
            drawn.properties(width="container", height=HEIGHT),
            columns,
            loops_of(below),
        )


def _roof(panel: roofline_data.RoofPanel, intensities: Sequence[float]) -> list[dict[str, Any]]:
    """The corner points of the roof over these intensities, for the fastest cache and memory."""
    peak = panel.limits.peak_flops_per_s
    rates = roofline_data.cache_and_memory(panel.limits)
    ridges = {line: peak / rate for line, rate in zip(("cache", "memory"), rates, strict=True)}
    low = min([*intensities, ridges["cache"] / 2])
    high = max([*intensities, ridges["memory"] * 1.5])
    return [
        {"line": line, "intensity": x, "gflops": min(peak, peak * x / ridge) / 1e9}
        for line, ridge in ridges.items()
        for x in (low, ridge, high)
    ]
