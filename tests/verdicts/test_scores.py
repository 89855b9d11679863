"""Scores other than the accuracy in `check`, `compare` and a duel, and work that differs."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from rich.console import Console
from support import TypeIn
from support.run_folders import write_run
from support.stored import stored

from bench.reports.terminal.compare import print_comparison
from bench.reports.terminal.duel import measured_words, print_duel
from bench.schema.bounds import checked
from bench.schema.case import Case
from bench.schema.duel import Block, DuelPlan, Spec
from bench.schema.errors import NotComparable
from bench.schema.launch import Better, Status
from bench.schema.plan import RunSettings
from bench.schema.runs import MeasuredRun
from bench.schema.score import OF_ACCURACY, Scale
from bench.schema.sizes import Sizes
from bench.store import baselines
from bench.store.measured import read_run
from bench.verdicts import check
from bench.verdicts.check import Measure, Verdict
from bench.verdicts.check_data import launch_scatter, why_untold
from bench.verdicts.compare import Comparison, compare, comparison_rows
from bench.verdicts.duel import DuelReport, Standing, as_json, from_verdict, take_look
from bench.verdicts.work import other_work

OWN = Case("own:net", "sgd", "compiled")
OTHER = Case("relu_mlp", "adam", "compiled")
MAE = {"score": "mae", "better": Better.MIN}


@pytest.mark.parametrize(
    ("better", "values", "unit"),
    [
        ("max", [0.0, 0.85, 1.0], None),
        ("max", [0.9, 1.1], 1.0),
        ("max", [-4.0, -6.0], 5.0),
        ("min", [0.2, 0.4], pytest.approx(0.3)),
        ("min", [0.0, 0.0], 1.0),
        ("max", [], None),
    ],
)
def test_points_are_for_shares_that_are_good_when_high(
    better: str, values: list[float], unit: Any
) -> None:
    assert Scale.of("r2", better, [*values, None, math.nan]).unit == unit


def test_a_change_for_the_worse_goes_the_way_that_is_bad() -> None:
    mae = Scale.of("mae", "min", [2.0])
    assert mae.worse(2.0, 2.1) == pytest.approx(0.05)
    assert (mae.change(0.05), mae.fell(0.05)) == (5.0, "mae rose by 5.0%")
    gain = Scale.of("gain", "max", [-2.0])
    assert gain.worse(-2.0, -2.1) == pytest.approx(0.05)
    assert (gain.change(0.05), gain.fell(0.05)) == (-5.0, "gain fell by 5.0%")
    assert OF_ACCURACY.worse(0.9, 0.85) == 0.9 - 0.85
    assert OF_ACCURACY.fell(0.05) == "accuracy fell by 5.0 points"


def base_of(folder: Path, value: float, **more: Any) -> Path:
    for seed in range(6):
        stored(folder / "base" / f"run{seed}", seed, accuracy=both(value), cases=CASES, **more)
    return folder / "base"


CASES = (OWN, OTHER)


def both(value: float) -> dict[str, float | None]:
    return {case.id: value for case in CASES}


def check_of(type_in: TypeIn, base: Path, now: Path) -> tuple[int, str, dict[str, Any]]:
    code, out, err = type_in("check", "--baseline", base, now)
    assert not err
    return code, out, json.loads((now / "check.json").read_text("utf-8"))


@pytest.mark.parametrize(("now", "code"), [(3.0, 0), (3.05, 0), (3.6, 1), (2.0, 0)])
def test_a_check_judges_a_score_that_is_better_when_low(
    type_in: TypeIn, tmp_path: Path, now: float, code: int
) -> None:
    base = base_of(tmp_path, 3.0, record=MAE)
    run = stored(tmp_path / "now", 20, accuracy=both(now), cases=CASES, record=MAE)
    found, out, told = check_of(type_in, base, run)
    assert found == code, out
    assert "accuracy" not in out
    assert "mae: change of the validation mae, in percent; least:" in out
    assert "; a rise of mae from " in out
    assert "its gate is 7.0%, its margin 2.0%" in out
    assert max(map(len, out.split("slower: time")[0].splitlines())) <= 80
    (one, _) = told["cases"]
    assert one["accuracy"] is None
    assert (one["score"]["name"], one["score"]["better"]) == ("mae", "min")
    assert one["score"]["change"] == pytest.approx(now / 3.0 - 1)
    assert one["score"]["regressed"] == (code == 1)
    if code:
        assert f"{OWN.id} and 1 more: regression: mae rose by 20.0%" in out.replace("\n", " ")
        assert "mae rose by 20.0%" in (run / "check.xml").read_text("utf-8")
        assert "| case | slower | mae | verdict |" in (run / "check.md").read_text("utf-8")


def test_a_check_of_several_scores_names_each_in_its_cell(type_in: TypeIn, tmp_path: Path) -> None:
    accuracy = {"score": "accuracy", "better": "max"}

    def run(path: Path, seed: int, value: float) -> Path:
        stored(path, seed, accuracy={OWN.id: value}, cases=CASES, record=MAE)
        lines = (path / "launches.jsonl").read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            told = json.loads(line)
            lines[number] = json.dumps(told | (accuracy if told["case"] == OTHER.id else {}))
        (path / "launches.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        (path / "results.csv").unlink()
        return path

    for seed in range(6):
        run(tmp_path / "base" / f"run{seed}", seed, 3.0)
    code, out, told = check_of(type_in, tmp_path / "base", run(tmp_path / "now", 20, 3.3))
    assert code == 1
    assert " mae +10.00% " in out
    assert " accuracy +0.00 " in out
    assert "score: change on validation data, in percent or in points of 0.01" in out
    assert "; a rise of mae from " in out
    assert "; a drop of accuracy from " in out
    assert [case["accuracy"] is None for case in told["cases"]] == [True, False]


def runs_of(*scores: Sequence[float], from_hour: int = 0) -> list[MeasuredRun]:
    """Runs with an mae for each launch, an hour and more apart."""
    found = []
    for hour, own in enumerate(scores, from_hour):
        row = {"score": "mae", "better": "min", "val_score": fmean(own)}
        began = {"time_utc": f"2026-11-{hour + 1:02d}T00:00:00+00:00"}
        logs = {OWN.id: tuple(0.0 for _ in own)}
        kept = {OWN.id: tuple(own)}
        found.append(MeasuredRun(Path(f"{hour}"), began, {OWN.id: row}, logs, scores=kept))
    return found


def judged_mae(stored: Sequence[float], now: Sequence[float]) -> Measure:
    """The test of a candidate against three stored runs, which agree as runs of one seed do."""
    scale = Scale.of("mae", "min", [fmean(stored)])
    base, candidate = runs_of(stored, stored, stored), runs_of(now, from_hour=3)
    return check._scores(base, candidate, {OWN.id: scale}, Sizes.of_check(None, None))[OWN.id]


@pytest.mark.parametrize(("launches", "scatter"), [(3, 0.14), (8, 0.05)])
def test_seeds_alone_raise_no_alarm_for_a_score_of_ones_own(launches: int, scatter: float) -> None:
    """The figures are those of examples: an mae of `tabular.py` scatters by 14% over seeds."""
    draw = random.Random(42)

    def drawn() -> list[float]:
        return [draw.gauss(1.0, scatter) for _ in range(launches)]

    tests = [judged_mae(drawn(), drawn()) for _ in range(2000)]
    assert sum(test.regressed for test in tests) <= 10
    # With a scatter of 0.7%, as of accuracies of the images, 39% and 12% were alarms.
    assert min(test.smallest for test in tests) > 0.06


def test_more_launches_find_a_worse_score_of_ones_own() -> None:
    stored = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99]
    assert judged_mae(stored, [value + 0.25 for value in stored]).regressed
    few, many = (judged_mae(stored[:n], stored[:n]).smallest for n in (3, 8))
    assert many < 0.2 < few


def test_one_launch_of_a_score_of_ones_own_tells_nothing() -> None:
    scale = Scale.of("mae", "min", [1.0])
    runs = runs_of([1.0], [1.0], [1.0], [1.3])
    assert launch_scatter(runs, OWN.id, scale) is None
    assert check._scores(runs[:3], runs[3:], {OWN.id: scale}, Sizes.of_check(None, None)) == {}
    assert why_untold(runs, OWN.id, scale) == (
        "one launch a run does not show how mae scatters: measure with --launches"
    )


def test_the_scores_of_launches_on_data_of_ones_own_are_read(tmp_path: Path) -> None:
    seconds = {OWN: (2.0, 0.5), OTHER: (2.0, 0.5)}
    for name, images, known in (("own", False, (0.5,) * 3), ("embedded", True, None)):
        run = read_run(write_run(tmp_path / name, seconds, record=MAE | {"images": images}))
        assert run.scores.get(OWN.id) == known


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_any_more_is_a_regression(
    type_in: TypeIn, tmp_path: Path, value: float
) -> None:
    base = base_of(tmp_path, 3.0, record=MAE)
    now = stored(tmp_path / "now", 20, accuracy=both(value), cases=CASES, record=MAE)
    code, out, _ = check_of(type_in, base, now)
    assert code == 1
    assert f"regression: mae is {value:g} in now" in out


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("data_digest", "trained on other data"),
        ("model_digest", "trained another model"),
        ("score", "was judged by another score"),
    ],
)
def test_a_check_does_not_match_different_work(
    type_in: TypeIn, tmp_path: Path, column: str, said: str
) -> None:
    base = base_of(tmp_path, 0.8, record={"data_digest": "d1", "model_digest": "m1"})
    now = tmp_path / "now"
    stored(now, 20, accuracy=both(0.8), cases=CASES, record={column: "another"})
    code, out, told = check_of(type_in, base, now)
    assert code == 3
    assert [case["verdict"] for case in told["cases"]] == ["new", "new"]
    assert f"it {said} in {now} than in {base / 'run0'}" in out


@pytest.mark.parametrize("value", ["", "unknown"])
def test_work_that_is_not_known_matches_any(type_in: TypeIn, tmp_path: Path, value: str) -> None:
    base = base_of(tmp_path, 0.8, record={"data_digest": "d1", "model_digest": "m1"})
    record = {"data_digest": value, "model_digest": value}
    now = stored(tmp_path / "now", 20, accuracy=both(0.8), cases=CASES, record=record)
    assert check_of(type_in, base, now)[0] == 0


def test_a_baseline_holds_one_work_for_each_case(tmp_path: Path) -> None:
    one, other = (
        stored(tmp_path / name, seed, record={"model_digest": name})
        for seed, name in enumerate(("a", "b"))
    )
    baselines.add(tmp_path / "base", [one])
    with pytest.raises(NotComparable, match="trained another model"):
        baselines.add(tmp_path / "base", [other])


def compared(tmp_path: Path, *records: dict[str, Any]) -> Comparison:
    cases = {OWN: (0.5, 3.0), OTHER: (0.4, 3.0)}
    paths = []
    for number, record in enumerate(records):
        more = {OWN: (0.5, 3.0 + 0.3 * number), OTHER: (0.4, 3.0)} if number else cases
        paths.append(write_run(tmp_path / f"r{number}", more, record=record))
    return compare({path.name: read_run(path) for path in paths})


def printed(found: Comparison) -> str:
    out = io.StringIO()
    print_comparison(found, Console(file=out, width=80))
    return out.getvalue()


def test_a_comparison_shows_another_score_in_percent(tmp_path: Path) -> None:
    found = compared(tmp_path, MAE, MAE)
    assert " mae" in printed(found)
    assert "+10.00%" in printed(found)
    assert "accuracy" not in printed(found)
    (own, _) = comparison_rows(found)
    assert own["val_score_difference"] == pytest.approx(0.3)
    assert (own["score"], own["better"]) == ("mae", "min")
    several = printed(compared(tmp_path / "three", MAE, MAE, MAE))
    assert "mae, lowest" in several
    assert "+20.00%" in several
    assert "accuracy" not in several


@pytest.mark.parametrize("name", ["iou[car]", "[/x]"])
def test_a_comparison_shows_a_name_with_brackets(tmp_path: Path, name: str) -> None:
    record = MAE | {"score": name}
    assert f" {name}" in printed(compared(tmp_path, record, record)).splitlines()[1]
    several = printed(compared(tmp_path / "three", record, record, record))
    assert f"{name}, lowest" in several


def test_a_comparison_without_a_score_has_no_column_of_one(tmp_path: Path) -> None:
    for names in (("a", "b"), ("a", "b", "c")):
        found = compared(tmp_path / names[-1], *[MAE] * len(names))
        pairs = {
            name: tuple(replace(pair, score_difference=None) for pair in own)
            for name, own in found.pairs.items()
        }
        said = printed(replace(found, pairs=pairs))
        assert not {"accuracy", "points", "mae", "lowest,", "... highest"} & {*said.split()}
        assert "... highest" not in said


def test_a_row_that_failed_does_not_hide_the_name_of_the_score(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", {OWN: (0.5, 3.0), OTHER: (0.4, 3.0)}, record=MAE)
    failed = {OWN: (Status.FAILED, "out of memory")}
    other = write_run(tmp_path / "other", {OTHER: (0.4, 3.0)}, record=MAE, reasons=failed)
    for runs in ((one, other), (other, one)):
        found = compare({path.name: read_run(path) for path in runs})
        rows = {row["case"]: row for row in comparison_rows(found)}
        assert (rows[OWN.id]["score"], rows[OWN.id]["better"]) == ("mae", "min")


def test_a_comparison_leaves_out_different_work(tmp_path: Path) -> None:
    one, other = (
        write_run(tmp_path / name, {OWN: (0.5, 0.8), OTHER: (0.4, 0.8)}) for name in ("a", "b")
    )
    for path in (one, other):
        text = (path / "launches.jsonl").read_text("utf-8").splitlines()
        lines = [json.loads(line) for line in text]
        lines = [t | {"data_digest": path.name} if t["case"] == OWN.id else t for t in lines]
        (path / "launches.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")
        (path / "results.csv").unlink()
    found = compare({"a": read_run(one), "b": read_run(other)})
    said = printed(found)
    assert f"{OWN.id}: not compared: it trained on other data in {other} than in {one}" in said
    assert found.summaries["b"].cases == 1
    assert [pair.ratio is None for pair in found.pairs["b"]] == [True, False]
    with pytest.raises(NotComparable, match="trained on other data"):
        compared(tmp_path / "none", MAE | {"data_digest": "x"}, MAE | {"data_digest": "y"})


def test_a_round_of_steps_is_not_compared_with_an_epoch(tmp_path: Path) -> None:
    cases = {OTHER: (0.4, 0.8)}
    whole, short = (read_run(write_run(tmp_path / name, cases)) for name in ("whole", "short"))
    rows = {case: {**row, "steps": 100} for case, row in short.rows.items()}
    object.__setattr__(short, "rows", rows)
    with pytest.raises(NotComparable, match="--steps"):
        compare({"whole": whole, "short": short})


def duel_of(scores: list[tuple[float, float]], name: str, better: str) -> Standing:
    standing = Standing(OWN)
    for number, pair in enumerate(scores):
        standing.add(Block(0.001 * (-1) ** number, pair, 0.0, "", name, better))
    plan = DuelPlan(Spec(), Spec(), (OWN,), RunSettings())
    take_look(standing, plan.sizes, 1)
    return standing


@pytest.mark.parametrize(
    ("name", "better", "a", "b", "verdict", "said"),
    [
        ("mae", "min", 3.0, 3.0, Verdict.PASSED, ""),
        ("mae", "min", 3.0, 3.3, Verdict.REGRESSION, "mae rose by 10.0%"),
        ("mae", "min", 3.0, 2.7, Verdict.PASSED, ""),
        ("gain", "max", 30.0, 27.0, Verdict.REGRESSION, "gain fell by 10.0%"),
        ("auc", "max", 0.9, 0.85, Verdict.REGRESSION, "auc fell by 5.0 points"),
        ("accuracy", "max", 0.9, 0.85, Verdict.REGRESSION, "accuracy fell by 5.0 points"),
    ],
)
def test_a_duel_judges_the_score_in_its_direction(
    name: str, better: str, a: float, b: float, verdict: Verdict, said: str
) -> None:
    scores = [(a + 0.001 * (-1) ** k, b + 0.001 * (-1) ** (k // 2)) for k in range(8)]
    standing = duel_of(scores, name, better)
    assert standing.verdict is verdict
    assert measured_words(standing).partition("the time")[2].removeprefix(", ") == said
    plan = DuelPlan(Spec(), Spec(), (OWN,), RunSettings())
    report = DuelReport(plan, (standing,), (0.0,), False)
    told = json.loads(json.dumps(as_json(report)))
    again = from_verdict(plan, told)
    assert as_json(again) == told
    assert ("score" in told["cases"][0]) == (name != "accuracy")
    out = io.StringIO()
    print_duel(report, Console(file=out, width=80))
    assert ("accuracy" in out.getvalue()) == (name == "accuracy")
    assert f"{name}: change" in out.getvalue() or name == "accuracy"


def test_a_duel_without_a_score_does_not_speak_of_one() -> None:
    standing = Standing(OWN)
    for number in range(8):
        standing.add(Block(0.001 * (-1) ** number, None, 0.0))
    plan = DuelPlan(Spec(), Spec(), (OWN,), RunSettings())
    take_look(standing, plan.sizes, 1)
    out = io.StringIO()
    print_duel(DuelReport(plan, (standing,), (0.0,), False), Console(file=out, width=80))
    head, *_ = out.getvalue().splitlines()
    assert head.split()[-3:] == ["p", "flips", "verdict"]
    assert "sign flips\n" in out.getvalue()
    assert "points" not in out.getvalue()


def test_other_work_is_told_by_what_both_know() -> None:
    row = {"data_digest": "d", "model_digest": "m", "score": "mae", "better": "min"}
    assert other_work(row, row) == ""
    assert other_work(row, {**row, "data_digest": "unknown", "model_digest": ""}) == ""
    assert other_work(row, {**row, "model_digest": "n"}) == "trained another model"
    # Made in another way than `m`, so nothing is known.
    assert other_work(row, {**row, "model_digest": "2:n"}) == ""
    later = {**row, "model_digest": "2:m"}
    assert other_work(later, {**row, "model_digest": "2:n"}) == "trained another model"
    assert other_work({**row, "score": "a:mae"}, {**row, "score": "b:mae"})
    assert other_work(row, {**row, "better": "max"}) == "was judged in another direction"
    assert checked({"better": "min"}, Scale) == Scale(better=Better.MIN)
