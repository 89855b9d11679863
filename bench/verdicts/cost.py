"""What training costs on each of several machines: money from a price and the measured times.

A price is exact, so each interval is that of a time, by Student over one run and by Welch over two,
scaled by the price. The price is of the whole machine, whichever part of it a case uses, and the
time is that of training: neither warm-up nor evaluation is in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench.analysis import stats
from bench.schema.runs import MeasuredRun
from bench.verdicts.regression import LEAST_RUNS

_HOUR_S = 3600
# Columns of comparison.csv. Those of `_OF_RUN` are of the candidate, and again of the baseline.
_QUANTITIES = ("samples_per_money", "epoch_cost", "target_cost")
_RATIOS = tuple(f"{name}_ratio" for name in ("samples_per_money", "target_cost"))


def _with_ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


_OF_RUN = ("price_per_h", *(column for name in _QUANTITIES for column in _with_ends(name)))
COLUMNS = (
    "currency",
    *_OF_RUN,
    *(f"baseline_{name}" for name in _OF_RUN),
    *(column for name in _RATIOS for column in _with_ends(name)),
)


@dataclass(frozen=True, slots=True)
class Prices:
    """What an hour of the machine of each run costs.

    Attributes:
        currency: the unit of money, as the user names it.
        per_hour: by the name of the run.
    """

    currency: str
    per_hour: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the ends of its 95% interval; None for ends that are not known."""

    value: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Estimate:
        """The same of a number that is `factor` times as large."""
        ends = (None if end is None else end * factor for end in (self.low, self.high))
        return Estimate(self.value * factor, *ends)

    def inverse(self) -> Estimate:
        """The same of one over the number; an end is not known where it would be infinite."""
        low, high = (1 / end if end else None for end in (self.high, self.low))
        return Estimate(1 / self.value, low, high)


@dataclass(frozen=True, slots=True)
class Cost:
    """What training a case costs on one machine.

    Attributes:
        samples_per_money: samples that one unit of money trains.
        epoch: money for an epoch; None where a case has none.
        target: money for the training until the score reaches its target, the geometric mean over
            launches; None where a launch does not reach it.
    """

    samples_per_money: Estimate
    epoch: Estimate | None
    target: Estimate | None


@dataclass(frozen=True, slots=True)
class CostRatio:
    """The candidate's costs over the baseline's.

    Attributes:
        samples_per_money: above 1, the candidate trains more for the same money.
        target: above 1, its way to the target costs more; None where either has none, or the
            targets differ.
    """

    samples_per_money: Estimate
    target: Estimate | None


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of a comparison.

    Attributes:
        of_run: by the name of the run and by case, for the cases that ended ok in it.
        over_baseline: by the name of the candidate and by case, for the cases with a ratio.
    """

    prices: Prices
    of_run: Mapping[str, Mapping[str, Cost]]
    over_baseline: Mapping[str, Mapping[str, CostRatio]]


def costs_of(
    runs: Mapping[str, MeasuredRun],
    baseline: str,
    ratios: Mapping[str, Mapping[str, Estimate]],
    prices: Prices,
) -> Costs:
    """The costs of runs that are compared.

    Args:
        runs: all of them by name.
        baseline: the name of the one that the others are compared with.
        ratios: samples/s of a candidate over the baseline's, by its name and by case.
        prices: with one for each run.
    """
    per_hour = prices.per_hour
    return Costs(
        prices,
        {
            name: {case: cost(run, case, per_hour[name]) for case in run.logs}
            for name, run in runs.items()
        },
        {
            name: {
                case: cost_ratio(
                    case, ratio, (runs[name], runs[baseline]), per_hour[name] / per_hour[baseline]
                )
                for case, ratio in own.items()
            }
            for name, own in ratios.items()
        },
    )


def cost(run: MeasuredRun, case: str, per_hour: float) -> Cost:
    """What `case`, which ended ok in `run`, costs at a price for an hour."""
    per_s = per_hour / _HOUR_S
    row, least = run.rows[case], LEAST_RUNS if run.unit == "run" else 2
    sample = _seconds(run.logs[case], least).times(per_s)
    # With --steps, a round is no epoch.
    samples = None if row["steps"] or not row["epoch_s"] else row["epoch_s"] * row["samples_per_s"]
    target = run.target_logs.get(case)
    return Cost(
        sample.inverse(),
        None if samples is None else sample.times(samples),
        None if target is None else _seconds(target, least).times(per_s),
    )


def cost_ratio(
    case: str,
    ratio: Estimate,
    sides: tuple[MeasuredRun, MeasuredRun],
    price_ratio: float,
) -> CostRatio:
    """The costs of a candidate over those of the baseline.

    Args:
        case: a case that ended ok in both.
        ratio: samples/s of the candidate over the baseline's; with its interval, the target's
            ratio has one too.
        sides: candidate and baseline.
        price_ratio: the candidate's price over the baseline's.
    """
    per_money = ratio.times(1 / price_ratio)
    logs = [side.target_logs.get(case) for side in sides]
    targets = {side.rows[case]["score_target"] for side in sides}
    own, other = logs
    if own is None or other is None or len(targets) > 1:
        return CostRatio(per_money, None)
    value = math.exp(fmean(own) - fmean(other))
    interval = None if ratio.low is None else stats.welch_interval(own, other)
    ends = () if interval is None else map(math.exp, interval)
    return CostRatio(per_money, Estimate(value, *ends).times(price_ratio))


def cost_cells(costs: Costs | None, name: str, baseline: str, case: str) -> dict[str, Any]:
    """The cells of comparison.csv of a case; all empty where no price was named."""
    cells: dict[str, Any] = dict.fromkeys(COLUMNS)
    if costs is None:
        return cells
    cells["currency"] = costs.prices.currency
    for prefix, run in (("", name), ("baseline_", baseline)):
        cells[f"{prefix}price_per_h"] = costs.prices.per_hour[run]
        if own := costs.of_run[run].get(case):
            values = (own.samples_per_money, own.epoch, own.target)
            for column, estimate in zip(_QUANTITIES, values, strict=True):
                cells |= _cells(f"{prefix}{column}", estimate)
    if over := costs.over_baseline[name].get(case):
        ratios = (over.samples_per_money, over.target)
        for column, estimate in zip(_RATIOS, ratios, strict=True):
            cells |= _cells(column, estimate)
    return cells


def _cells(column: str, estimate: Estimate | None) -> dict[str, float | None]:
    ends = (None,) * 3 if estimate is None else (estimate.value, estimate.low, estimate.high)
    return dict(zip(_with_ends(column), ends, strict=True))


def _seconds(logs: tuple[float, ...], least: int) -> Estimate:
    """Seconds of a mean of logs, with an interval from `least` values on."""
    interval = stats.student_interval(logs) if len(logs) >= least else None
    return Estimate(math.exp(fmean(logs)), *(() if interval is None else map(math.exp, interval)))
