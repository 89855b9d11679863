"""The user's own models are looked at before a plan is made, and a bad one harms no other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import FAKE_WORKER, TypeIn

from bench.cli.options import plan_from
from bench.launch.launcher import CAN_FORK, Launcher
from bench.launch.placement import LaunchPlace
from bench.machine import devices, lock, placement
from bench.machine.nvml import Inventory
from bench.schema.case import Case
from bench.schema.plan import Plan, RunSettings
from bench.schema.workload import InspectRequest, WorkFacts
from bench.session import inspection, preflight, sides
from bench.session.events import Progress
from bench.session.run import execute
from bench.store.run_folder import read_plan
from fmnist_models.errors import UserError

BAD = {
    "mine:leaves": ({"exit": 3}, "ended with code 3"),
    "mine:ends": ({"exit": 0}, "ended with code 0 and no result, as after os._exit(0)"),
    "mine:dies": ({"die": "SIGSEGV"}, "killed by SIGSEGV"),
    "mine:killed": ({"die": "SIGKILL"}, "killed by SIGKILL (out of memory?)"),
    "mine:hangs": ({"hang": True}, "took longer than 1 s (--timeout)"),
    "mine:talks": ({"send": ["{half"]}, "sent what is no message"),
}
GOOD = {"mine:f": {"samples": 1000}, "mine:g": {"compiled": True}}

Know = Callable[..., None]


@pytest.fixture(autouse=True)
def know(monkeypatch: pytest.MonkeyPatch) -> Know:
    """Sets what is known of models; a fake worker tells it."""

    def knowing(**models: dict[str, Any]) -> None:
        facts = {name.replace("_", ":", 1): fields for name, fields in models.items()}
        monkeypatch.setenv("FAKE_FACTS", json.dumps(facts))

    monkeypatch.setattr(inspection, "Launcher", lambda data: Launcher(FAKE_WORKER, data))
    monkeypatch.setattr(sides.Side, "launcher", lambda _, data: Launcher(FAKE_WORKER, data))
    monkeypatch.setattr(devices, "inventory", lambda: Inventory(problem="a test"))
    monkeypatch.setattr(preflight, "require_keras", lambda: None)
    return knowing


def planned(**values: Any) -> Plan:
    return plan_from({"devices": "cpu", "matrix": "quick", **values}, list, "")


def ids(plan: Plan) -> list[str]:
    return [case.id for case in plan.cases]


@pytest.mark.parametrize(
    "fork", [pytest.param(True, marks=pytest.mark.skipif(not CAN_FORK, reason="no fork")), False]
)
def test_a_model_that_ends_its_process_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, fork: bool
) -> None:
    known = {**GOOD, **{name: fields for name, (fields, _) in BAD.items()}}
    monkeypatch.setenv("FAKE_FACTS", json.dumps(known))
    told: list[str] = []
    models = ("mine:f", *BAD, "mine:g")
    works = inspection.look_at(models, Plan((), RunSettings(timeout_s=1.0, fork=fork)), told.append)
    assert told == [f"looking at {', '.join(models)} ..."]
    assert [work.model for work in works] == list(models)
    assert (works[0].reason, works[0].samples) == ("", 1000)
    assert (works[-1].reason, works[-1].compiled) == ("", True)
    for work, (_, why) in zip(works[1:-1], BAD.values(), strict=True):
        assert work.reason.startswith(f"model '{work.model}': no answer from its function: ")
        assert why in work.reason
        assert work.reason.endswith("; call it in Python alone to see why")


def test_facts_that_cannot_be_read_are_a_reason(know: Know) -> None:
    know(mine_f={"samples": -1}, mine_g={"better": "up"}, mine_h={"model": "other"})
    works = inspection.look_at(("mine:f", "mine:g", "mine:h"), Plan((), RunSettings()), print)
    assert "facts cannot be read" in works[0].reason
    assert "facts cannot be read" in works[1].reason
    assert "described other models" in works[2].reason


@pytest.mark.parametrize(
    ("backends", "side", "asked"),
    [
        ("tensorflow,jax", None, "jax"),
        ("torch,tensorflow", None, "torch"),
        ("tensorflow", None, "tensorflow"),
        ("jax,tensorflow", "torch", "torch"),
        ("tensorflow,jax", "", "tensorflow"),
    ],
)
def test_models_are_built_with_a_backend_that_can_be_used(
    know: Know, monkeypatch: pytest.MonkeyPatch, backends: str, side: str | None, asked: str
) -> None:
    """A side of a duel has its own interpreter, so nothing is known of what is missing there."""
    know(mine_f={})
    seen = []

    class Seen(Launcher):
        """Notes the backend of each look."""

        def inspect(
            self, request: InspectRequest, place: LaunchPlace
        ) -> tuple[WorkFacts, ...] | str:
            """The facts of the models."""
            seen.append(place.environment["KERAS_BACKEND"])
            return super().inspect(request, place)

    monkeypatch.setattr(inspection, "Launcher", lambda data: Seen(FAKE_WORKER, data))
    monkeypatch.setattr(sides.Side, "launcher", lambda _, data: Seen(FAKE_WORKER, data))
    absent = {"tensorflow": "tensorflow is not here"}
    monkeypatch.setattr(placement, "why_missing", absent.get)
    monkeypatch.setattr(inspection, "require_keras", lambda: None)
    cases = [Case("mine:f", "adam", "fit", backend=name) for name in backends.split(",")]
    of_duel = None if side is None else sides.Side(sys.executable, None, {}, backend=side or None)
    inspection.look_at(["mine:f"], Plan(tuple(cases), RunSettings()), print, of_duel)
    assert seen == [asked]


def test_nothing_is_looked_at_where_no_model_is_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(inspection, "look_at")
    assert planned(models="softmax").works == ()


def test_a_compiled_model_has_its_own_optimizer_alone(know: Know) -> None:
    know(mine_f={}, mine_g={"compiled": True})
    assert ids(planned(models="mine:g,softmax", loops="fit", batch_sizes="32")) == [
        "mine:g-own-fit-cpu-b32-float32",
        "softmax-adam-fit-cpu-b32-float32",
    ]
    both = planned(
        models="mine:f,mine:g,relu_mlp", loops="fit", optimizers="sgd,own", batch_sizes="32"
    )
    assert ids(both) == [
        "mine:f-sgd-fit-cpu-b32-float32",
        "mine:g-own-fit-cpu-b32-float32",
        "relu_mlp-sgd-fit-cpu-b32-float32",
    ]
    whole = planned(models="mine:f", matrix="documented", loops="fit", batch_sizes="32")
    assert len({case.optimizer for case in whole.cases}) == 6


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"models": "mine:g", "optimizers": "adam"},
            r"--optimizers adam: mine:g is compiled and keeps its own optimizer: name own, or",
        ),
        (
            {"models": "mine:f", "optimizers": "own"},
            r"--optimizers own: mine:f is not compiled, so it has none of its own: name others, or",
        ),
        (
            {"models": "softmax", "optimizers": "own"},
            r"optimizer 'own': it is that of a compiled model of your own, and softmax has none",
        ),
    ],
)
def test_an_optimizer_that_a_model_cannot_have_is_refused(
    know: Know, values: dict[str, str], line: str
) -> None:
    know(mine_f={}, mine_g={"compiled": True})
    with pytest.raises(UserError, match=line):
        planned(**values)


def test_a_workload_chooses_batch_size_and_epochs_where_the_user_does_not(know: Know) -> None:
    know(mine_f={"batch_size": 64, "epochs": 3}, mine_g={})
    plan = planned(models="mine:f,mine:g", matrix="documented", optimizers="adam", loops="fit")
    sizes = {model: {c.batch_size for c in plan.cases if c.model == model} for model in GOOD}
    assert sizes == {"mine:f": {64}, "mine:g": {32, 128, 512, 2048, 8192}}
    epochs = {case.model: plan.settings.epochs_of(case) for case in plan.cases}
    assert epochs == {"mine:f": 3, "mine:g": 5}
    given = planned(models="mine:f", optimizers="adam", batch_sizes="16", epochs=7, loops="fit")
    assert {case.batch_size for case in given.cases} == {16}
    assert given.settings.epochs_of(given.cases[0]) == 7


def test_a_stream_stays_off_compiled_unless_it_is_read_to_the_device(
    know: Know, type_in: TypeIn
) -> None:
    know(mine_f={"stream": True})
    axes = ("--models", "mine:f", "--optimizers", "adam", "--batch-sizes", "32")
    words = ("list", *axes, "--devices", "cpu", "--precisions", "float32")
    code, out, err = type_in(*words)
    assert (code, err) == (0, "looking at mine:f ...\n")
    assert "compiled-cpu-b32-float32  skipped: its training data are a stream, and" in out
    assert "--cache-stream reads it there once" in out
    assert "1 case to measure, 1 skipped; at least " in out
    code, out, _ = type_in(*words, "--cache-stream")
    assert "2 cases to measure, 0 skipped; at least " in out
    with pytest.raises(UserError, match=r"--require-all: mine:f-adam-compiled.* are a stream"):
        preflight.refuse_skips(planned(models="mine:f"), Inventory())


def test_the_logistic_case_has_no_steps(type_in: TypeIn) -> None:
    code, out, _ = type_in("list", "--models", "logistic", "--steps", "10")
    assert (code, "logistic-sklearn-cpu-b1-float64  skipped: --steps: " in out) == (0, True)


def test_list_names_a_bad_function_and_fails_where_none_is_left(
    know: Know, type_in: TypeIn
) -> None:
    know(mine_f={"reason": "model 'mine:f': the function returned None"}, mine_g={"exit": 3})
    axes = ("--loops", "fit", "--devices", "cpu", "--batch-sizes", "32")
    words = ("list", "--matrix", "quick", *axes, "--models")
    code, out, _ = type_in(*words, "mine:f,softmax")
    assert code == 0
    assert "mine:f-adam-fit-cpu-b32-float32  failed: model 'mine:f': the function" in out
    assert "1 case to measure, 0 skipped, 1 failed; about " in out
    code, out, _ = type_in(*words, "mine:f,mine:g")
    assert (code, "0 cases to measure, 0 skipped, 2 failed; " in out) == (2, True)


@pytest.mark.parametrize("verb", ["run", "profile", "duel"])
def test_nothing_is_looked_at_while_another_run_measures(
    know: Know, type_in: TypeIn, tmp_path: Path, verb: str
) -> None:
    know(mine_f={})
    sides = ("--a", "here", "--b", "here") if verb == "duel" else ("--matrix", "quick")
    words = ("--models", "mine:f", "--devices", "cpu", "--output", tmp_path / "out")
    with lock.the_machine(print, wait=False):
        code, _, err = type_in(verb, *sides, *words)
        listed = type_in("list", "--matrix", "quick", *words[:4])
    assert (code, err.count("\n")) == (2, 1)
    assert "another run is measuring on this machine: wait for it with --wait, or stop it" in err
    # It measures nothing, so nobody has to wait for it.
    assert (listed[0], listed[2]) == (0, "looking at mine:f ...\n")


def test_a_look_waits_for_another_run_where_it_may(know: Know) -> None:
    know(mine_f={"reason": "it returned None"})
    told: list[str] = []
    held = ExitStack()
    held.enter_context(lock.the_machine(print, wait=False))

    def say(line: str) -> None:
        """The other run ends once this one says that it waits."""
        told.append(line)
        held.close()

    inspection.look_at(["mine:f"], Plan((), RunSettings()), say, wait=True)
    assert told == ["waiting: another run is measuring on this machine", "looking at mine:f ..."]
    # Nothing is held afterwards.
    plan = planned(models="mine:f,softmax", loops="fit", wait=True)
    assert inspection.looked_at_again(plan, print, True).refused == plan.refused


@pytest.mark.parametrize("verb", ["run", "profile", "duel"])
def test_a_run_of_bad_functions_alone_is_one_line_and_leaves_no_folder(
    know: Know, type_in: TypeIn, tmp_path: Path, verb: str
) -> None:
    know(mine_f={"reason": "model 'mine:f': the function returned None"})
    sides = ("--a", "here", "--b", "here") if verb == "duel" else ("--matrix", "quick")
    words = (*sides, "--models", "mine:f", "--output", tmp_path / "out", "--devices", "cpu")
    code, _, err = type_in(verb, *words)
    assert code == 2
    assert err == (
        "looking at mine:f ...\nfmnist-bench: error: model 'mine:f': the function returned None\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_taken_folder_is_refused_before_the_functions_are_looked_at(
    know: Know, type_in: TypeIn, tmp_path: Path
) -> None:
    know(mine_f={"reason": "the function returned None"})
    (tmp_path / "results.csv").write_text("mine")
    code, _, err = type_in("run", "--models", "mine:f", "--output", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{tmp_path} holds results.csv but no plan.json: name another --output" in err


def test_a_bad_function_is_a_failed_row_and_the_others_are_measured(
    know: Know, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    know(mine_f={"reason": "model 'mine:f': the function returned None"}, mine_g={"samples": 9})
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"rounds": [0.1, 0.1]}]))
    monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))
    plan = planned(models="mine:f,mine:g,softmax", loops="fit", batch_sizes="32", optimizers="adam")
    launcher = Launcher(FAKE_WORKER)
    opening = preflight.begin(plan, tmp_path / "run")
    outcome = execute(plan, opening, Progress(), launcher=launcher)
    assert [(row["model"], row["status"]) for row in outcome.rows] == [
        ("mine:f", "failed"),
        ("mine:g", "ok"),
        ("softmax", "ok"),
    ]
    assert outcome.rows[0]["reason"] == "model 'mine:f': the function returned None"
    assert outcome.exit_code == 2
    assert read_plan(tmp_path / "run") == plan
    # Once it is mended, its cases are measured as they were planned.
    know(mine_f={"reason": "as bad"}, mine_g={})
    again = inspection.looked_at_again(plan, print)
    assert again.refused == {plan.cases[0].id: "as bad"}
    know(mine_f={"compiled": True})
    again = inspection.looked_at_again(plan, print)
    assert "it is compiled now" in again.refused[plan.cases[0].id]
    for asked, line in (
        ({"batch_size": 64}, "it asks for a batch size of 64 now, which this run's cases are not"),
        (
            {"epochs": 1},
            "it asks for 1 epoch now, which this run's cases are not made for: ",
        ),
    ):
        know(mine_f=asked)
        assert line in inspection.looked_at_again(plan, print).refused[plan.cases[0].id]
    know(mine_f={"batch_size": 32, "epochs": 2})
    assert inspection.looked_at_again(plan, print).refused == {}
    know(mine_f={})
    again = inspection.looked_at_again(plan, print)
    assert again.refused == {}
    opening, _ = preflight.resume(tmp_path / "run")
    outcome = execute(again, opening, Progress(), launcher=Launcher(FAKE_WORKER))
    assert {row["status"] for row in outcome.rows} == {"ok"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run", "--steps", "0"), "--steps 0: must be between 1 and 1000000000"),
        (("run", "--resume", "x", "--steps", "3"), "--steps 3: --resume takes it from the folder"),
        (("run", "--resume", "x", "--cache-stream"), "--cache-stream: --resume takes it from the"),
        (("run", "--resume", "x", "--find-batch"), "--find-batch: --resume takes the batch sizes"),
        (("run", "--batch-sizes", "32", "--find-batch"), "--batch-sizes 32: --find-batch finds"),
    ],
)
def test_a_mistake_is_one_line(type_in: TypeIn, words: tuple[str, ...], line: str) -> None:
    code, _, err = type_in(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert line in err


@pytest.mark.parametrize(("images", "refused"), [(False, True), (True, False)])
def test_a_duel_cuts_the_embedded_images_alone(
    know: Know, type_in: TypeIn, tmp_path: Path, images: bool, refused: bool
) -> None:
    know(mine_f={"samples": 1000, "images": images})
    sides = ("--a", "here", "--b", "here", "--devices", "cpu", "--output", tmp_path / "duel")
    _, _, err = type_in("duel", *sides, "--models", "mine:f", "--rows", "500")
    told = "--rows 500: mine:f trains on data of its own, which only its function can shorten"
    assert (told in err) is refused
    assert (tmp_path / "duel").exists() is not refused
