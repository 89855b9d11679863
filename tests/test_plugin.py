"""The plug-in in a repository of somebody else, which has its own `bench`, `tests` and conftest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

Tested = Callable[..., subprocess.CompletedProcess[str]]
MODULE = "fmnist_bench_pytest"
WRONG = "raise SystemExit('the wrong one')"
ROW = {
    "case": "tests.test_speed:workload-adam-compiled-cpu-b32-float32",
    "status": "ok",
    "reason": "",
    "samples_per_s": 24_000.0,
    "score": "accuracy",
    "val_score": 0.85,
    "test_score": 0.84,
}
# In place of the measuring process: answers, and keeps what it was asked.
ANSWERS = """
import json
from pathlib import Path
import {module}

def answered(self, what, options):
    asked = {{"what": str(what), "options": options, **self._asked()}}
    Path("asked.json").write_text(json.dumps(asked))
    return json.loads({answer!r})

{module}.TrainingBenchmark._answer = answered
"""
SPEED = """
def workload():
    import keras

    layer = keras.layers.Dense(10, "softmax")
    return keras.Sequential([keras.Input((784,)), layer])


def test_speed(training_benchmark, outcome):
    row = training_benchmark(
        workload, loop="fit", epochs=1, launches=1, batch_size=100, device="cpu"
    )
    assert outcome == 3
    assert row["samples_per_s"] > 0
"""
OWN_CONFTEST = """
import pytest


@pytest.fixture
def outcome():
    return 3
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What is there, and must neither be imported by the plug-in nor changed by it."""
    for name in ("bench", "fmnist_models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(WRONG)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "conftest.py").write_text(OWN_CONFTEST)
    (tmp_path / "tests" / "test_speed.py").write_text(SPEED)
    (tmp_path / "tests" / "test_other.py").write_text("def test_other():\n    assert True\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -W error\n")
    return tmp_path


@pytest.fixture
def tested(repository: Path, small_data: Path) -> Tested:
    """Runs pytest there, with the plug-in, whether it is installed or not."""

    def run(*words: object, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", MODULE, *map(str, words)],
            cwd=repository,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "FMNIST_DATA": str(small_data),
                "COLUMNS": "200",
                **environ,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def answering(repository: Path) -> Callable[..., Path]:
    """The measuring process gives this answer; returns the file of what it was asked."""

    def answer(**changes: Any) -> Path:
        given = {"row": ROW, "seconds": [0.5, 0.25], "verdict": None, "reason": "", **changes}
        code = ANSWERS.format(module=MODULE, answer=json.dumps(given))
        (repository / "conftest.py").write_text(code)
        return repository / "asked.json"

    return answer


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_a_workload_is_timed_beside_a_foreign_bench(
    tested: Tested, repository: Path, mode: str
) -> None:
    done = tested("--import-mode", mode, "--benchmark-json", "out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "test_speed" in done.stdout.split("benchmark: 1 tests")[1]
    (told,) = json.loads((repository / "out.json").read_text())["benchmarks"]
    case = "tests.test_speed:workload-adam-fit-cpu-b100-float32"
    assert told["extra_info"]["case"] == case
    assert told["extra_info"]["score"] == "accuracy"
    assert told["extra_info"]["test_score"] > 0
    assert told["extra_info"]["samples_per_s"] > 0
    assert len(told["stats"]["data"]) == 1


def test_the_rounds_go_to_pytest_benchmark_to_the_last_digit(
    tested: Tested, answering: Callable[..., Path], repository: Path
) -> None:
    asked = answering(seconds=[0.1, 0.3, 0.7])
    words = ("--benchmark-only", "--benchmark-json=out.json", "--benchmark-save=one")
    done = tested(*words, "--training-save", "kept")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    (told,) = json.loads((repository / "out.json").read_text())["benchmarks"]
    assert told["stats"]["data"] == [0.1, 0.3, 0.7]
    assert told["extra_info"] == {name: cell for name, cell in ROW.items() if name != "reason"}
    request = json.loads(asked.read_text())
    assert request["save"] == "kept"
    assert request["test"] == "tests/test_speed.py::test_speed"
    assert request["trial"] is False
    assert request["tests"] == 1
    again = tested("--benchmark-compare", "--benchmark-compare-fail=min:5%")
    assert "(0001_one)" in again.stdout
    assert again.returncode == 0, again.stdout


def test_a_regression_fails_its_test_in_one_line(
    tested: Tested, answering: Callable[..., Path]
) -> None:
    answering(verdict="regression", reason="52.0% slower")
    done = tested("--training-baseline", "base")
    assert done.returncode == 1
    assert f"regression: {ROW['case']}: 52.0% slower" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert "Traceback" not in done.stdout
    assert "pedantic" not in done.stdout


def test_what_cannot_be_decided_is_a_warning(
    tested: Tested, answering: Callable[..., Path]
) -> None:
    answering(verdict="new", reason="the baseline holds it at 1 time, 3 are needed")
    done = tested("--training-baseline", "base", "-W", "default")
    assert done.returncode == 0, done.stdout
    assert f"TrainingUndecided: new: {ROW['case']}: the baseline holds it" in done.stdout


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("failed", "1 failed"), ("killed", "1 failed"), ("skipped", "1 skipped")],
)
def test_a_case_that_is_not_measured_tells_why(
    tested: Tested, answering: Callable[..., Path], status: str, outcome: str
) -> None:
    answering(row={**ROW, "status": status, "reason": "there is no GPU"}, seconds=[])
    done = tested("-rs")
    assert f"{status}: there is no GPU" in done.stdout or status in ("failed", "skipped")
    assert "failed: there is no GPU" not in done.stdout
    assert "there is no GPU" in done.stdout
    assert outcome in done.stdout
    # Nor a warning of pytest-benchmark, which is an error here.
    assert "was not used" not in done.stdout


def test_what_was_wrong_is_one_line(
    tested: Tested, repository: Path, answering: Callable[..., Path]
) -> None:
    (repository / "tests" / "test_speed.py").write_text(
        SPEED + "\n\ndef test_twice(training_benchmark):\n"
        "    training_benchmark('a:b')\n    training_benchmark('a:b')\n"
        "\n\ndef test_both(benchmark, training_benchmark):\n    pass\n"
    )
    answering()
    done = tested()
    assert "training_benchmark is called once in a test: parametrize the test" in done.stdout
    assert "fills the fixture benchmark: leave benchmark out of the test" in done.stdout
    assert "2 passed" in done.stdout


def test_the_fixture_can_be_asked_for_by_its_name(
    tested: Tested, repository: Path, answering: Callable[..., Path]
) -> None:
    (repository / "tests" / "test_speed.py").write_text(
        "def test_late(request):\n"
        "    request.getfixturevalue('training_benchmark')('a:b')\n"
        "\n\ndef test_both(benchmark, request):\n"
        "    request.getfixturevalue('training_benchmark')\n"
    )
    answering()
    done = tested("--benchmark-json", "out.json")
    assert "1 failed, 2 passed" in done.stdout
    assert "fills the fixture benchmark: leave benchmark out of the test" in done.stdout
    (told,) = json.loads((repository / "out.json").read_text())["benchmarks"]
    assert told["stats"]["data"] == [0.5, 0.25]


def test_a_model_that_is_built_is_refused(tested: Tested, repository: Path) -> None:
    (repository / "tests" / "test_speed.py").write_text(
        "class Workload: ...\n\n\ndef test_it(training_benchmark):\n"
        "    training_benchmark(Workload())\n"
    )
    done = tested()
    line = "training_benchmark: a Workload that is built already: pass the function that builds it"
    assert line in done.stdout
    assert "Traceback" not in done.stdout


def test_a_mistake_in_the_options_is_one_line(tested: Tested, repository: Path) -> None:
    (repository / "tests" / "test_speed.py").write_text(
        "def test_it(training_benchmark):\n    training_benchmark('a:b', speed=3)\n"
    )
    done = tested()
    assert "speed: no option of a test; choose from optimizer, loop, device" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--training-gate", "0.2"), "--training-gate 0.2: there is nothing to gate; add"),
        (("--training-save", ""), "--training-save '': it is empty, maybe from an unset variable"),
        (("--training-baseline", " "), "--training-baseline '': it is empty, maybe from an unset"),
        (("--training-baseline", "b", "--benchmark-disable"), "nothing is timed; leave one of"),
    ],
)
def test_a_gate_that_would_judge_nothing_and_an_empty_value_are_refused(
    tested: Tested, words: tuple[str, ...], line: str
) -> None:
    done = tested(*words)
    assert done.returncode == 4
    assert line in done.stderr


def test_benchmarks_that_are_disabled_are_tried_and_not_timed(
    tested: Tested, answering: Callable[..., Path]
) -> None:
    asked = answering()
    done = tested("--benchmark-disable")
    assert done.returncode == 0, done.stdout
    assert json.loads(asked.read_text())["trial"] is True
    assert "benchmark: 1 tests" not in done.stdout


def test_benchmarks_that_are_skipped_measure_nothing(
    tested: Tested, answering: Callable[..., Path]
) -> None:
    asked = answering()
    done = tested("--benchmark-skip")
    assert "1 passed, 1 skipped" in done.stdout
    assert not asked.exists()


def test_without_pytest_benchmark_a_test_of_it_is_an_error(tested: Tested) -> None:
    done = tested("-p", "no:benchmark")
    assert "training_benchmark needs pytest-benchmark: install it, or leave out" in done.stdout
    assert "1 passed, 1 error" in done.stdout


def test_a_worker_of_xdist_tries_and_does_not_time(
    tested: Tested, answering: Callable[..., Path]
) -> None:
    asked = answering()
    done = tested("-W", "default", PYTEST_XDIST_WORKER="gw0")
    assert done.returncode == 0, done.stdout
    assert json.loads(asked.read_text())["trial"] is True


def test_a_gate_is_refused_where_tests_run_at_once(tested: Tested) -> None:
    done = tested("--numprocesses", "2", "--training-baseline", "b")
    assert done.returncode == 4
    assert "--training-baseline: leave -n out, for launches at once would slow" in done.stderr


def test_it_is_listed_and_otherwise_inert(tested: Tested) -> None:
    assert "--training-baseline=FOLDER" in tested("--help").stdout
    assert "training_benchmark" in tested("--fixtures").stdout
    plain = tested("tests/test_other.py", "-q")
    assert plain.returncode == 0
    assert plain.stdout.splitlines()[0].startswith(".")


def test_it_imports_nothing_that_pytest_has_not(tmp_path: Path) -> None:
    code = (
        f"import sys, pytest; before = set(sys.modules); import {MODULE}\n"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"['{MODULE}']"
