"""`pytest bench --baseline`: what fails, what warns, and what is refused before a launch."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Program
from support.stored import stored

from bench.launch.launcher import CAN_FORK
from bench.machine import devices, environment
from bench.schema.case import Case
from bench.schema.plan import RunSettings
from fmnist_models import dataset

STEADY, SLOWED = (Case("softmax", optimizer, "compiled") for optimizer in ("adam", "sgd"))
SETTINGS = RunSettings(epochs=4)
pytestmark = pytest.mark.skipif(not CAN_FORK, reason="the fake worker forks")


@pytest.fixture
def here(small_data: Path) -> dict[str, Any]:
    """What a run of this machine writes into environment.json."""
    digest = dataset.load(small_data).digest
    found = environment.collect(label=None, dataset_digest=digest, inventory=devices.inventory())
    return {name: found[name] for name in ("cpu", "gpus", "dataset_digest")}


@pytest.fixture
def store(tmp_path: Path, here: dict[str, Any]) -> Callable[..., Path]:
    """Stores runs in `base`, in which an epoch of SLOWED takes `seconds`."""

    def make(
        runs: int = 6,
        seconds: float = 0.8,
        cases: tuple[Case, ...] = (STEADY, SLOWED),
        **more: Any,
    ) -> Path:
        for seed in range(runs):
            stored(
                tmp_path / "base" / f"run{seed}",
                seed,
                cases=cases,
                settings=SETTINGS,
                slower={SLOWED.id: seconds / 2 - 1},
                **{**here, **more},
            )
        return tmp_path / "base"

    return make


@pytest.fixture
def measure(program: Program, tmp_path: Path, small_data: Path) -> Program:
    """`pytest bench --benchmark-only` with launches whose epochs all take one second."""

    def go(*words: str | Path) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.json"
        script.write_text(json.dumps([{"rounds": [1.0] * 4}] * 6))
        script.with_suffix(".count").unlink(missing_ok=True)
        return program(
            "pytest",
            ROOT / "bench",
            "--benchmark-only",
            "-p",
            "no:cacheprovider",
            "-p",
            "support.fake_launcher",
            "--models",
            "softmax",
            "--optimizers",
            "adam,sgd",
            "--loops",
            "compiled",
            "--devices",
            "cpu",
            "--batch-sizes",
            "32",
            "--precisions",
            "float32",
            "--epochs",
            "4",
            "--data",
            small_data,
            "--fmnist-output",
            tmp_path / "run",
            *words,
            PYTHONPATH=os.pathsep.join(map(str, (ROOT / "tests", ROOT))),
            FAKE_WORKER_SCRIPT=str(script),
        )

    return go


def test_a_regression_fails_its_own_test_and_pytest_benchmark_works_on(
    measure: Program,
    store: Callable[..., Path],
    tmp_path: Path,
) -> None:
    done = measure(
        "--baseline",
        store(),
        "--benchmark-save=mine",
        "--benchmark-json=out.json",
        "--benchmark-storage=saved",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert SLOWED.id in line
    assert "regression: 2" in done.stdout
    assert "% slower" in done.stdout
    assert "Traceback" not in done.stdout
    summary = done.stdout.split("check against the baseline")[1]
    assert "regression (exit 1): 1 passed, 1 regression" in summary
    for name in ("check.json", "check.xml", "check.md"):
        assert (tmp_path / "run" / name).exists()
    assert len(json.loads((tmp_path / "out.json").read_text())["benchmarks"]) == 2
    assert list((tmp_path / "saved").rglob("*_mine.json"))

    (tmp_path / "run").rename(tmp_path / "first")
    done = measure(
        "--baseline",
        tmp_path / "base",
        "--gate",
        "0.9",
        "--margin",
        "0.5",
        "--accuracy-gate",
        "100",
        "--benchmark-compare",
        "--benchmark-compare-fail=min:5%",
        "--benchmark-storage=saved",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(0001_mine)" in done.stdout
    assert "the gate is 90.0%, the margin 50.0%" in done.stdout


def test_what_cannot_be_decided_is_a_warning(measure: Program, store: Callable[..., Path]) -> None:
    done = measure("--baseline", store(noise=0.3, seconds=1.0))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    warned = done.stdout.split("warnings summary")[1].split("check against")[0]
    assert "InconclusiveWarning: blind: the baseline is too noisy or too small" in warned
    assert "inconclusive (exit 3): 2 blind" in done.stdout


def test_cases_in_one_side_alone_are_told(measure: Program, store: Callable[..., Path]) -> None:
    other = Case("relu_mlp", "adam", "compiled")
    done = measure("--baseline", store(cases=(other, SLOWED), seconds=1.0))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "InconclusiveWarning: new: 0 baseline runs hold it, 3 are needed" in done.stdout
    assert f"{other.id}: missing: in the baseline, but not measured in run" in done.stdout


@pytest.mark.parametrize(
    ("change", "words", "line"),
    [
        ({"runs": 2}, (), "the baseline holds 2 runs: 3 taken at different times"),
        ({"cpu": {"model": "Z80"}}, (), "this run ran on the CPU "),
        ({"dataset_digest": "e" * 64}, (), "this run trained on data of SHA-256 "),
        ({}, ("--fmnist-seed", "1"), f"{STEADY.id} has seed 1 in this run and 42 in "),
        ({}, ("--launches", "2"), f"{STEADY.id} has launches 2 in this run and 3 in "),
        ({}, ("--gate", "0.001"), "--gate 0.001: write a share above the margin of 0.01"),
        ({"cases": (Case("relu_mlp", "adam", "fit"),)}, (), "hold none of the cases selected"),
    ],
)
def test_a_mistake_is_a_usage_error_before_anything_is_measured(
    measure: Program,
    store: Callable[..., Path],
    tmp_path: Path,
    change: dict[str, Any],
    words: tuple[str, ...],
    line: str,
) -> None:
    done = measure("--baseline", store(**change), *words)
    assert done.returncode == 4, done.stdout + done.stderr
    assert line in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "script.count").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--baseline", "nowhere"), "nowhere is not a folder"),
        (("--gate", "0.2"), "--gate 0.2: there is nothing to gate; add --baseline FOLDER"),
        (("--margin", "0"), "--margin 0: there is nothing to gate; add --baseline FOLDER"),
    ],
)
def test_no_baseline(measure: Program, words: tuple[str, str], line: str) -> None:
    done = measure(*words)
    assert (done.returncode, line in done.stderr) == (4, True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--benchmark-json", "nowhere/out.json"), "cannot write to nowhere: there is no such"),
        (
            ("--benchmark-autosave", "--benchmark-storage", "script.json"),
            "it is no folder; name another --benchmark-storage",
        ),
        (("--resume", ""), "--resume '': it is empty"),
        (("--fmnist-timeout", "nan"), "--fmnist-timeout nan: must be above 0"),
        (("--fmnist-output", "script.json/run"), "name another --fmnist-output"),
    ],
)
def test_a_mistake_is_told_as_it_was_typed_before_anything_is_measured(
    measure: Program,
    tmp_path: Path,
    words: tuple[str, ...],
    line: str,
) -> None:
    done = measure(*words)
    assert done.returncode == 4, done.stdout + done.stderr
    assert line in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", ["--setup-plan", "--setup-only"])
def test_what_runs_no_test_measures_nothing(measure: Program, tmp_path: Path, words: str) -> None:
    done = measure(words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "run").exists()
