"""What a test asks for: one case of its own, judged against the stored runs that hold it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support import FAKE_WORKER
from support.stored import stored

from bench.api import in_pytest
from bench.launch.launcher import CAN_FORK, Launcher
from bench.machine import devices, environment
from bench.schema.case import Case
from bench.schema.plan import RunSettings
from bench.schema.requests import LaunchRequest
from bench.session import run as session_run
from fmnist_models import dataset
from fmnist_models.errors import UserError

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="the fake worker forks")
CASE = Case("softmax", "adam", "compiled")
OTHER = Case("softmax", "sgd", "fit")
SETTINGS = RunSettings(epochs=4, launches=3)
NOTHING: Mapping[str, Any] = dict.fromkeys(("baseline", "gate", "margin", "save"))


@pytest.fixture
def ask(
    tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """The answer to a request, with launches whose epochs all take one second."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"rounds": [1.0] * 4}]))
    monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))
    monkeypatch.setattr(session_run, "Launcher", lambda data=None: Launcher(FAKE_WORKER, data))

    def go(options: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        asked = {"device": "cpu", "epochs": 4, "data": str(small_data), **(options or {})}
        request = {"what": "softmax", "test": "t.py::test_it[a/b]", "trial": False, "tests": 1}
        return in_pytest.answered({**request, **NOTHING, "options": asked, **more})

    return go


@pytest.fixture
def store(tmp_path: Path, small_data: Path) -> Callable[..., str]:
    """Stores runs of CASE and runs of another test's case, and names their folder."""

    def make(runs: int = 6, seconds: float = 1.0, **more: Any) -> str:
        digest = dataset.load(small_data).digest
        found = environment.collect(
            label=None, dataset_digest=digest, inventory=devices.inventory()
        )
        here = {name: found[name] for name in ("cpu", "gpus", "dataset_digest")}
        for seed in range(runs):
            stored(
                tmp_path / "base" / f"run{seed}",
                seed,
                cases=(CASE,),
                settings=SETTINGS,
                slower={CASE.id: seconds - 1},
                **{**here, **more},
            )
            stored(tmp_path / "base" / f"other{seed}", seed, cases=(OTHER,), **here)
        return str(tmp_path / "base")

    return make


def test_one_case_of_three_launches_is_measured(ask: Callable[..., dict[str, Any]]) -> None:
    answer = ask()
    assert answer["row"]["case"] == CASE.id
    assert answer["row"]["launches"] == 3
    assert answer["seconds"] == [1.0] * 12
    assert (answer["verdict"], answer["reason"]) == (None, "")


def test_it_trains_where_keras_would(
    ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_pytest, "present", lambda machine: ["cpu", "gpu:0", "gpu:1"])
    plan, _ = in_pytest._plan({"what": "softmax", "test": "t", "trial": False, "options": {}})
    assert [case.device for case in plan.cases] == ["gpu:0"]
    assert plan.command == "pytest t"


def test_a_trial_is_as_short_as_can_be_and_judges_nothing(
    ask: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[LaunchRequest] = []
    turns = Launcher.turns

    def spying(self: Launcher, request: LaunchRequest, *rest: Any, **more: Any) -> Any:
        asked.append(request)
        return turns(self, request, *rest, **more)

    monkeypatch.setattr(Launcher, "turns", spying)
    monkeypatch.delattr(Launcher, "ceilings")
    answer = ask({"launches": 5}, trial=True, baseline="nowhere", save=str(tmp_path / "kept"))
    assert answer["row"]["launches"] == 1
    assert answer["row"]["epochs"] == 1
    assert answer["verdict"] is None
    assert not (tmp_path / "kept").exists()
    assert [(one.epochs, one.min_rounds, one.min_seconds) for one in asked] == [(1, 0, 0.0)]


def test_a_regression_is_confirmed_though_the_folder_holds_other_tests(
    ask: Callable[..., dict[str, Any]], store: Callable[..., str]
) -> None:
    answer = ask(baseline=store(seconds=0.5))
    assert answer["verdict"] == "regression"
    assert answer["reason"].endswith("% slower")


def test_what_is_as_fast_passes_where_the_gate_would_be_found(
    ask: Callable[..., dict[str, Any]], store: Callable[..., str]
) -> None:
    base = store()
    passing = ask(baseline=base)
    assert (passing["verdict"], passing["reason"]) == ("passed", "")
    blind = ask(baseline=base, gate=0.02)
    assert blind["verdict"] == "blind"
    assert blind["reason"] == "the baseline is too noisy or too small to find the gate there"


def test_the_tests_of_a_session_share_the_level_of_false_alarms(
    ask: Callable[..., dict[str, Any]], store: Callable[..., str], tmp_path: Path
) -> None:
    base = store(seconds=0.95)
    assert ask(baseline=base)["verdict"] == "regression"
    many = ask(baseline=base, tests=1000, save=str(tmp_path / "kept"))
    assert many["verdict"] != "regression"
    (file,) = (tmp_path / "kept").glob("*/check.json")
    assert json.loads(file.read_text("utf-8"))["level"] == pytest.approx(0.005 / 1000)


@pytest.mark.parametrize("runs", [0, 2])
def test_too_few_stored_runs_judge_nothing(
    ask: Callable[..., dict[str, Any]], store: Callable[..., str], runs: int, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    answer = ask(baseline=store(runs=runs))
    assert answer["verdict"] == "new"
    assert answer["reason"] == f"the baseline holds it at {runs} times, 3 are needed"


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ("pytest 't.py::test_it[a/b]'", "passed"),
        ("fmnist-bench run --models softmax", "passed"),
        ("pytest bench --benchmark-only", "passed"),
        ("", "passed"),
        ("pytest 't.py::test_it[a/c]'", "new"),
    ],
)
def test_runs_of_other_tests_of_the_case_are_left_out(
    ask: Callable[..., dict[str, Any]], store: Callable[..., str], command: str, verdict: str
) -> None:
    for file in Path(store()).glob("run*/plan.json"):
        plan = json.loads(file.read_text("utf-8"))
        file.write_text(json.dumps({**plan, "command": command}), "utf-8")
    assert ask(baseline=str(file.parent.parent))["verdict"] == verdict


def test_runs_that_are_kept_are_a_baseline(
    ask: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    ask(save=str(tmp_path / "kept"))
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.name.endswith("-test_it-a-b")
    assert ask(baseline=str(tmp_path / "kept"))["reason"].startswith("the baseline holds it at 1 t")


@pytest.mark.parametrize(
    ("options", "more", "line"),
    [
        ({"speed": 1}, {}, "speed: no option of a test; choose from optimizer, loop, device, "),
        ({"output": "x"}, {}, "output: no option of a test"),
        ({"find_batch": True}, {}, "find_batch: no option of a test"),
        ({"model": "relu_mlp"}, {}, "model: no option of a test"),
        ({"models": "relu_mlp"}, {}, "models: no option of a test"),
        ({}, {"what": "softmax,relu_mlp"}, "models='softmax,relu_mlp': a test measures one case"),
        ({"threads": [1, 2]}, {}, "threads='1,2': a test measures one case: parametrize"),
        ({"label": ""}, {}, "label '': it is empty, maybe from an unset variable"),
        (
            {"device": "gpu:9", "require_all": True},
            {},
            "require_all: softmax-adam-compiled-gpu:9-b32-float32 cannot run: ",
        ),
        ({"loops": "fit"}, {}, "loops: a test measures one case: write loop=..."),
        ({"batch_size": [1, 2]}, {}, "batch_size='1,2': a test measures one case: parametrize"),
        ({"batch_size": 0}, {}, "batch_sizes 0: must be at least 1"),
        ({}, {"baseline": "nowhere"}, "nowhere is not a folder: name one that holds runs"),
        ({}, {"baseline": ".", "gate": 0.001}, "--training-gate 0.001: write a share above"),
    ],
)
def test_a_mistake_is_one_line(
    ask: Callable[..., dict[str, Any]], options: Any, more: Any, line: str
) -> None:
    with pytest.raises(UserError) as refused:
        ask(options, **more)
    assert str(refused.value).startswith(line)


def test_another_machine_is_refused_before_anything_is_measured(
    ask: Callable[..., dict[str, Any]], store: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="ran on the CPU"):
        ask(baseline=store(cpu={"model": "Z80"}))
    assert not (tmp_path / "script.count").exists()


def test_the_program_answers_with_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, answer = tmp_path / "request.json", tmp_path / "answer.json"
    asked = {"what": "softmax", "test": "t", "trial": False, "options": {"x": 1}, **NOTHING}
    request.write_text(json.dumps(asked))
    monkeypatch.setattr(sys, "argv", ["in_pytest", str(request), str(answer)])
    in_pytest.main()
    assert json.loads(answer.read_text())["error"].startswith("x: no option of a test")
