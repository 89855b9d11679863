"""The charts of rounds: learning curves, drift, one case; and those of runs and profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.reports import formatting
from bench.reports.page.figure import (
    DASHES,
    PALETTE,
    Figure,
    Key,
    log_axis,
    loop_colour,
    loops_of,
    make,
    rows,
    tooltip,
)
from bench.reports.page.records import Record
from bench.reports.page.source import Profile
from bench.reports.scores import directed
from bench.schema.case import LOOPS
from bench.schema.profile import Phase
from bench.schema.score import ACCURACY
from bench.verdicts.compare import Comparison

HEIGHT = 280
_CASE = (("run", "run"), ("case", "case"), ("launch", "launch"), ("round", "round"))
# Labels only at whole numbers of epochs and rounds.
_WHOLE = "{}datum.value % 1 ? '' : format(datum.value, '~g')"
_LINES = {"fit": "dashed", "multistep": "dotted", "compiled": "solid", "sklearn": "solid"}

# Numbers of the palette's colours that are similar to those of profile.png.
_PHASE_COLOURS: Mapping[str, int] = {
    Phase.INPUT: 5,
    Phase.FORWARD: 1,
    Phase.BACKWARD: 3,
    Phase.OPTIMIZER: 6,
    Phase.METRICS: 4,
    Phase.PYTHON: 2,
    Phase.IDLE: 7,
    Phase.UNEXPLAINED: 8,
}


def round_figures(records: Sequence[Record], one_in: int) -> list[Figure]:
    """The charts of the rounds of these cases; empty where nothing was measured."""
    if not records:
        return []
    return [
        *_curves(records, one_in),
        _drift(records, one_in),
        _one_case(records[0]["key"], one_in),
    ]


def _curves(records: Sequence[Record], one_in: int) -> Iterator[Figure]:
    import altair as alt

    networks = [record for record in records if record["loop"] != "sklearn" and record["judge"]]
    scored = list(dict.fromkeys((record["model"], record["judge"]) for record in networks))
    for number, (model, score) in enumerate(scored):
        own = [r for r in networks if (r["model"], r["judge"]) == (model, score)]
        optimizers = list(dict.fromkeys(record["optimizer"] for record in own))
        keys = [record["key"] for record in own]
        dashes = [[1, 0], list(DASHES[2]), [1, 0], [1, 0]]
        dashes[LOOPS.index("fit")] = list(DASHES[1])
        chart = (
            rows("rounds")
            .transform_filter(
                f"indexof({keys}, datum.key) >= 0 && datum.val_score != null "
                "&& (datum.base || narrowed)"
            )
            .transform_calculate(at="across == 'epoch' ? datum.round : datum.trained_s")
        )
        said = tooltip(
            ("launch:Q", "d"),
            ("round:Q", "d"),
            ("val_score:Q", ".4f" if score == ACCURACY else ".5g"),
            ("trained_s:Q", ".3g"),
            score=score,
        )
        title = directed(score, own[0]["better"])
        drawn = chart.mark_line(point={"size": 14}, strokeWidth=1.3).encode(
            x=alt.X(
                "at:Q",
                title=None,
                scale=alt.Scale(zero=False),
                axis=alt.Axis(labelExpr=_WHOLE.format("across == 'epoch' && ")),
            ),
            y=alt.Y("val_score:Q", title=title, scale=alt.Scale(zero=False)),
            color=_palette("optimizer", optimizers),
            strokeDash=alt.StrokeDash(
                "loop:N", legend=None, scale=alt.Scale(domain=list(LOOPS), range=dashes)
            ),
            detail=["key:N", "launch:N"],
            tooltip=said,
        )
        loops = [loop for loop in LOOPS if any(record["loop"] == loop for record in own)]
        legend = [Key(o, f"c{i % len(PALETTE) + 1}") for i, o in enumerate(optimizers)]
        legend += [Key(f"{_LINES[loop]}: {loop}") for loop in loops]
        figure = make(
            f"curves-{number}",
            f"Learning curves: {model}",
            f"Validation {score} after each documented epoch, a line a launch, at the usual batch "
            "size and precision until you filter by these."
            + (" Of this large run, the first launch of each case." if one_in > 1 else ""),
            drawn.properties(width="container", height=HEIGHT),
            (*_CASE, ("trained_s", "trained s"), ("val_score", score)),
            legend,
        )
        yield replace(figure, control="across")


def _drift(records: Sequence[Record], one_in: int) -> Figure:
    import altair as alt

    x = alt.X(
        "place:Q",
        title="round, in the order in which they were measured",
        scale=alt.Scale(nice=False),
        axis=alt.Axis(format="d"),
    )
    y = log_axis("over_median", "seconds over the case's median", "Y")
    said = tooltip(
        ("launch:Q", "d"), ("round:Q", "d"), ("seconds:Q", ".4g"), ("over_median:Q", ".3f")
    )
    one = alt.Chart(alt.InlineData(values=[{"one": 1}])).mark_rule(color="var(--soft)")
    drawn = alt.layer(
        rows("rounds")
        .mark_point(size=12, opacity=0.7, filled=True)
        .encode(x=x, y=y, color=loop_colour(), tooltip=said),
        one.encode(y="one:Q"),
    )
    several = len({record["run"] for record in records}) > 1
    caption = (
        "Every raw round of the run, over the median round of its case: a machine that slowed "
        "down for a while shows as a hill across all cases."
        + " The points of several runs overlap: filter by run." * several
        + _thinned(one_in)
    )
    return make(
        "drift",
        "Raw rounds in order",
        caption,
        drawn.properties(width="container", height=HEIGHT),
        (*_CASE, ("seconds", "seconds"), ("over_median", "over median")),
        loops_of(records),
    )


def _one_case(first: int, one_in: int) -> Figure:
    import altair as alt

    chart = alt.Chart(alt.NamedData(name="rounds")).transform_filter("datum.key == one")
    chart = chart.add_params(alt.param(name="one", value=first))
    said = tooltip(("launch:Q", "d"), ("round:Q", "d"), ("seconds:Q", ".4g"))
    drawn = chart.mark_line(point={"size": 30}, strokeWidth=1.2).encode(
        x=alt.X("round:Q", title="round of the launch", axis=alt.Axis(labelExpr=_WHOLE.format(""))),
        y=alt.Y("seconds:Q", title="seconds", scale=alt.Scale(zero=False, padding=10)),
        color=alt.Color("launch:N", legend=None, scale=alt.Scale(range=list(PALETTE))),
        detail="launch:N",
        tooltip=said,
    )
    caption = "The raw seconds of one case, a line a launch." + _thinned(one_in)
    figure = make(
        "one-case",
        "Rounds of one case",
        caption,
        drawn.properties(width="container", height=HEIGHT),
        (*_CASE, ("seconds", "seconds")),
    )
    return replace(figure, control="case")


def ratio_figure(found: Comparison) -> Figure:
    """The ratio of each case and candidate to the baseline, with its interval."""
    import altair as alt

    rows_of = {case: row for run in found.runs.values() for case, row in run.rows.items()}
    names_of = formatting.short_names(rows_of)
    values = [
        {
            "case": pair.case,
            "name": names_of[pair.case],
            "run": name,
            "ratio": pair.ratio,
            "low": pair.low,
            "high": pair.high,
        }
        for name, pairs in found.pairs.items()
        for pair in pairs
        if pair.ratio is not None
    ]
    chart = alt.Chart(alt.InlineData(values=values))
    one = alt.Chart(alt.InlineData(values=[{"one": 1}])).mark_rule(color="var(--soft)")
    names = list(found.pairs)
    place: dict[str, Any] = {
        "y": alt.Y("name:N", sort=None, title=None),
        "yOffset": alt.YOffset("run:N", sort=names),
        "color": _palette("run", names),
    }
    title = "samples/s over the baseline's"
    said = [
        alt.Tooltip("run:N"),
        alt.Tooltip("case:N"),
        *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("ratio", "low", "high")),
    ]
    drawn = alt.layer(
        one.encode(x="one:Q"),
        chart.transform_filter("datum.low != null")
        .mark_rule(strokeWidth=1.4)
        .encode(x=log_axis("low", title), x2="high:Q", **place),
        chart.mark_point(size=50, filled=True, opacity=1).encode(
            x=log_axis("ratio", title), tooltip=said, **place
        ),
    )
    caption = (
        f"Each case over the same case of {found.baseline}: right of the line the run is faster. "
        "The bar is Welch's 95% interval over launches; it leaves out how machines drift from "
        "hour to hour."
    )
    legend = [Key(name, f"c{number % len(PALETTE) + 1}") for number, name in enumerate(names)]
    step = alt.Step(12, **{"for": "offset"})
    return make(
        "ratios",
        f"Runs over {found.baseline}",
        caption,
        drawn.properties(width="container", height=step),
        (("run", "run"), ("case", "case"), ("ratio", "ratio"), ("low", "low"), ("high", "high")),
        legend,
    )


def profile_figure(profiles: Sequence[Profile]) -> Figure | None:
    """Bars of the phases of a step; None where nothing was profiled."""
    import altair as alt

    phases = list(dict.fromkeys(row["phase"] for profile in profiles for row in profile.rows))
    numbers = [_PHASE_COLOURS.get(phase, 8) for phase in phases]
    several = len(profiles) > 1
    ids = [row["case"] for profile in profiles for row in profile.rows]
    short, shared = formatting.short_ids(ids), formatting.shared_parts(ids)
    values: list[Mapping[str, Any]] = [
        {
            **row,
            "name": f"{profile.name}: " * several + short[row["case"]] + _step(row["step_s"]),
            "profile": profile.name,
            "place": phases.index(row["phase"]),
        }
        for profile in profiles
        for row in profile.rows
    ]
    if not values:
        return None
    # Lines between the phases, for prints in grey.
    bars = alt.Chart(alt.InlineData(values=values)).mark_bar(stroke="var(--card)", strokeWidth=1)
    drawn = bars.encode(
        x=alt.X("share:Q", title="share of the step", axis=alt.Axis(format="%", tickCount=6)),
        y=alt.Y("name:N", sort=None, title=None),
        color=alt.Color(
            "phase:N",
            legend=None,
            scale=alt.Scale(domain=phases, range=[PALETTE[number - 1] for number in numbers]),
        ),
        order=alt.Order("place:Q"),
        tooltip=[
            alt.Tooltip("case:N"),
            alt.Tooltip("phase:N"),
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("seconds_per_step:Q", format=".3g"),
        ],
    )
    legend = [Key(p, f"c{number}") for p, number in zip(phases, numbers, strict=True)]
    whence = "; ".join(
        profile.name + f" ({profile.measured})" * bool(profile.measured) for profile in profiles
    )
    return make(
        "profile",
        "What a step is made of" + f": {shared}" * bool(shared),
        f"Shares of the measured step, from {whence}: separate launches, which no other figure "
        "of this page uses. The filters above do not change this chart.",
        drawn.properties(width="container", height=alt.Step(26)),
        (
            *(("profile", "profile"),) * several,
            ("case", "case"),
            ("phase", "phase"),
            ("share", "share"),
            ("seconds_per_step", "seconds a step"),
        ),
        legend,
    )


def _step(seconds: float | None) -> str:
    """The seconds of a measured step as text, for the name of its case."""
    return "" if seconds is None else f" · {1e3 * seconds:.3g} ms"


def _palette(field: str, names: Sequence[str]) -> Any:
    import altair as alt

    colours = [PALETTE[number % len(PALETTE)] for number in range(len(names))]
    scale = alt.Scale(domain=list(names), range=colours)
    return alt.Color(f"{field}:N", scale=scale, legend=None)


def _thinned(one_in: int) -> str:
    if one_in == 1:
        return ""
    return f" One round in {one_in} is drawn, so that the page stays small; rounds.csv has all."
