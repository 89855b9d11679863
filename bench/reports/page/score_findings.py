"""Findings about the scores of a run, and about the wait for a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from bench.analysis.rows import sibling
from bench.reports import formatting
from bench.reports.page.finding import Finding, measured
from bench.reports.page.records import pareto
from bench.reports.page.source import Source
from bench.reports.scores import in_digits, names_of
from bench.schema.cells import counted, finite
from bench.schema.columns import Row
from bench.schema.score import ACCURACY, Scale

Pair = tuple[Row, Row]


def scores_of_loops(source: Source) -> list[Finding]:
    """How `compiled` ends beside `fit`, a finding for each score."""
    rows = measured(source)
    pairs = [
        (row, fit)
        for row in rows
        if row["loop"] == "compiled" and (fit := sibling(row, rows, loop="fit"))
    ]
    found = []
    for scale, changes in _changes(pairs).items():
        name, unit = scale.name, scale.sign or " points"
        mean = fmean(changes)
        if round(mean, 1) == 0:
            beside = f"at the {name} of fit"
        else:
            beside = f"{abs(mean):.1f}{unit} {'above' if mean > 0 else 'below'} fit in {name}"
        found.append(
            Finding(
                "fact",
                f"compiled ends {beside}",
                f"Validation {name}, mean over {counted(len(changes), 'case')}; "
                f"{min(changes):+.1f} to {max(changes):+.1f}{unit} case by case. The loops "
                f"shuffle differently, and a network's {name} scatters with its seed.",
            )
        )
    return found


def best_for_the_time(source: Source) -> list[Finding]:
    """The best case of each score, and the first at its target."""
    found = []
    cases = {id(point): case for case, point in source.points.items()}
    for name in names_of(measured(source)):
        front = pareto(point for point in source.points.values() if point.score == name)
        if not front:
            continue
        best = front[-1]
        row = source.run.rows[cases[id(best)]]
        accuracy = name == ACCURACY
        superior = "is as accurate" if accuracy else f"has as good a {name}"
        text = (
            f"Validation {name} {in_digits(name, best.val_score, 4)}. "
            f"{counted(len(front), 'case')} {'is' if len(front) == 1 else 'are'} on the Pareto "
            f"front: no other case {superior} in as little training time."
        )
        title = "Most accurate" if accuracy else f"Best {name}"
        where = f"{formatting.name(row)}, in {best.training_s:.2g} s of training"
        found.append(Finding("gain", f"{title}: {where}", text + _first_at_target(source, name)))
    return found


def _first_at_target(source: Source, name: str) -> str:
    """Which case reached the target of a score first, as a sentence; empty without a target."""
    rows = [row for row in measured(source) if row["score"] == name]
    reached = [row for row in rows if row["time_to_score_s"] is not None]
    targets = (row["score_target"] for row in rows if row["score_target"] is not None)
    target = next(targets, None)
    if target is None:
        return ""
    if not reached:
        return f" No network reached the target of {target:g} in every launch."
    quick = min(reached, key=lambda row: row["time_to_score_s"])
    return (
        f" First at the target of {quick['score_target']:g}: {formatting.name(quick)}, after "
        f"{quick['time_to_score_s']:.2g} s."
    )


def change_on_average(pairs: Iterable[Pair]) -> str:
    """By how much the scores of (row, other) differ on average, a sentence for each score."""
    return "".join(
        f" Validation {scale.name} changes by {fmean(changes):+.2f}{scale.sign or ' points'} on "
        "average."
        for scale, changes in _changes(pairs).items()
    )


def scores_against(row: Row, other: Row) -> str:
    """The scores of two cases in words; empty where one has none, or their scores differ."""
    values = row["val_score"], other["val_score"]
    if None in values or row["score"] != other["score"]:
        return ""
    own, its = (in_digits(row["score"], value, 3) for value in values)
    return f"; the validation {row['score']} after as many epochs is {own} against {its}"


def waits(source: Source) -> Finding | None:
    """How long the cases with a stream wait for it."""
    rows = [row for row in measured(source) if row["waiting_share"] is not None]
    if not rows:
        return None
    worst = max(rows, key=lambda row: row["waiting_share"])
    free = worst["input_free_samples_per_s"]
    limit = ""
    # A reading below the measured rate was disturbed: free input makes nothing slower.
    if free and free > worst["samples_per_s"]:
        gain = formatting.times(free / worst["samples_per_s"])
        limit = f"With input for free it would train {free:,.0f} samples/s, {gain} as many. "
    return Finding(
        "fact",
        f"{formatting.name(worst)} waits {worst['waiting_share']:.0%} of a step for its input",
        f"{limit}The longest wait of {counted(len(rows), 'case')} that read a stream.",
    )


def _changes(pairs: Iterable[Pair]) -> dict[Scale, Sequence[float]]:
    """The differences of the scores of (row, other), in points or percent of the other's.

    By score; the scale has a unit of 1 where they are in percent. Pairs without a finite score on
    both sides are left out.
    """
    found: dict[str, list[Pair]] = {}
    for row, other in pairs:
        both = all(finite(one["val_score"]) is not None for one in (row, other))
        if both and row["score"] == other["score"]:
            found.setdefault(row["score"], []).append((row, other))
    changes: dict[Scale, Sequence[float]] = {}
    for name, own in found.items():
        others = [other["val_score"] for _, other in own]
        better = own[0][0]["better"]
        shown = Scale.of(name, better, others)
        in_points = shown.unit is None
        scales = [shown if in_points else Scale.of(name, better, [value]) for value in others]
        kind = Scale(name, shown.better, None if in_points else 1.0)
        changes[kind] = [
            scale.difference(row["val_score"] - other["val_score"])
            for scale, (row, other) in zip(scales, own, strict=True)
        ]
    return changes
