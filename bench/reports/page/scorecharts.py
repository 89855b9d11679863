"""The charts of scores over training seconds, with the best cases of each kind of work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.reports.page.figure import (
    CASE,
    HEIGHT,
    POINT,
    Figure,
    Key,
    log_axis,
    loop_look,
    loops_of,
    make,
    rows,
    shapes_of,
    tooltip,
)
from bench.reports.page.records import Record
from bench.reports.scores import directed, titled
from bench.schema.launch import Better
from bench.schema.score import ACCURACY

if TYPE_CHECKING:
    import altair as alt


def score_figures(records: Sequence[Record]) -> list[Figure]:
    """A chart for each score of which these cases have a value, in each good direction."""
    shapes = shapes_of(list(dict.fromkeys(record["model"] for record in records)))
    scores: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record["score"] is not None:
            scores.setdefault((record["judge"], record["better"]), []).append(record)
    return [
        _score("accuracy" if score == (ACCURACY, Better.MAX) else f"score-{number}", own, shapes)
        for number, (score, own) in enumerate(scores.items())
    ]


def _score(key: str, records: Sequence[Record], shapes: Mapping[str, tuple[str, str]]) -> Figure:
    """The score of these records, which is the same, over their training seconds."""
    import altair as alt

    name, better = records[0]["judge"], records[0]["better"]
    chart = _with_front(name, better)
    models = list(dict.fromkeys(record["model"] for record in records))
    drawn_as = [shapes[model][0] for model in models]
    shape = alt.Shape("model:N", legend=None, scale=alt.Scale(domain=models, range=drawn_as))
    x = log_axis("training_s", "training seconds")
    title = directed(name, better)
    y = alt.Y("score:Q", title=title, scale=alt.Scale(zero=False, padding=10))
    front = chart.transform_filter("datum.front")
    digits = ".4f" if name == ACCURACY else ".5g"
    said = tooltip(("score:Q", digits), ("training_s:Q", ".3g"), ("speed:Q", ",.0f"), score=name)
    targets = chart.transform_filter("datum.target != null").transform_aggregate(
        cases="count()", groupby=["target"]
    )
    drawn = alt.layer(
        targets.mark_rule(strokeDash=[5, 3], color="var(--soft)").encode(y="target:Q"),
        front.mark_line(interpolate="step-after", color="var(--front)", strokeWidth=1.5).encode(
            x=x, y=y, detail=["run:N", "work:N"], order="training_s:Q"
        ),
        front.mark_point(size=240, color="var(--front)", strokeWidth=1.5).encode(x=x, y=y),
        chart.mark_point(**POINT).encode(x=x, y=y, shape=shape, tooltip=said, **loop_look()),
    )
    legend = [
        *loops_of(records),
        *(Key(model, sign=shapes[model][1]) for model in models),
        Key("on the Pareto front", "ring"),
    ]
    columns = (
        *CASE,
        ("training_s", "training s"),
        ("score", name),
        ("front", "on the front"),
    )
    return make(
        key,
        f"{titled(name)} against time",
        _caption(name, records),
        drawn.properties(width="container", height=HEIGHT + 60),
        columns,
        legend,
    )


def _caption(name: str, records: Sequence[Record]) -> str:
    superior = "is more accurate" if name == ACCURACY else f"has a better {name}"
    several = len({(r["run"], r["work"]) for r in records}) > len({r["run"] for r in records})
    text = (
        f"Validation {name} after the documented epochs, over the seconds that their training "
        f"takes. Ringed and joined: the Pareto front of each run{' and kind of work' * several}; "
        f"no other shown case{' of the same work' * several} {superior} in the same or less time."
    )
    if targets := {record["target"] for record in records} - {None}:
        text += f" Dashed: the {name} target{'s' * (len(targets) > 1)}."
    return text


def _with_front(name: str, better: str) -> alt.Chart:
    """The cases with this score; `datum.front` says whether one is on the Pareto front."""
    import altair as alt

    lower = better == Better.MIN
    # The same rule as `records.pareto`, computed in Vega from the shown cases, because the front
    # depends on the filters.
    order: dict[str, Any] = {
        "groupby": ["run", "work"],
        "sort": [
            alt.SortField("training_s"),
            alt.SortField("score", order="ascending" if lower else "descending"),
        ],
    }
    superior = f"datum.score {'<' if lower else '>'} datum.before"
    return (
        rows()
        .transform_filter(
            f"datum.judge == {json.dumps(name)} && datum.better == {json.dumps(better)} "
            "&& datum.score != null && datum.training_s > 0"
        )
        .transform_window(best="min(score)" if lower else "max(score)", frame=[None, 0], **order)
        .transform_window(before="lag(best)", **order)
        .transform_calculate(front=f"!isValid(datum.before) || {superior}")
    )
