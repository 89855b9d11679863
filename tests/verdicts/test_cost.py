"""What training costs: exact in the price, with the intervals of the measured times."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import TypeIn
from support.run_folders import write_run

from bench.analysis.stats import student_interval, welch_interval
from bench.cli.prices import prices_of
from bench.schema.case import Case
from bench.schema.runs import MeasuredRun
from bench.store.measured import read_machine, read_run
from bench.store.named import named_runs
from bench.verdicts.compare import Comparison, compare, comparison_rows, priced
from bench.verdicts.cost import COLUMNS, Estimate, Prices
from fmnist_models.errors import UserError

# Three launches, one launch, and one that does not reach the target of 0.85.
COMPILED, FIT = (Case("relu_mlp", "adam", loop) for loop in ("compiled", "fit"))
SHORT = Case("softmax", "adam", "compiled")
SLOW = {COMPILED: (0.4, 0.87), FIT: (4.0, 0.86), SHORT: (0.2, 0.80)}
FAST = {case: (seconds / 2, score) for case, (seconds, score) in SLOW.items()}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, MeasuredRun]:
    return named_runs([write_run(tmp_path / "a", SLOW), write_run(tmp_path / "b", FAST)])


@pytest.fixture
def found(runs: dict[str, MeasuredRun]) -> Comparison:
    return priced(compare(runs), Prices("EUR", {"a": 0.36, "b": 0.90}))


def near(value: float) -> Any:
    """An estimate without an interval, to float precision."""
    return Estimate(pytest.approx(value))  # type: ignore[arg-type]


def rows(found: Comparison) -> dict[str, dict[str, object]]:
    return {row["case"]: row for row in comparison_rows(found)}


def test_the_costs_follow_from_price_and_time(found: Comparison) -> None:
    assert found.costs is not None
    # 0.36 an hour are 0.0001 a second, in which 12,000 samples are trained.
    cost = found.costs.of_run["a"][FIT.id]
    assert cost.samples_per_money == near(12_000 / 1e-4)
    assert cost.epoch == near(4.0 * 1e-4)
    # The second epoch is the first at 0.85 or above: its score is 0.86, the first's is 0.85.
    assert cost.target == near(4.0 * 1e-4)
    # Twice as fast at two and a half times the price.
    over = found.costs.over_baseline["b"][FIT.id]
    assert over.samples_per_money == near(0.8)
    assert over.target == near(1.25)


def test_the_intervals_are_those_of_the_times(found: Comparison) -> None:
    assert found.costs is not None
    run, base = found.runs["b"], found.runs["a"]
    cost = found.costs.of_run["b"][COMPILED.id]
    interval = student_interval(run.logs[COMPILED.id])
    assert interval is not None
    low, high = (math.exp(end) * 0.90 / 3600 for end in interval)
    assert cost.samples_per_money.low == pytest.approx(1 / high)
    assert cost.samples_per_money.high == pytest.approx(1 / low)
    assert cost.epoch is not None
    assert (cost.epoch.low, cost.epoch.high) == pytest.approx((low * 48_000, high * 48_000))
    (pair,) = (pair for pair in found.pairs["b"] if pair.case == COMPILED.id)
    over = found.costs.over_baseline["b"][COMPILED.id]
    assert pair.low is not None
    assert over.samples_per_money.low == pytest.approx(pair.low * 0.36 / 0.90)
    of_target = welch_interval(run.target_logs[COMPILED.id], base.target_logs[COMPILED.id])
    assert of_target is not None
    assert over.target is not None
    assert over.target.low == pytest.approx(math.exp(of_target[0]) * 2.5)
    assert over.target.high == pytest.approx(math.exp(of_target[1]) * 2.5)


def test_a_target_that_is_not_reached_has_no_cost(found: Comparison) -> None:
    assert found.costs is not None
    assert found.costs.of_run["a"][SHORT.id].target is None
    assert found.costs.over_baseline["b"][SHORT.id].target is None
    row = rows(found)[SHORT.id]
    assert row["target_cost"] is row["target_cost_ratio_high"] is None
    assert row["epoch_cost_low"] is not None


def test_ways_to_other_targets_are_not_compared(runs: dict[str, MeasuredRun]) -> None:
    other = {case: {**row, "score_target": 0.8} for case, row in runs["b"].rows.items()}
    changed = {**runs, "b": replace(runs["b"], rows=other)}
    found = priced(compare(changed), Prices("EUR", {"a": 1, "b": 1}))
    assert found.costs is not None
    assert found.costs.of_run["b"][COMPILED.id].target is not None
    assert found.costs.over_baseline["b"][COMPILED.id].target is None


def test_without_a_price_the_columns_are_empty(runs: dict[str, MeasuredRun]) -> None:
    for row in comparison_rows(compare(runs)):
        assert {row[name] for name in COLUMNS} == {None}


def test_runs_of_one_machine_have_intervals_from_three_on(tmp_path: Path) -> None:
    for side in "ab":
        for k in range(3):
            times = {case: (s * (1 + k / 100), v) for case, (s, v) in SLOW.items()}
            began = f"2026-03-0{k + 1}T1{'ab'.index(side)}:00:00+00:00"
            write_run(tmp_path / side / str(k), times, time_utc=began)
    machine = read_machine(tmp_path / "a")
    # The mean over the runs, not the first.
    assert machine.rows[FIT.id]["epoch_s"] == pytest.approx(4.0 * (1 * 1.01 * 1.02) ** (1 / 3))
    assert machine.rows[FIT.id]["step_ms"] == pytest.approx(
        machine.rows[FIT.id]["epoch_s"] / 4.0 * read_run(tmp_path / "a/0").rows[FIT.id]["step_ms"]
    )
    found = compare({"a": machine, "b": read_machine(tmp_path / "b")})
    costs = priced(found, Prices("EUR", {"a": 1, "b": 2})).costs
    assert costs is not None
    cost = costs.of_run["a"][FIT.id]
    assert cost.epoch is not None
    assert cost.target is not None
    assert None not in (cost.samples_per_money.low, cost.epoch.high, cost.target.low)
    assert costs.over_baseline["b"][FIT.id].samples_per_money.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("words", "currency", "line"),
    [
        ((), "EUR", "--currency EUR: it is of prices"),
        (("a=1/h", "b=1/h"), None, "--price a=1/h: name the --currency too"),
        (("a=1/h", "b=1/h"), "euros and cents", "--currency 'euros and cents': write one word"),
        (("a=1/h",), "EUR", "--price: b has no price; add --price 'b=PRICE/h'"),
        (("a=1/h", "c=1/h"), "EUR", "--price c: no run of that name; choose from a, b"),
        (("a=1/h", "a=2/h", "b=1/h"), "EUR", "--price a=2/h: a has a price already"),
        (("a=0/h", "b=1/h"), "EUR", "--price a=0/h: a price must be above 0"),
        (("a=-1/h", "b=1/h"), "EUR", "--price a=-1/h: a price must be above 0"),
        (("a=nan/h", "b=1/h"), "EUR", "--price a=nan/h: a price must be above 0"),
        (("a=inf/s", "b=1/h"), "EUR", "--price a=inf/s: a price must be above 0"),
        (("a=1/month", "b=1/h"), "EUR", "a price is of /h, /min, /s, not of /month"),
        (("a=1", "b=1/h"), "EUR", "--price a=1: write NAME=PRICE/h"),
        (("0.53/h", "b=1/h"), "EUR", "--price 0.53/h: write NAME=PRICE/h"),
        (("a=0,53/h", "b=1/h"), "EUR", "--price a=0,53/h: 0,53 is no number"),
    ],
)
def test_a_wrong_price_is_refused(
    runs: dict[str, MeasuredRun], words: tuple[str, ...], currency: str | None, line: str
) -> None:
    with pytest.raises(UserError) as error:
        prices_of(words, currency, runs)
    assert line in str(error.value)


def test_a_price_is_of_an_hour_a_minute_or_a_second(runs: dict[str, MeasuredRun]) -> None:
    found = prices_of(("a=0.01/min", "b=1e-4/s"), "EUR", runs)
    assert found is not None
    assert found.per_hour == pytest.approx({"a": 0.6, "b": 0.36})


@pytest.mark.parametrize(
    "words",
    [
        ("A", "B", "--price", "a=0.36/h", "b=0.90/h", "--currency", "EUR"),
        ("A", "B", "--price=a=0.36/h", "--price", "b=0.90/h", "--currency", "EUR"),
        ("--price", "a=0.36/h", "b=0.90/h", "A", "--currency", "EUR", "B"),
    ],
)
def test_prices_as_they_are_typed(
    runs: dict[str, MeasuredRun],
    tmp_path: Path,
    type_in: TypeIn,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    drawn: list[Path] = []
    record: Callable[..., None] = lambda _, path: drawn.append(path)  # noqa: E731
    monkeypatch.setattr("bench.reports.plots.compare.draw_comparison", record)
    monkeypatch.setattr("bench.reports.plots.cost.draw_costs", record)
    paths = {"A": runs["a"].path, "B": runs["b"].path}
    out = tmp_path / "out"
    code, told, err = type_in("compare", *(paths.get(w, w) for w in words), "--output", out)
    assert (code, err) == (0, "")
    assert "A  a (baseline): 0.36 EUR/h\nB  b: 0.9 EUR/h\n" in told
    assert "B: 0.800 times the samples per EUR of A (geometric mean of 3 cases" in told
    assert drawn == [out / "comparison.png", out / "costs.png"]
    with (out / "comparison.csv").open(encoding="utf-8", newline="") as lines:
        row = next(row for row in csv.DictReader(lines) if row["case"] == FIT.id)
    assert (row["currency"], row["price_per_h"], row["baseline_price_per_h"]) == (
        "EUR",
        "0.9",
        "0.36",
    )
    assert float(row["samples_per_money_ratio"]) == pytest.approx(0.8)
    assert float(row["baseline_epoch_cost"]) == pytest.approx(4e-4)


def test_no_picture_of_the_user_is_replaced(
    runs: dict[str, MeasuredRun], tmp_path: Path, type_in: TypeIn
) -> None:
    (tmp_path / "costs.png").write_text("mine", "utf-8")
    paths = (run.path for run in runs.values())
    asked = ("--price", "a=1/h", "b=1/h", "--currency", "EUR", "--output", tmp_path)
    code, _, err = type_in("compare", *paths, *asked)
    assert (code, "costs.png is there already" in err) == (2, True)
    assert not (tmp_path / "comparison.csv").exists()
