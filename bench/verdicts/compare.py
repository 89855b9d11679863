"""Compares runs of one or many machines case by case: ratios, missing cases, differences.

A ratio is candidate over baseline, in samples/s. Its interval is Welch's. Over the launches of two
runs, it covers their scatter but not the drift of the machines from hour to hour. Over three or
more runs of each machine, it covers both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import geometric_mean
from typing import Any

from bench.analysis import stats
from bench.machine import variables
from bench.schema.cells import few_of
from bench.schema.errors import NotComparable
from bench.schema.runs import MeasuredRun
from bench.schema.score import OF_ACCURACY, Scale
from bench.verdicts import scaling
from bench.verdicts.across import SET_UPS, across_axes, across_machines, values_of
from bench.verdicts.compatibility import refuse_other_work, shown
from bench.verdicts.cost import COLUMNS as COST_COLUMNS
from bench.verdicts.cost import Costs, Estimate, Prices, cost_cells, costs_of
from bench.verdicts.facts import Purpose
from bench.verdicts.regression import LEAST_RUNS
from bench.verdicts.work import apart, without
from fmnist_models.errors import UserError

_DIGEST_SHOWN = 8
COLUMNS = (
    "case",
    "run",
    "baseline",
    "samples_per_s",
    "baseline_samples_per_s",
    "ratio",
    "ratio_low",
    "ratio_high",
    "interval_over",
    "val_score_difference",
    "status",
    "baseline_status",
    "score",
    "better",
    *scaling.COLUMNS,
    *scaling.OF_BASELINE,
    *COST_COLUMNS,
)
# The axes whose values are told where runs differ in them.
_AXES_TOLD = (*SET_UPS, "replicas", "processes")


@dataclass(frozen=True, slots=True)
class Pair:
    """One case in a candidate and in the baseline.

    Attributes:
        ratio: samples/s of the candidate over the baseline's; None where either has none.
        low, high: its interval; None where `_interval_over` gives none.
        score_difference: score on validation data, candidate less baseline, in the score's own
            unit; None where unknown.
        scale: what the score is, and in what its difference is shown.
    """

    case: str
    ratio: float | None
    low: float | None
    high: float | None
    score_difference: float | None
    scale: Scale = OF_ACCURACY


@dataclass(frozen=True, slots=True)
class Summary:
    """One candidate over the cases that ended ok in every run.

    Attributes:
        cases: number of these cases.
        lowest, highest: range of their ratios.
        geometric_mean: geometric mean of their ratios.
        total_time_ratio: seconds of one epoch, summed over these cases: baseline over candidate.
        missing: cases that ended ok in another run and not in this one.
    """

    cases: int
    lowest: float
    highest: float
    geometric_mean: float
    total_time_ratio: float
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        baseline: name of the run that the others are compared with.
        runs: all runs by name, in the order given.
        cases: the cases of all runs, in the order in which they first appear.
        pairs: a pair for each of `cases`, by the candidate's name.
        summaries: by the candidate's name.
        differences: the texts of each run, baseline first, by fact; only facts that differ.
        baseline_missing: cases that ended ok in another run and not in the baseline.
        apart: why a case is not compared, by case: it did other work in one of the runs.
        scaled: the cases of several replicas whose efficiencies are compared, by the candidate's
            name.
        costs: what training costs; None where no price is known.
    """

    baseline: str
    runs: Mapping[str, MeasuredRun]
    cases: tuple[str, ...]
    pairs: Mapping[str, tuple[Pair, ...]]
    summaries: Mapping[str, Summary]
    differences: Mapping[str, tuple[str, ...]]
    baseline_missing: tuple[str, ...]
    apart: Mapping[str, str] = field(default_factory=dict)
    scaled: Mapping[str, tuple[scaling.Scaled, ...]] = field(default_factory=dict)
    costs: Costs | None = None

    def spread(self, name: str) -> set[str]:
        """The cases of the run `name` whose efficiency is compared with that of another run."""
        own = self.scaled.values() if name == self.baseline else [self.scaled[name]]
        return {found.case for cases in own for found in cases}


def compare(runs: Mapping[str, MeasuredRun], baseline: str | None = None) -> Comparison:
    """Compare runs with one of them, by default the first.

    `baseline` is a key of `runs`; `bench.store.named.called` finds it by other names. Where each
    run has one number of threads, or one backend, and these differ, cases are matched without it.

    Raises:
        UserError: fewer than two runs.
        NotComparable: data or epochs differ, or no case ended ok in all of them.
    """
    if len(runs) < 2:
        raise UserError(f"{len(runs)} run: name two at least")
    base = next(iter(runs)) if baseline is None else baseline
    matched = across_axes(across_machines(list(runs.values())))
    of_base = list(runs).index(base)
    ordered = [matched[of_base], *matched[:of_base], *matched[of_base + 1 :]]
    refuse_other_work(ordered, Purpose.COMPARE)
    for run in ordered:
        if not run.logs:
            raise NotComparable(
                f"{run.path}: none of its cases ended ok: finish it with fmnist-bench run --resume "
                f"{run.path}, or measure anew"
            )
    other_work = apart(ordered)
    runs = dict(zip(runs, without(matched, other_work), strict=True))
    first, others = runs[base], {name: run for name, run in runs.items() if name != base}
    ordered = [first, *others.values()]
    cases = tuple(dict.fromkeys(case for run in ordered for case in run.rows))
    held = [case for case in cases if any(case in run.logs for run in ordered)]
    common = [case for case in held if all(case in run.logs for run in ordered)]
    if not common:
        why = "".join(f"; {case}: {said}" for case, said in [*other_work.items()][:1])
        raise NotComparable(
            f"{', '.join(runs)}: no case ended ok in all of them; "
            f"run the same --matrix or the same cases on each{why}"
        )
    return Comparison(
        base,
        runs,
        cases,
        {name: tuple(_pair(case, run, first) for case in cases) for name, run in others.items()},
        {name: _summary(run, first, common, held) for name, run in others.items()},
        _differences(ordered),
        _missing(first, held),
        other_work,
        _scaled(first, others),
    )


def priced(found: Comparison, prices: Prices) -> Comparison:
    """The comparison with the costs of its cases; `prices` has one for each of its runs."""
    ratios = {
        name: {p.case: Estimate(p.ratio, p.low, p.high) for p in pairs if p.ratio is not None}
        for name, pairs in found.pairs.items()
    }
    return replace(found, costs=costs_of(found.runs, found.baseline, ratios, prices))


def comparison_rows(found: Comparison) -> Iterator[dict[str, Any]]:
    """A row for each case and candidate, with the keys `COLUMNS`."""
    base = found.runs[found.baseline]
    for name, pairs in found.pairs.items():
        run = found.runs[name]
        spread = {own.case: own for own in found.scaled[name]}
        for pair in pairs:
            yield {
                "case": pair.case,
                "run": name,
                "baseline": found.baseline,
                "samples_per_s": _speed(run, pair.case),
                "baseline_samples_per_s": _speed(base, pair.case),
                "ratio": pair.ratio,
                "ratio_low": pair.low,
                "ratio_high": pair.high,
                "interval_over": _interval_over(pair.case, run, base),
                "val_score_difference": pair.score_difference,
                "status": _status(run, pair.case),
                "baseline_status": _status(base, pair.case),
                "score": pair.scale.name,
                "better": str(pair.scale.better) if pair.scale.name else "",
                **scaling.scaling_cells(spread.get(pair.case)),
                **cost_cells(found.costs, name, found.baseline, pair.case),
            }


def _scaled(
    baseline: MeasuredRun, others: Mapping[str, MeasuredRun]
) -> dict[str, tuple[scaling.Scaled, ...]]:
    """`Comparison.scaled`: one error rate for all candidates together."""
    level = scaling.LEVEL / len(others)
    return {
        name: scaling.scaled(
            run, baseline, [case for case in run.logs if _interval_over(case, run, baseline)], level
        )
        for name, run in others.items()
    }


def _pair(case: str, run: MeasuredRun, baseline: MeasuredRun) -> Pair:
    own, other = _speed(run, case), _speed(baseline, case)
    if own is None or other is None:
        # A row that failed before its model was known has no score.
        rows = (side.rows.get(case) or {} for side in (baseline, run))
        row = next((row for row in rows if row.get("score")), {})
        scale = Scale.of(row.get("score", ""), row.get("better") or "", ())
        return Pair(case, None, None, None, None, scale)
    interval = None
    if _interval_over(case, run, baseline):
        interval = stats.welch_interval(run.logs[case], baseline.logs[case])
    # The logs are of seconds, so the faster run has the smaller one.
    low, high = (None, None) if interval is None else (math.exp(-end) for end in interval[::-1])
    scores = [side.rows[case]["val_score"] for side in (run, baseline)]
    difference = None if None in scores else scores[0] - scores[1]
    return Pair(case, own / other, low, high, difference, Scale.of_row(baseline.rows[case]))


def _interval_over(case: str, run: MeasuredRun, baseline: MeasuredRun) -> str:
    """`launches` or `runs`, whichever the interval of a ratio is made from; empty without one.

    Both sides need at least two launches of one run, or both at least three runs. Launches of one
    side are never compared with runs of the other.
    """
    sides = run, baseline
    if run.unit != baseline.unit or not all(case in side.logs for side in sides):
        return ""
    least, plural = {"run": (LEAST_RUNS, "runs"), "launch": (2, "launches")}[run.unit]
    return plural if all(len(side.logs[case]) >= least for side in sides) else ""


def _summary(
    run: MeasuredRun, baseline: MeasuredRun, common: Sequence[str], cases: Sequence[str]
) -> Summary:
    speeds = [(run.rows[c]["samples_per_s"], baseline.rows[c]["samples_per_s"]) for c in common]
    ratios = [own / other for own, other in speeds]
    total = math.fsum(1 / other for _, other in speeds) / math.fsum(1 / own for own, _ in speeds)
    mean = geometric_mean(ratios)
    return Summary(len(common), min(ratios), max(ratios), mean, total, _missing(run, cases))


def _missing(run: MeasuredRun, cases: Sequence[str]) -> tuple[str, ...]:
    return tuple(case for case in cases if case not in run.logs)


def _differences(runs: Sequence[MeasuredRun]) -> dict[str, tuple[str, ...]]:
    said = shown(_without_common_variables([run.environment for run in runs]))
    found = {name: texts for name, texts in said.items() if len(set(texts)) > 1}
    for axis in _AXES_TOLD:
        values = tuple(
            ", ".join(str(value or "default") for value in values_of(run, axis)) or "none"
            for run in runs
        )
        found |= {axis: values} if len(set(values)) > 1 else {}
    changed = _changed_files([_own_files(run.environment) for run in runs])
    return found | ({"files of your own": changed} if changed else {})


def _own_files(environment: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each file that is not the suite's, of all launches of a run."""
    found: dict[str, str] = {}
    for listing in (environment.get("code") or {}).values():
        for place in ("models", "elsewhere"):
            found |= listing.get(place) or {}
    return found


def _changed_files(files: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """For each run, those of its files that another run has with other contents; else empty."""
    digests: dict[str, set[str]] = {}
    for held in files:
        for name, digest in held.items():
            digests.setdefault(name, set()).add(digest)
    changed = sorted(name for name, seen in digests.items() if len(seen) > 1)
    if not changed:
        return ()
    return tuple(
        few_of([f"{name} {held[name][:_DIGEST_SHOWN]}" for name in changed if name in held])
        or "none of these"
        for held in files
    )


def _without_common_variables(
    environments: Sequence[Mapping[str, Any]],
) -> Sequence[Mapping[str, Any]]:
    """The records with those variables alone that differ; as they are where one holds none."""
    acted = [acts for acts in variables.acted(environments) if acts is not None]
    if len(acted) < len(environments):
        return environments
    common = set.intersection(*(set(acts.items()) for acts in acted))
    left = [dict(item for item in acts.items() if item not in common) for acts in acted]
    # With `overruled` they are not taken for records of an earlier revision, and filled up again.
    return [
        {**environment, "variables": acts, "overruled": {}}
        for environment, acts in zip(environments, left, strict=True)
    ]


def _speed(run: MeasuredRun, case: str) -> float | None:
    return run.rows[case]["samples_per_s"] if case in run.logs else None


def _status(run: MeasuredRun, case: str) -> str:
    row = run.rows.get(case)
    return "absent" if row is None else str(row["status"])
