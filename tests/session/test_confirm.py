"""`check --confirm`: a duel of the suspects that measures what the candidate measured."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FAKE_WORKER, TypeIn

from bench.analysis.rows import result_rows
from bench.launch.launcher import Launcher
from bench.machine import devices, hardware, lock
from bench.machine.nvml import Inventory
from bench.reports.terminal.duel import DuelLines
from bench.schema.case import Case, logistic_case
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.schema.sizes import Sizes
from bench.session import blocks as measuring
from bench.session import confirm, preflight, under_way
from bench.session import duel as duelling
from bench.session.sides import Side
from bench.store.run_folder import RunFolder, read_plan
from bench.verdicts.check import CheckedCase, CheckReport, Measure, Verdict, suspects
from bench.verdicts.duel import Standing
from fmnist_models import dataset

CASE = Case("relu_mlp", "adam", "compiled", batch_size=512)
OTHER = Case("softmax", "adam", "compiled", batch_size=512)
SIDE = ("--confirm", "FAKE_SLOWER=0.5")
EQUAL = ("--confirm", "FAKE_SLOWER=1.0")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine whose workers are scripted; returns what environment.json says of it."""
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, (400, 28, 28), dtype=np.uint8)
    labels = np.arange(400, dtype=np.uint8) % 10
    dataset.write(tmp_path / "data", images, labels, images, labels)
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: str(tmp_path))
    for module in (devices, duelling, under_way):
        monkeypatch.setattr(module, "inventory", lambda: Inventory(problem="a test"))
    monkeypatch.setattr(hardware, "cpu_model", lambda: "Test CPU")
    here = {
        "cpu": {"model": "Test CPU", "cores_logical": 2},
        "gpus": [],
        "python": {"version": "3.12.9"},
        "versions": {"tensorflow": "2.21.0", "keras": "3.15.1", "pandas": "3.0"},
        "variables": {"TF_ENABLE_ONEDNN_OPTS": "0"},
        "dataset_digest": dataset.load(tmp_path / "data").digest,
    }
    monkeypatch.setattr(preflight, "environment_of", lambda plan: dict(here))
    # The scripts below are variables, and would be recorded.
    monkeypatch.setattr(under_way, "variables_of", lambda *_: {})
    monkeypatch.setattr(measuring, "control_probe", lambda: lambda passes: 0.01)
    monkeypatch.setattr(Side, "launcher", lambda side, data, _: Launcher(FAKE_WORKER, data))
    monkeypatch.setattr(
        Side, "describe", lambda side, label, digest, packages: {"cpu": here["cpu"]}
    )
    script = tmp_path / "script.json"
    chance = random.Random(5)
    levels = [math.exp(chance.gauss(-1, 0.005)) for _ in range(400)]
    script.write_text(json.dumps([{"rounds": [level] * 3} for level in levels]))
    monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))
    return here


@pytest.fixture
def stored(tmp_path: Path, machine: dict[str, Any]) -> Callable[..., Path]:
    """Writes a run of so many seconds a round, in which the fake worker's rows would fit."""

    def write(
        name: str,
        seed: int,
        slower: float = 1.0,
        cases: tuple[Case, ...] = (CASE, OTHER),
        digest: str = "",
        **changes: Any,
    ) -> Path:
        chance = random.Random(seed)
        settings = RunSettings(epochs=3, seed=50, timeout_s=77.0, data=str(tmp_path / "data"))
        plan = Plan(tuple(cases), settings)
        folder = RunFolder.create(tmp_path / name, plan)
        time = f"2026-03-{seed % 28 + 1:02d}T12:00:00+00:00"
        folder.write_environment({**machine, "time_utc": time, **changes})
        for case in cases:
            for launch in range(settings.launches_of(case)):
                request = LaunchRequest(case, launch, 1, 3, 50 + launch)
                seconds = math.exp(chance.gauss(0, 0.01)) * (slower if case != OTHER else 1.0)
                for number in range(1, 4):
                    folder.append_round(
                        request, Round(number, 48_000, 94, seconds, 0.0, val_score=0.85)
                    )
                record = LaunchRecord(case.id, launch, 1, 50 + launch, Status.OK)
                folder.append_launch(replace(record, data_digest=digest))
        folder.write_results(result_rows(plan, folder.launches(), folder.rounds()))
        return tmp_path / name

    return write


@pytest.fixture
def checked(
    type_in: TypeIn, stored: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Checks a candidate against six stored runs of the same cases."""

    def check(candidate: Path, *words: str) -> tuple[int, str, str]:
        if not (tmp_path / "base").exists():
            plan = read_plan(candidate)
            for seed in range(6):
                stored(f"base/run{seed}", seed, cases=plan.cases)
        return type_in("check", "--baseline", tmp_path / "base", candidate, *words)

    return check


def verdicts(run: Path) -> dict[str, tuple[str, str]]:
    found = json.loads((run / "check.json").read_text("utf-8"))
    return {case["case"]: (case["verdict"], case["reason"]) for case in found["cases"]}


@pytest.mark.parametrize(
    ("verdict", "slower", "drop", "suspect"),
    [
        (Verdict.REGRESSION, 0.02, 0.0, True),
        (Verdict.BLIND, 0.15, 0.0, True),
        (Verdict.BLIND, 0.05, 0.0, True),
        (Verdict.BLIND, 0.04, 0.0, False),
        (Verdict.BLIND, 0.0, 0.02, True),
        (Verdict.BLIND, 0.0, 0.01, False),
        (Verdict.PASSED, 0.15, 0.03, False),
    ],
)
def test_what_a_check_could_not_tell_and_a_duel_could_is_suspect(
    verdict: Verdict, slower: float, drop: float, suspect: bool
) -> None:
    speed, accuracy = (Measure(change, 0.5, 0.4, 0.2, False) for change in (slower, drop))
    case = CheckedCase(CASE.id, verdict, "", speed, accuracy)
    report = CheckReport(("a", "b", "c"), ("now",), Sizes.of_check(), (case,))
    assert report.sizes.gate > report.sizes.confirming_gate == 0.05
    assert suspects(report) == ([CASE.id] if suspect else [])


def test_a_suspect_that_the_duel_clears_passes(
    checked: Callable[..., tuple[int, str, str]], stored: Callable[..., Path]
) -> None:
    now = stored("now", 20, slower=1.4)
    assert checked(now)[0] == 1
    code, out, _ = checked(now, *EQUAL)
    assert code == 0, out
    verdict, reason = verdicts(now)[CASE.id]
    assert verdict == "passed"
    assert reason.startswith("not confirmed by a duel: ")


def test_a_suspect_that_the_duel_confirms_is_a_regression(
    checked: Callable[..., tuple[int, str, str]], stored: Callable[..., Path]
) -> None:
    now = stored("now", 20, slower=1.4)
    code, out, _ = checked(now, *SIDE)
    assert code == 1, out
    assert verdicts(now)[CASE.id][1].startswith("confirmed by a duel: ")


def test_the_duel_has_the_settings_cases_and_images_of_the_candidate(
    checked: Callable[..., tuple[int, str, str]],
    stored: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FMNIST_DATA", str(tmp_path / "nowhere"))
    now = stored("now", 20, slower=1.4)
    checked(now, *EQUAL)
    plan = duelling.resume(now / "duel")
    assert plan.cases == (CASE,)
    assert plan.settings == RunSettings(
        epochs=3, seed=50, timeout_s=77.0, data=str(tmp_path / "data")
    )
    # The wide gate of a check must not clear what it confirmed.
    assert (plan.gate, plan.margin) == (0.05, 0.01)
    side = json.loads((now / "duel" / "b" / "plan.json").read_text())
    assert side["settings"]["data"] == str(tmp_path / "data")


def test_logistic_keeps_its_verdict_and_the_others_duel(
    checked: Callable[..., tuple[int, str, str]], stored: Callable[..., Path]
) -> None:
    now = stored("now", 20, slower=1.4, cases=(CASE, OTHER, logistic_case()))
    code, out, _ = checked(now, *EQUAL)
    assert code == 1, out
    found = verdicts(now)
    assert found[CASE.id][0] == "passed"
    verdict, reason = found[logistic_case().id]
    assert verdict == "regression"
    assert "it cannot duel: a duel trains networks" in reason
    assert f"{logistic_case().id} keeps its verdict" in " ".join(out.split())


def test_where_no_suspect_can_duel_the_check_stands(
    checked: Callable[..., tuple[int, str, str]], stored: Callable[..., Path]
) -> None:
    now = stored("now", 20, slower=1.4, cases=(OTHER, logistic_case()))
    assert checked(now, *EQUAL)[0] == 1
    assert not (now / "duel").exists()


def test_check_json_is_there_whatever_becomes_of_the_duel(
    checked: Callable[..., tuple[int, str, str]],
    stored: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = stored("now", 20, slower=1.4)
    code, out, err = checked(now, "--confirm", "python=/no/such")
    assert (code, err) == (
        2,
        "fmnist-bench: error: python=/no/such: no such interpreter; name a "
        "Python, or the folder of its environment\n",
    )
    assert verdicts(now)[CASE.id][0] == "regression"
    assert "regression (exit 1)" in out


def test_a_second_call_begins_a_numbered_duel_and_says_which(
    checked: Callable[..., tuple[int, str, str]], stored: Callable[..., Path]
) -> None:
    now = stored("now", 20, slower=1.4)
    first = checked(now, *EQUAL)[1]
    assert f"the duel in {now / 'duel'} begins" in first.replace("\n", "")
    second = checked(now, *EQUAL)[1]
    assert f"the duel in {now / 'duel-2'} begins" in second.replace("\n", "")
    assert (now / "duel-2" / "verdict.json").exists()


def test_a_second_call_finishes_the_same_duel_and_no_other(
    checked: Callable[..., tuple[int, str, str]],
    stored: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = stored("now", 20, slower=1.4)
    block_ends = DuelLines.block_ends

    def cut(self: DuelLines, standing: Standing, control: float) -> None:
        block_ends(self, standing, control)
        if len(standing.speed) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(DuelLines, "block_ends", cut)
    code, out, _ = checked(now, *EQUAL)
    assert code == 130, out
    verdict, reason = verdicts(now)[CASE.id]
    assert (verdict, "the duel was interrupted" in reason) == ("regression", True)
    monkeypatch.setattr(DuelLines, "block_ends", block_ends)
    # Another side is another duel.
    assert checked(now, *SIDE)[0] == 1
    assert duelling.resume(now / "duel-2").a.variables == (("FAKE_SLOWER", "0.5"),)
    code, out, _ = checked(now, *EQUAL)
    assert (code, f"the duel in {now / 'duel'} goes on" in out.replace("\n", "")) == (0, True)
    assert not (now / "duel-3").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"versions": {"tensorflow": "2.20.0"}}, "with TensorFlow 2.20.0, here it is 2.21.0"),
        ({"variables": {}}, "the variables .*, here it is .*TF_ENABLE_ONEDNN_OPTS=0"),
        (
            {"variables": {"TF_ENABLE_ONEDNN_OPTS": "0", "XLA_FLAGS": "--x"}},
            "the variables .*XLA_FLAGS=--x, here it is ",
        ),
        ({"python": {"version": "3.11.7"}}, "with Python 3.11.7, here it is 3.12.9"),
        ({"gpus": [{"name": "H100"}]}, "with the GPUs H100, here it is none"),
        ({"cpu": {"model": "Xeon", "cores_logical": 2}}, "with the CPU Xeon, here it is Test CPU"),
    ],
)
def test_an_environment_that_is_not_the_candidates_is_refused(
    stored: Callable[..., Path], machine: dict[str, Any], changes: dict[str, Any], line: str
) -> None:
    run = confirm.MeasuredRun(stored("now", 20), {**machine, **changes}, {}, {})
    with pytest.raises(confirm.UserError, match=line):
        confirm._refuse_other_environment(run, machine)


def test_what_does_not_train_may_differ(
    stored: Callable[..., Path], machine: dict[str, Any]
) -> None:
    told = {**machine, "versions": {**machine["versions"], "pandas": "2.0"}, "git": None}
    assert confirm.first_difference(confirm.Purpose.RESUME, told, machine) is None
    confirm._refuse_other_environment(confirm.MeasuredRun(stored("now", 1), told, {}, {}), machine)


def test_another_environment_is_refused_on_the_command_line(
    checked: Callable[..., tuple[int, str, str]],
    stored: Callable[..., Path],
    machine: dict[str, Any],
) -> None:
    now = stored("now", 20, slower=1.4)
    machine["variables"]["XLA_FLAGS"] = "--xla_cpu_enable_fast_math=true"
    code, _, err = checked(now, *EQUAL)
    assert code == 2
    assert re.search("was measured with the variables .* here it is .*XLA_FLAGS=--xla_cpu", err)
    assert not (now / "duel").exists()


def test_images_that_are_gone_are_refused(
    checked: Callable[..., tuple[int, str, str]],
    stored: Callable[..., Path],
    tmp_path: Path,
    machine: dict[str, Any],
) -> None:
    now = stored("now", 20, slower=1.4)
    (tmp_path / "data").rename(tmp_path / "moved")
    code, _, err = checked(now, *EQUAL)
    assert code == 2
    assert f"trained on images of SHA-256 {machine['dataset_digest'][:12]}..." in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "side", ["here", f"python={sys.executable}", f"checkout={preflight.CHECKOUT}"]
)
def test_a_side_that_is_this_environment_is_refused(
    checked: Callable[..., tuple[int, str, str]], stored: Callable[..., Path], side: str
) -> None:
    now = stored("now", 20, slower=1.4)
    code, _, err = checked(now, "--confirm", side)
    assert code == 2
    assert f"--confirm {side}: that is this environment" in err
    assert err.count("\n") == 1
    assert verdicts(now)[CASE.id][0] == "regression"
    assert not (now / "duel").exists()


@pytest.mark.parametrize(
    ("then", "line"),
    [
        ({"versions": {"tensorflow": "2.20.0"}}, "TensorFlow 2.20.0, the side has 2.21.0"),
        ({"os": {"kernel": "6.1"}}, "kernel 6.1, the side has 6.8"),
        ({"variables": {"XLA_FLAGS": "--x"}}, "XLA_FLAGS=--x, the side has OMP_NUM_THREADS=1"),
        (
            {"code": {"a": {"suite": {"bench/schema/case.py": "other"}}}},
            f"another bench/schema/case.py than that in {preflight.CHECKOUT}",
        ),
    ],
)
def test_a_side_that_is_no_stored_runs_software_clears_nothing(
    checked: Callable[..., tuple[int, str, str]],
    stored: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    machine: dict[str, Any],
    then: dict[str, dict[str, Any]],
    line: str,
) -> None:
    now = stored("now", 20, slower=1.4)
    told = {**machine, "os": {"kernel": "6.8"}, "variables": {}}
    monkeypatch.setattr(Side, "describe", lambda side, label, digest, packages: dict(told))
    for seed in range(6):
        stored(f"base/run{seed}", seed, **{"variables": {}, **then})
    code, _, err = checked(now, *EQUAL)
    assert code == 2, err
    assert "side A is not what the baseline was measured with: " in err
    assert line in " ".join(err.split())
    assert verdicts(now)[CASE.id][0] == "regression"
    # One stored run that had it is enough.
    stored("base/another", 27, variables={})
    assert checked(now, *EQUAL)[0] == 0


def test_a_baseline_is_not_measured_again_with_another_backend(
    checked: Callable[..., tuple[int, str, str]], stored: Callable[..., Path]
) -> None:
    now = stored("now", 20, slower=1.4)
    code, _, err = checked(now, "--confirm", "FAKE_SLOWER=1.0 backend=jax")
    assert code == 2
    assert "the baseline was measured with the backend of each case: leave backend=jax out" in err
    assert not (now / "duel").exists()


def test_the_launches_of_a_duel_must_run_the_files_that_were_recorded(
    checked: Callable[..., tuple[int, str, str]], stored: Callable[..., Path]
) -> None:
    """A model that lies elsewhere, which no folder can be asked for beforehand."""
    told = {"a": {"elsewhere": {"mymodels.py": "1"}}}
    now = stored("now", 20, slower=1.4, code=told)
    assert checked(now, *EQUAL)[0] == 0
    sides = [RunFolder(now / "duel" / side).environment() or {} for side in "ab"]
    assert [side["code"] for side in sides] == [{}, told]


@pytest.mark.parametrize(("digest", "code"), [("measured", 0), ("unknown", 0), ("another", 2)])
def test_a_duel_must_do_the_work_of_the_candidate(
    checked: Callable[..., tuple[int, str, str]],
    stored: Callable[..., Path],
    tmp_path: Path,
    digest: str,
    code: int,
) -> None:
    launches = json.loads((tmp_path / "script.json").read_text("utf-8"))
    told = [{**launch, "result": {"data_digest": digest}} for launch in launches]
    (tmp_path / "script.json").write_text(json.dumps(told), "utf-8")
    now = stored("now", 20, slower=1.4, digest="measured")
    assert checked(now, *EQUAL)[0] == code
    said = f"in the duel, B trained on other data than {now}"
    verdict, reason = verdicts(now)[CASE.id]
    assert (verdict, said in reason) == (("failed", True) if code else ("passed", False))
