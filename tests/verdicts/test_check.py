"""`check` and `baseline` on made-up runs: verdicts, exit codes, files, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support import Program, TypeIn
from support.stored import CASES, FIRST, cut_results, stored

from bench.schema.case import Case
from bench.schema.plan import RunSettings


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Six stored runs in `base`."""
    for seed in range(6):
        stored(tmp_path / "base" / f"run{seed}", seed)
    return tmp_path


def checked(type_in: TypeIn, runs: Path, *words: Path | str) -> tuple[int, str, str]:
    return type_in("check", "--baseline", runs / "base", *words)


def outcome(run: Path) -> tuple[dict[str, Any], dict[str, str]]:
    found = json.loads((run / "check.json").read_text("utf-8"))
    return found, {case["case"]: case["verdict"] for case in found["cases"]}


def test_no_change_passes_and_says_what_could_have_been_seen(type_in: TypeIn, runs: Path) -> None:
    code, out, _ = checked(type_in, runs, stored(runs / "now", 20))
    assert code == 0, out
    assert "6 baseline runs find a slow-down from " in out
    assert "on in any case, nine times in ten" in out
    assert "passed (exit 0): 4 passed" in out
    table = out.split("slower: time")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_a_slow_down_is_found_in_its_case_alone(type_in: TypeIn, runs: Path) -> None:
    now = stored(runs / "now", 20, slower={FIRST: 0.2})
    code, out, _ = checked(type_in, runs, now)
    assert code == 1
    assert f"{FIRST}: regression: " in out
    found, verdicts = outcome(now)
    assert verdicts == {case.id: "passed" for case in CASES} | {FIRST: "regression"}
    assert found["exit_code"] == 1
    suite = ElementTree.fromstring((now / "check.xml").read_text("utf-8"))
    assert (suite.get("tests"), suite.get("failures")) == ("4", "1")
    failure = suite.find(f"testcase[@name='{FIRST}']/failure")
    assert failure is not None
    assert "slower" in failure.get("message", "")
    text = (now / "check.md").read_text("utf-8")
    assert text.startswith("### fmnist-bench check: regression (exit 1): 3 passed, 1 regression")
    assert f"| `{FIRST}` |" in text


def test_a_confirmed_slow_down_below_the_gate_is_a_regression(type_in: TypeIn, runs: Path) -> None:
    now = stored(runs / "now", 20, slower={FIRST: 0.2})
    code, out, _ = checked(type_in, runs, now, "--gate", "0.5")
    assert code == 1
    assert "the gate is 50.0%, the margin 1.0%" in out
    assert checked(type_in, runs, now, "--gate", "0.5", "--margin", "0.3")[0] == 0


def test_a_case_passes_only_where_the_gate_would_be_found(type_in: TypeIn, runs: Path) -> None:
    """The gate between what would be confirmed and what is found nine times in ten is blind."""
    now = stored(runs / "now", 20)
    checked(type_in, runs, now)
    found, _ = outcome(now)
    speeds = [case["speed"] for case in found["cases"]]
    assert (found["schema_version"], found["power"], found["margin"]) == (2, 0.9, 0.01)
    assert found["smallest"] == max(speed["smallest"] for speed in speeds)
    assert all(speed["threshold"] < speed["smallest"] for speed in speeds)
    threshold = max(speed["threshold"] for speed in speeds)
    between = (threshold + found["smallest"]) / 2
    code, out, _ = checked(type_in, runs, now, "--gate", str(between))
    assert code == 3
    assert "blind: the baseline is too noisy or too small to find the gate there" in out
    assert checked(type_in, runs, now, "--gate", str(found["smallest"] + 1e-9))[0] == 0


def test_a_drop_of_accuracy_that_would_not_be_found_is_blind(type_in: TypeIn, runs: Path) -> None:
    now = stored(runs / "now", 20)
    checked(type_in, runs, now)
    found, _ = outcome(now)
    drop = 100 * found["smallest_drop"]
    assert found["accuracy_gate"] == 0.07
    assert 2 < drop < 7
    code, out, _ = checked(type_in, runs, now, "--accuracy-gate", str(drop - 0.1))
    assert code == 3
    assert "too noisy or too small to find the accuracy gate there" in out
    assert checked(type_in, runs, now, "--accuracy-gate", str(drop + 0.1))[0] == 0


def test_an_accuracy_that_some_runs_lack_is_not_passed_over(type_in: TypeIn, runs: Path) -> None:
    now = stored(runs / "now", 20, accuracy={FIRST: None})
    code, out, _ = checked(type_in, runs, now)
    assert code == 3
    assert f"{FIRST}: blind: validation accuracy is missing in some of the runs" in out


def test_faster_and_wrong_is_a_regression(type_in: TypeIn, runs: Path) -> None:
    now = stored(runs / "now", 20, slower={FIRST: -0.5}, accuracy={FIRST: 0.7})
    code, out, _ = checked(type_in, runs, now)
    assert code == 1
    assert f"{FIRST}: regression: accuracy fell by 15.0 points" in out


def test_seeds_alone_may_scatter_the_accuracy(type_in: TypeIn, runs: Path) -> None:
    now = stored(runs / "now", 20, accuracy={FIRST: 0.835})
    assert checked(type_in, runs, now)[0] == 0


def test_a_noisy_baseline_is_blind(type_in: TypeIn, tmp_path: Path) -> None:
    for seed in range(6):
        stored(tmp_path / "base" / f"run{seed}", seed, noise=0.2)
    code, out, _ = checked(type_in, tmp_path, stored(tmp_path / "now", 20, noise=0.2))
    assert code == 3
    assert "4 blind" in out


def test_fewer_than_three_runs_advise(type_in: TypeIn, tmp_path: Path) -> None:
    for seed in range(2):
        stored(tmp_path / "base" / f"run{seed}", seed)
    code, _, err = checked(type_in, tmp_path, stored(tmp_path / "now", 20))
    assert code == 3
    assert "the baseline holds 2 runs: 3 taken at different times" in err
    assert err.count("\n") == 1


def test_a_missing_case_is_not_passed_over(type_in: TypeIn, runs: Path) -> None:
    code, out, _ = checked(type_in, runs, stored(runs / "now", 20, cases=CASES[1:]))
    assert code == 3
    assert f"{FIRST}: missing: in the baseline, but not measured in now" in out


def test_a_new_case_needs_a_baseline_of_its_own(type_in: TypeIn, runs: Path) -> None:
    new = Case("sigmoid_mlp", "adam", "compiled")
    code, out, _ = checked(type_in, runs, stored(runs / "now", 20, cases=(*CASES, new)))
    assert code == 3
    assert f"{new.id}: new: 0 baseline runs hold it, 3 are needed" in out


@pytest.mark.parametrize(("status", "how"), [("failed", ""), ("killed", "killed: ")])
def test_a_failed_case_is_exit_code_2_and_says_once_how_it_ended(
    type_in: TypeIn, runs: Path, status: str, how: str
) -> None:
    now = stored(runs / "now", 20, failed=[FIRST])
    file = now / "launches.jsonl"
    file.write_text(file.read_text("utf-8").replace('"failed"', f'"{status}"'), "utf-8")
    (now / "results.csv").unlink()
    code, out, _ = checked(type_in, runs, now)
    assert code == 2
    assert f"{FIRST}: failed: {how}launch 1 of 3: out of memory" in out
    reasons = {case["case"]: case["reason"] for case in outcome(now)[0]["cases"]}
    assert reasons[FIRST] == f"{how}launch 1 of 3: out of memory"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"cpu": {"model": "Xeon", "cores_logical": 2}}, "ran on the CPU Xeon"),
        ({"cpu": {"model": "EPYC", "cores_logical": 4}}, "ran on logical cores 4"),
        ({"gpus": [{"name": "H100"}]}, "ran on the GPUs H100"),
        ({"dataset_digest": "e" * 64}, "trained on data of SHA-256 eeeeeeeeeeee..."),
        ({"settings": RunSettings(epochs=2)}, f"{FIRST} has epochs 2 in "),
        ({"settings": RunSettings(seed=1)}, f"{FIRST} has seed 1 in "),
        ({"settings": RunSettings(launches=2)}, f"{FIRST} has launches 2 in "),
    ],
)
def test_other_work_or_another_machine_is_exit_code_3(
    type_in: TypeIn, runs: Path, change: dict[str, Any], line: str
) -> None:
    code, _, err = checked(type_in, runs, stored(runs / "now", 20, **change))
    assert code == 3
    assert line in err
    assert err.count("\n") == 1


def lose_a_launch(run: Path) -> None:
    file = run / "launches.jsonl"
    file.write_text("".join(file.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")


def lose_rounds(run: Path) -> None:
    file = run / "rounds.csv"
    file.write_text("".join(file.read_text("utf-8").splitlines(keepends=True)[:-15]), "utf-8")


@pytest.mark.parametrize("spoil", [cut_results, lose_a_launch, lose_rounds])
@pytest.mark.parametrize("where", ["now", "base/run3"])
def test_a_truncated_file_is_exit_code_2(
    type_in: TypeIn, runs: Path, spoil: Callable[..., Any], where: str
) -> None:
    stored(runs / "now", 20)
    spoil(runs / where)
    code, _, err = checked(type_in, runs, runs / "now")
    assert code == 2
    assert err.count("\n") == 1
    assert "cut short" in err


def test_a_run_is_not_its_own_baseline(type_in: TypeIn, runs: Path) -> None:
    code, _, err = checked(type_in, runs, runs / "base" / "run2")
    assert code == 2
    assert "holds the same launches as" in err


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        *[
            ("--gate", value, "write a share above the margin of 0.01 ")
            for value in ("0.01", "-1", "nan", "10.5")
        ],
        *[("--margin", value, "write a share of at least 0,") for value in ("-0.1", "nan", "10")],
        *[
            ("--accuracy-gate", value, "write points above the 2 that are tolerated")
            for value in ("2", "nan", "101")
        ],
    ],
)
def test_a_bad_size(type_in: TypeIn, runs: Path, option: str, value: str, line: str) -> None:
    code, _, err = checked(type_in, runs, stored(runs / "now", 20), option, value)
    assert code == 2
    assert f"{option} {value}: {line}" in err
    assert err.count("\n") == 1


def test_several_runs_of_a_candidate_see_more(type_in: TypeIn, runs: Path) -> None:
    one, two = (stored(runs / name, seed) for name, seed in (("one", 20), ("two", 21)))
    checked(type_in, runs, one)
    single = outcome(one)[0]["smallest"]
    checked(type_in, runs, one, two, "--output", runs / "both")
    assert outcome(runs / "both")[0]["smallest"] < single
    assert outcome(runs / "both")[0]["candidate"] == ["one", "two"]


def test_runs_of_one_hour_count_as_one(type_in: TypeIn, runs: Path) -> None:
    """They share the drift of the hour, which the baseline's scatter is that of."""
    one = stored(runs / "one", 20, time_utc="2026-03-21T12:00:00+00:00")
    two = stored(runs / "two", 21, time_utc="2026-03-21T12:59:00+00:00")
    far = stored(runs / "far", 22, time_utc="2026-03-21T13:01:00+00:00")
    checked(type_in, runs, one)
    _, out, _ = checked(type_in, runs, two, one, "--output", runs / "both")
    single, both = (outcome(run)[0] for run in (one, runs / "both"))
    assert "the 2 runs of the candidate count as 1, since" in out
    assert both["candidate_times"] == 1
    assert both["smallest"] == pytest.approx(single["smallest"])
    assert both["cases"][0]["speed"]["change"] != single["cases"][0]["speed"]["change"]
    checked(type_in, runs, far, one, two, "--output", runs / "three")
    assert outcome(runs / "three")[0]["candidate_times"] == 2


def test_the_baseline_stays_as_it_was(type_in: TypeIn, runs: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {f: f.read_bytes() for f in sorted((runs / "base").rglob("*")) if f.is_file()}

    before = content()
    checked(type_in, runs, stored(runs / "now", 20, slower={FIRST: -0.5}))
    assert content() == before


def test_add_list_remove(type_in: TypeIn, tmp_path: Path) -> None:
    base = tmp_path / "base"
    first, second = (stored(tmp_path / f"r{seed}", seed, label="mine") for seed in (1, 2))
    assert type_in("baseline", "add", base, second, first)[0] == 0
    code, out, _ = type_in("baseline", "list", base)
    assert code == 0
    assert out == (
        "r1  2026-03-02T12:00:00+00:00  4 cases  mine\n"
        "r2  2026-03-03T12:00:00+00:00  4 cases  mine\n2 runs\n"
    )
    assert not (base / "r1" / "logs").exists()
    assert type_in("baseline", "remove", base, "r1")[:2] == (0, f"removed {base / 'r1'}\n")
    assert [path.name for path in base.iterdir()] == ["r2"]
    assert first.is_dir()


def test_what_add_and_remove_refuse(type_in: TypeIn, runs: Path) -> None:
    base = runs / "base"
    other = stored(runs / "other", 30, cpu={"model": "Xeon", "cores_logical": 2})
    assert type_in("baseline", "add", base, other)[0] == 3
    bad = stored(runs / "bad", 31, failed=[FIRST])
    code, _, err = type_in("baseline", "add", base, bad)
    assert (code, "is failed: launch 1 of 3" in err) == (2, True)
    copy = runs / "copy"
    shutil.copytree(base / "run1", copy)
    code, _, err = type_in("baseline", "add", base, copy)
    assert (code, "holds the same launches as" in err) == (2, True)
    code, _, err = type_in("baseline", "remove", base, "run1", "nope")
    assert (code, "holds no run 'nope': choose from run0, run1" in err) == (2, True)
    assert len(list(base.iterdir())) == 6


def test_no_baseline_folder(type_in: TypeIn, runs: Path) -> None:
    code, _, err = type_in("check", "--baseline", runs / "none", stored(runs / "now", 20))
    assert code == 2
    assert "is not a folder" in err


def test_a_disturbed_run_is_named_and_changes_no_verdict(type_in: TypeIn, runs: Path) -> None:
    """What its readings were is in its row; the verdict rests on the times."""
    stored(runs / "now", 9)
    quiet, _, _ = checked(type_in, runs, runs / "now")
    for run in ("now", "base/run2"):
        file = runs / run / "results.csv"
        head, first, *rest = file.read_text("utf-8").splitlines()
        told = first + "disturbed: work of others took 40% of the cores in launch 1"
        file.write_text("\n".join([head, told, *rest, ""]), "utf-8")
    code, out, _ = checked(type_in, runs, runs / "now")
    assert code == quiet
    assert "disturbed while it was measured: run2 (1 case), now (1 case); `warnings`" in out
    assert json.loads((runs / "now/check.json").read_text())["disturbed"] == {"run2": 1, "now": 1}


def test_check_imports_nothing_slow(program: Program, runs: Path) -> None:
    stored(runs / "now", 20)
    done = program(
        "bench", "check", "--baseline", runs / "base", runs / "now", PYTHONPROFILEIMPORTTIME="1"
    )
    assert done.returncode == 0, done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"tensorflow", "keras", "pandas", "matplotlib", "scipy.stats"}


def test_stored_runs_of_one_hour_are_one(type_in: TypeIn, tmp_path: Path) -> None:
    """Six runs in a row show nothing of how the machine drifts from hour to hour."""
    for seed in range(6):
        stored(tmp_path / "base" / f"run{seed}", seed, time_utc=f"2026-03-01T12:{seed}0:00+00:00")
    now = stored(tmp_path / "now", 20)
    code, _, err = type_in("check", "--baseline", tmp_path / "base", now)
    assert code == 3
    assert (
        "the baseline holds 6 runs, which count as 1, because those within an hour are one: 3"
        in err
    )
