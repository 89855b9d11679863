"""Findings about the scores of a run, and about the wait for a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from bench.analysis.rows import sibling
from bench.reports import formatting
from bench.reports.page.finding import Finding, measured
from bench.reports.page.records import pareto
from bench.reports.page.source import Source
from bench.reports.page.works import Work, works
from bench.reports.scores import in_digits
from bench.reports.selection import Point
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


def best_for_the_time(source: Source) -> Finding | None:
    """The best case of each kind of work, and the first at its target."""
    cases = {id(point): case for case, point in source.points.items()}
    found = []
    for work in works(source):
        front = pareto(source.points[row["case"]] for row in work.rows)
        if front:
            found.append((work, source.run.rows[cases[id(front[-1])]], front))
    if len(found) > 1:
        said = "\n".join(_best_in_brief(work, best, front[-1]) for work, best, front in found)
        return Finding("gain", f"The best case of each of {len(found)} kinds of work", said)
    return _best(*found[0]) if found else None


def _best(work: Work, best: Row, front: Sequence[Point]) -> Finding:
    """The best case of a run of one kind of work."""
    name = best["score"]
    accuracy = name == ACCURACY
    superior = "is as accurate" if accuracy else f"has as good a {name}"
    text = (
        f"Validation {name} {in_digits(name, front[-1].val_score, 4)}. "
        f"{counted(len(front), 'case')} {'is' if len(front) == 1 else 'are'} on the Pareto "
        f"front: no other case {superior} in as little training time."
    )
    for target, quick in _first_at_targets(work):
        if quick is None:
            text += f" No network reached the target of {target:g} in every launch."
        else:
            after = f"{formatting.name(quick)}, after {quick['time_to_score_s']:.2g} s."
            text += f" First at the target of {target:g}: {after}"
    title = "Most accurate" if accuracy else f"Best {name}"
    where = f"{formatting.name(best)}, in {front[-1].training_s:.2g} s of training"
    return Finding("gain", f"{title}: {where}", text)


def _best_in_brief(work: Work, best: Row, point: Point) -> str:
    """The best case of one of several kinds of work, as a sentence."""
    name = best["score"]
    text = (
        f"{work.name}: {name} {in_digits(name, point.val_score, 4)} with {work.called(best)} in "
        f"{point.training_s:.2g} s of training"
    )
    for target, quick in _first_at_targets(work):
        if quick is None:
            text += f"; no case reached the target of {target:g} in every launch"
        else:
            after = f"{work.called(quick)}, after {quick['time_to_score_s']:.2g} s"
            text += f"; first at the target of {target:g}: {after}"
    return f"{text}."


def _first_at_targets(work: Work) -> list[tuple[float, Row | None]]:
    """(target, the case that reached it first, None where none did) for each target of a work."""
    rows: dict[float, list[Row]] = {}
    for row in work.rows:
        if row["score_target"] is not None:
            rows.setdefault(row["score_target"], []).append(row)
    return [
        (
            target,
            min(
                (row for row in own if row["time_to_score_s"] is not None),
                key=lambda row: row["time_to_score_s"],
                default=None,
            ),
        )
        for target, own in rows.items()
    ]


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
        limit = (
            f"On one batch that stays on the device it trains {free:,.0f} samples/s, {gain} as "
            "many. "
        )
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
