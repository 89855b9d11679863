"""Runs of versions whose only score was the accuracy, and accuracies that cannot be."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import TypeIn
from support.run_folders import write_run

from bench.schema.case import Case
from bench.schema.columns import ROUND_COLUMNS
from bench.schema.earlier import EARLIER_NAMES
from bench.schema.launch import Better
from bench.store.derived import broken_launch
from bench.store.measured import read_run
from bench.store.run_folder import RunFolder
from fmnist_models.errors import UserError

FIT = Case("relu_mlp", "adam", "fit")
COMPILED = Case("relu_mlp", "adam", "compiled")
OWN = Case("own:net", "sgd", "fit")
EARLIER = {new: old for old, new in EARLIER_NAMES.items()}
LATER = ("score", "better", "steps", "data_digest", "model_digest")


def rows_of(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


def write(file: Path, rows: list[list[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows(rows)


def set_cell(file: Path, line: int, column: str, value: str) -> None:
    rows = rows_of(file)
    rows[line - 1][rows[0].index(column)] = value
    write(file, rows)


def made_earlier(run: Path) -> Path:
    """The run in the form of an earlier version."""
    for name in ("results.csv", "rounds.csv"):
        header, *rows = rows_of(run / name)
        kept = [place for place, column in enumerate(header) if column not in LATER]
        header = [EARLIER.get(column, column) for column in header]
        write(run / name, [[row[place] for place in kept] for row in (header, *rows)])
    plan = json.loads((run / "plan.json").read_text("utf-8"))
    settings = plan["settings"]
    settings["accuracy_target"] = settings.pop("score_target")
    for name in ("steps", "cache_stream", "own_epochs"):
        del settings[name]
    (run / "plan.json").write_text(json.dumps(plan), "utf-8")
    lines = []
    for line in (run / "launches.jsonl").read_text("utf-8").splitlines():
        told = json.loads(line)
        told["test_accuracy"] = told.pop("test_score")
        lines.append(json.dumps({k: v for k, v in told.items() if k not in LATER}) + "\n")
    (run / "launches.jsonl").write_text("".join(lines), "utf-8")
    return run


@pytest.fixture
def new(tmp_path: Path) -> Path:
    cases = {FIT: (5.0, 0.87), COMPILED: (0.5, 0.86)}
    return write_run(tmp_path / "new", cases, record={"test_score": 0.85})


@pytest.fixture
def old(tmp_path: Path) -> Path:
    cases = {FIT: (5.0, 0.87), COMPILED: (0.5, 0.86)}
    return made_earlier(write_run(tmp_path / "old", cases, record={"test_score": 0.85}))


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_run(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_run_of_an_earlier_version_has_the_same_rows(old: Path, new: Path) -> None:
    assert "val_accuracy" in (old / "rounds.csv").read_text("utf-8")
    read = read_run(old)
    assert dict(read.rows) == dict(read_run(new).rows)
    assert read.rows[FIT.id]["score"] == "accuracy"
    (old / "plan.json").unlink()
    assert dict(read_run(old).rows) == dict(read.rows)


def test_it_is_compared_and_reported_on(type_in: TypeIn, old: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", {FIT: (4.0, 0.87)}, record={"model_digest": "known"})
    code, out, err = type_in("compare", old, other, "--output", tmp_path / "compared")
    assert code == 0, err
    assert " +0.00" in out
    code, out, _ = type_in("report", old)
    assert code == 0, out
    assert "val. accuracy" in (old / "report.html").read_text("utf-8")


def test_a_resumed_run_goes_on_in_the_present_form(old: Path) -> None:
    RunFolder.resume(old)
    assert rows_of(old / "rounds.csv")[0] == list(ROUND_COLUMNS)


@pytest.mark.parametrize(
    ("name", "column"),
    [("rounds.csv", "val_accuracy"), ("results.csv", "test_accuracy")],
)
@pytest.mark.parametrize(("value", "bound"), [("7", "<= 1"), ("-1", ">= 0"), ("nan", ">= 0")])
def test_a_wrong_accuracy_is_named_as_the_file_names_it(
    old: Path, new: Path, name: str, column: str, value: str, bound: str
) -> None:
    present = EARLIER_NAMES[column]
    for run, written in ((old, column), (new, present)):
        set_cell(run / name, 2, written, value)
        said = f"{run / name} line 2, column {written}: '{value}' must be a number {bound}: "
        assert refused(run).startswith(said)


def test_a_word_and_a_doubled_column_are_named_as_the_file_names_them(old: Path) -> None:
    set_cell(old / "rounds.csv", 3, "val_accuracy", "high")
    assert "rounds.csv line 3, column val_accuracy: 'high' must be a number" in refused(old)
    write(old / "rounds.csv", [[*row, row[-1]] for row in rows_of(old / "rounds.csv")])
    assert "rounds.csv has two columns 'val_accuracy'" in refused(old)


def test_a_wrong_value_of_json_is_named_as_the_file_names_it(old: Path, new: Path) -> None:
    for run, written, target in (
        (old, "test_accuracy", "accuracy_target"),
        (new, "test_score", "score_target"),
    ):
        file = run / "launches.jsonl"
        told = file.read_text("utf-8")
        file.write_text(told.replace(f'"{written}": 0.85', f'"{written}": 85.0', 1), "utf-8")
        said = refused(run)
        assert f"launches.jsonl line 1, {written}: 85 must be a number <= 1" in said
        file.write_text(told, "utf-8")
        plan = (run / "plan.json").read_text("utf-8")
        text = plan.replace(f'"{target}": 0.85', f'"{target}": 85')
        (run / "plan.json").write_text(text, "utf-8")
        assert f"plan.json, settings.{target}: 85 must be a number <= 1" in refused(run)


def test_another_score_may_be_any_number(tmp_path: Path) -> None:
    record: dict[str, Any] = {"score": "mae", "better": Better.MIN, "test_score": -85.0}
    for name, value in (("large", 1e6), ("negative", -3.0), ("nan", math.nan)):
        run = write_run(tmp_path / name, {OWN: (5.0, value)}, record=record)
        found = read_run(run).rows[OWN.id]
        assert found["val_score"] == value or math.isnan(value)
        assert found["test_score"] == -85.0


def test_a_launch_that_reports_such_an_accuracy_is_invalid(new: Path) -> None:
    folder = RunFolder(new)
    record = next(r for r in folder.launches() if r.case == FIT.id)
    rounds = [s.round for s in folder.rounds() if s.case == FIT.id]
    assert broken_launch(record, rounds, "fit", 2) == ""
    spoilt = [rounds[0], replace(rounds[1], train_score=1.5)]
    assert "an accuracy of 1.5" in broken_launch(record, spoilt, "fit", 2)
    assert broken_launch(replace(record, score="mae"), spoilt, "fit", 2) == ""
    assert "an accuracy of -1" in broken_launch(replace(record, test_score=-1.0), rounds, "fit", 2)


def test_a_workload_has_epochs_of_its_own(tmp_path: Path) -> None:
    """Its run is read with its plan, and without it from the rows."""
    run = write_run(tmp_path / "run", {OWN: (5.0, 0.8)}, epochs=3)
    plan = json.loads((run / "plan.json").read_text("utf-8"))
    plan["settings"] |= {"epochs": 5, "own_epochs": {OWN.model: 3}}
    (run / "plan.json").write_text(json.dumps(plan), "utf-8")
    assert read_run(run).rows[OWN.id]["epochs"] == 3
    (run / "plan.json").unlink()
    assert read_run(run).rows[OWN.id]["val_score"] == pytest.approx(0.8)
    set_cell(run / "results.csv", 2, "epochs", "4")
    assert "2 of 4 rounds" in refused(run) or "3 of 4 rounds" in refused(run)


@pytest.mark.parametrize("own", [{"score_target": 0.9, "images": False}, {}])
def test_the_target_of_a_workload_is_not_taken_for_that_of_the_images(
    tmp_path: Path, own: dict[str, Any]
) -> None:
    """Without a plan the target follows from the rows, and a workload's row may be the first."""
    run = write_run(tmp_path / "run", {OWN: (5.0, 0.95), FIT: (5.0, 0.8)})
    file = run / "launches.jsonl"
    first, *others = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([json.dumps(json.loads(first) | own), *others, ""]), "utf-8")
    plan = json.loads((run / "plan.json").read_text("utf-8"))
    plan["settings"]["score_target"] = 0.7
    (run / "plan.json").write_text(json.dumps(plan), "utf-8")
    (run / "results.csv").unlink()
    rows = read_run(run).rows
    assert [row["score_target"] for row in rows.values()] == [own.get("score_target", 0.7), 0.7]
    RunFolder(run).write_results([*rows.values()])
    (run / "plan.json").unlink()
    assert read_run(run).rows == rows
