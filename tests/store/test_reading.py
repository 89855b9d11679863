"""Files that are damaged, edited or saved again: read where they can mean one thing, else named."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, TypeIn
from support.run_folders import CEILINGS, write_run

from bench.evidence.torture.files import counts, torture
from bench.reports.page.source import read_profiles
from bench.schema.bounds import Misfit
from bench.schema.case import Case
from bench.schema.ceilings import Ceilings
from bench.schema.columns import RESULT_COLUMNS
from bench.schema.launch import LaunchRecord, Round
from bench.session.blocks import COLUMNS
from bench.store.derived import broken_launches
from bench.store.filetypes import BLOCKS, RESULT_TYPES
from bench.store.measured import read_machine, read_run, run_folders
from bench.store.named import called, named_runs
from bench.store.run_folder import RunFolder
from bench.verdicts.compare import compare
from fmnist_models.errors import UserError

FIT = Case("relu_mlp", "adam", "fit")
COMPILED = Case("relu_mlp", "adam", "compiled")
USUAL = {FIT: (5.0, 0.87), COMPILED: (0.5, 0.86)}
# A side of a duel that was decided early holds fewer launches than were planned, and so no figure.
COMMITTED = sorted(
    file.parent
    for file in (ROOT / "results").rglob("results.csv")
    if not (file.parent.parent / "duel.json").exists()
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", USUAL)


def assert_refused(path: Path, *parts: str) -> str:
    """The message that reading the run ends with, which holds these parts."""
    with pytest.raises(UserError) as error:
        read_run(path)
    said = str(error.value)
    assert "\n" not in said
    for part in parts:
        assert part in said
    return said


def edited(file: Path, change: Callable[..., Any]) -> None:
    """Change the rows of a table, header included."""
    rows = list(csv.reader(file.read_text("utf-8").splitlines()))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(change(rows) or rows)
    file.write_text(text.getvalue(), "utf-8")


def set_cell(file: Path, line: int, column: str, value: str) -> None:
    def change(rows: list[list[str]]) -> None:
        rows[line - 1][rows[0].index(column)] = value

    edited(file, change)


def test_every_damage_is_an_error_of_one_line_or_changes_no_figure(tmp_path: Path) -> None:
    trials = [*torture(tmp_path, range(120))]
    assert [trial for trial in trials if not trial.right] == []
    touched = {row["file"] for row in counts(trials)}
    assert touched >= {"rounds.csv", "plan.json", "duel/control.csv", "duel/b/launches.jsonl"}
    # It must be able to fail: most damage is seen, and some does none.
    outcomes = [trial.outcome for trial in trials]
    assert 0.5 < outcomes.count("refused") / len(outcomes) < 0.95


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_what_is_committed_stays_readable(path: Path) -> None:
    found = read_run(path)
    assert found.logs
    assert found.rows.keys() == {row["case"] for row in RunFolder(path).results()}


def test_every_column_has_a_type() -> None:
    assert tuple(RESULT_TYPES) == RESULT_COLUMNS
    assert BLOCKS.columns == COLUMNS


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "7", "0.9", "abc", "", "0,87", "1_0"])
def test_an_edited_accuracy_names_file_line_and_column(run: Path, value: str) -> None:
    set_cell(run / "results.csv", 3, "val_score", value)
    assert_refused(run, "results.csv line 3, column val_score: ")


@pytest.mark.parametrize("column", [c for c in RESULT_COLUMNS if c not in ("reason", "warnings")])
def test_a_whole_column_emptied_is_refused(run: Path, column: str) -> None:
    before = RunFolder(run).results()

    def change(rows: list[list[str]]) -> None:
        for row in rows[1:]:
            row[rows[0].index(column)] = ""

    edited(run / "results.csv", change)
    # Of replicas and processes an empty cell means one, as in a file of an earlier version.
    nothing = (None, "", 1) if column in ("replicas", "processes") else (None, "")
    if all(row[column] in nothing for row in before):
        assert read_run(run).logs
    else:
        assert_refused(run, "results.csv line ", f", column {column}: ")


def test_rows_lost_or_doubled_are_named(run: Path) -> None:
    file = run / "results.csv"
    whole = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(whole[:2]), "utf-8")
    assert_refused(run, f"results.csv has no row of {COMPILED.id}", "delete it")
    file.write_text("".join([*whole, whole[1]]), "utf-8")
    assert_refused(run, "results.csv line 4, column case:", "is in line 2 already")
    (run / "plan.json").unlink()
    file.write_text("".join(whole[:2]), "utf-8")
    assert_refused(
        run, f"launches.jsonl tells of '{COMPILED.id}', a case that the run does not have"
    )


def test_a_scaling_that_is_no_known_word_is_told(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text("utf-8"))
    plan["settings"]["scaling"] = "wobbly"
    (run / "plan.json").write_text(json.dumps(plan), "utf-8")
    (run / "results.csv").unlink()
    assert_refused(run, "plan.json, settings.scaling: 'wobbly' is not a known value", "a copy")


def test_results_that_were_deleted_are_derived_again(run: Path) -> None:
    before = read_run(run)
    (run / "results.csv").unlink()
    assert read_run(run).rows == before.rows


@pytest.mark.parametrize("how", ["excel", "bom", "semicolon", "tab", "turned", "quoted", "empty"])
@pytest.mark.parametrize("name", ["results.csv", "rounds.csv"])
def test_a_table_saved_by_a_spreadsheet_is_read(run: Path, how: str, name: str) -> None:
    before, file = read_run(run), run / name
    rows = list(csv.reader(file.read_text("utf-8").splitlines()))
    if how == "excel":
        rows = [[c.upper() if c in ("true", "false") else c for c in row] for row in rows]
    if how == "turned":
        rows = [row[::-1] for row in rows]
    if how == "empty":
        rows = [*([*row, "", ""] for row in rows), [""] * 5]
    text = io.StringIO()
    csv.writer(
        text,
        lineterminator="\r\n",
        delimiter={"semicolon": ";", "tab": "\t"}.get(how, ","),
        quoting=csv.QUOTE_ALL if how == "quoted" else csv.QUOTE_MINIMAL,
    ).writerows(rows)
    file.write_bytes(text.getvalue().encode("utf-8-sig" if how == "bom" else "utf-8"))
    after = read_run(run)
    assert (after.rows, after.logs) == (before.rows, before.logs)


def test_other_encodings_are_named(run: Path) -> None:
    file = run / "results.csv"
    content = file.read_text("utf-8")
    file.write_bytes(content.encode("utf-16"))
    assert_refused(run, "results.csv is UTF-16: save it as UTF-8")
    file.write_bytes(content.replace("Test CPU", "\xb5", 1).encode("latin-1"))
    assert_refused(run, "results.csv line 2: byte 0xb5 is no UTF-8")
    file.write_text(content.replace("Test CPU", "\0", 1), "utf-8")
    assert_refused(run, "results.csv line 2 holds a NUL byte")


def test_a_word_for_a_number_names_file_line_and_column(run: Path) -> None:
    set_cell(run / "rounds.csv", 3, "seconds", "abc")
    assert_refused(run, "rounds.csv line 3, column seconds: 'abc' must be a number", "--resume")


@pytest.mark.parametrize("name", ["plan.json", "environment.json", "launches.jsonl"])
@pytest.mark.parametrize(
    "text",
    [
        "null",
        "5",
        "[1]",
        '"a"',
        "[" * 100_000,
        '{"version": 1e999}',
        "9" * 5000,
        '{"label": 7}',
        '{"case": "\\ud800"}',
        "{",
    ],
    ids=range(10),
)
def test_other_json_is_one_line(run: Path, name: str, text: str) -> None:
    (run / name).write_text(text, "utf-8")
    # Without its ceilings an environment is whole, and what was derived from them is not.
    assert_refused(
        run, "results.csv line 2, column roofline" if "1e999" in text and "env" in name else name
    )


def test_a_newer_plan_is_refused_by_name_and_later_fields_are_ignored(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text("utf-8"))
    (run / "plan.json").write_text(json.dumps({**plan, "later": 1}), "utf-8")
    line, *others = (run / "launches.jsonl").read_text("utf-8").splitlines(keepends=True)
    later = json.dumps({**json.loads(line), "later": [1]}) + "\n"
    (run / "launches.jsonl").write_text("".join([later, *others]), "utf-8")
    assert read_run(run).logs
    (run / "plan.json").write_text(json.dumps({**plan, "version": 2}), "utf-8")
    assert_refused(run, "plan.json is of version 2, newer than 1", "update fmnist-bench")


@pytest.mark.parametrize("what", ["folder", "link", "pipe"])
def test_what_is_no_file_is_named(run: Path, what: str) -> None:
    for name in ("rounds.csv", "plan.json", "results.csv", "environment.json"):
        copy = run.with_name(name)
        shutil.copytree(run, copy)
        file = copy / name
        file.unlink()
        if what == "folder":
            file.mkdir()
        elif what == "link":
            file.symlink_to(file)
        else:
            os.mkfifo(file)
        assert_refused(copy, f"{name} ")


def test_a_name_too_long_is_one_line(type_in: TypeIn, run: Path) -> None:
    long = "x" * 300
    for words in (
        ["compare", run, long],
        ["check", "--baseline", long, run],
        ["report", long],
        ["check", "--baseline", run, long],
        ["baseline", "list", long],
        ["baseline", "add", long, run],
        ["baseline", "remove", long, "a"],
    ):
        code, _, err = type_in(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert "xxx... cannot be read: File name too long" in err


def lose(file: Path, keep: Callable[..., Any]) -> None:
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(line for number, line in enumerate(lines, 1) if keep(number)), "utf-8")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: lose(file, lambda n: n != 2), "round 1 is missing"),
        (lambda file: lose(file, lambda n: n == 1), "0 of 2 rounds are there"),
        (lambda file: lose(file, lambda n: n != 3), "1 of 2 rounds are there"),
        (lambda file: edited(file, lambda r: [*r[:2], r[1], *r[2:]]), "round 1 is there twice"),
        (lambda file: set_cell(file, 3, "samples", "47000"), "round 2 is of 47000 samples"),
    ],
)
def test_rounds_lost_doubled_or_of_other_work_are_named(
    run: Path, spoil: Callable[..., Any], reason: str
) -> None:
    spoil(run / "rounds.csv")
    assert_refused(run, f"{FIT.id}, launch 1: {reason}", "--resume", "measures the launch again")
    folder, plan = RunFolder.resume(run)
    found = broken_launches(plan, folder.launches(), folder.rounds())
    assert found[FIT.id, 0].startswith(reason)


def test_a_launch_told_of_twice_is_named(run: Path) -> None:
    file = run / "launches.jsonl"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines, lines[0]]), "utf-8")
    assert_refused(run, f"launches.jsonl line {len(lines) + 1} is of {FIT.id}", "as line 1 is")


def test_records_are_bounded_and_ignore_what_is_later() -> None:
    fields = {"round": 1, "samples": 2, "updates": 1, "seconds": 1, "between_epochs_s": 0}
    assert Round.from_json({**fields, "later": 1}) == Round(1, 2, 1, 1.0, 0.0)
    for name, value in (
        ("seconds", 0),
        ("seconds", float("nan")),
        ("samples", True),
        ("round", "1"),
        ("evaluation_s", -1),
    ):
        with pytest.raises(Misfit, match=rf"^{name}: "):
            Round.from_json({**fields, name: value})
    with pytest.raises(Misfit, match="the field status is missing"):
        LaunchRecord.from_json({"case": "a", "launch": 0, "attempt": 1, "seed": 1})
    with pytest.raises(Misfit, match="a value must be a number"):
        Ceilings.from_json({**CEILINGS, "precision": "float32", "products_s": {"a": None}})


def test_every_run_that_is_named_appears_once(tmp_path: Path) -> None:
    base = write_run(tmp_path / "base", {FIT: (4.0, 0.87)})
    other = write_run(tmp_path / "other" / "run", {FIT: (5.0, 0.87)})
    run = write_run(tmp_path / "run", {FIT: (6.0, 0.87)})
    runs = named_runs([base, other, run])
    assert list(runs) == ["base", str(other), str(run)]
    assert compare(runs).baseline == "base"
    assert called(str(run), runs) == str(run)
    with pytest.raises(UserError, match="--baseline run: may mean"):
        called("run", runs)
    # A label that equals another's folder name or path is no name.
    third = write_run(tmp_path / "third", {FIT: (7.0, 0.87)}, label="base")
    fourth = write_run(tmp_path / "fourth", {FIT: (8.0, 0.87)}, label=str(other))
    runs = named_runs([base, other, third, fourth])
    assert len(runs) == 4
    assert [found.path for found in runs.values()] == [base, other, third, fourth]
    assert "third" in runs


def test_a_folder_given_twice_is_refused(tmp_path: Path, run: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(run)
    for again in (link, Path(f"{run}/../run")):
        with pytest.raises(UserError, match="is the same folder as"):
            named_runs([run, again])


def test_a_folder_that_holds_a_run_and_runs_is_refused(run: Path) -> None:
    write_run(run / "below", {FIT: (5.0, 0.87)})
    with pytest.raises(UserError, match="holds a run and folders of runs"):
        read_machine(run)


def test_hidden_folders_are_no_runs_and_a_duel_is_no_folder_of_runs(
    tmp_path: Path, run: Path
) -> None:
    write_run(tmp_path / ".hidden", {FIT: (5.0, 0.87)})
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "profile.csv").write_text("", "utf-8")
    assert run_folders(tmp_path) == [run]
    (tmp_path / "duel.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match="holds a duel: name one of its sides"):
        run_folders(tmp_path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda rows: [*rows[:2], rows[2][:5], *rows[3:]], "line 3 is cut short"),
        (lambda rows: rows[:-1], "come to"),
        (lambda rows: [row for row in rows if row[0] != rows[-1][0]], "the rows of relu_mlp-"),
        (lambda rows: [rows[0], [*rows[1][:2], "", *rows[1][3:]], *rows[2:]], "column share"),
    ],
)
def test_rows_of_a_profile_cut_short_are_named(
    tmp_path: Path, change: Callable[..., Any], line: str
) -> None:
    shutil.copytree(ROOT / "results/examples/profile", tmp_path / "profile")
    file = tmp_path / "profile" / "profile.csv"
    assert read_profiles([file.parent])[0].rows
    edited(file, change)
    with pytest.raises(UserError, match=r"profile\.csv") as error:
        read_profiles([file.parent])
    assert line in str(error.value)
