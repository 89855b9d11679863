"""`--find-batch` finds the largest batch that fits, and harms neither the machine nor a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import FAKE_WORKER, TypeIn

from bench.launch import guard
from bench.launch.guard import MemoryGuard
from bench.launch.launcher import CAN_FORK, Launcher
from bench.machine import devices, hardware
from bench.machine.nvml import Inventory
from bench.schema.case import Case, logistic_case
from bench.schema.launch import LaunchRecord
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.schema.workload import WorkFacts
from bench.session import find_batch, preflight
from bench.session.events import Progress
from bench.session.preflight import Opening
from bench.session.run import execute
from bench.store.run_folder import read_plan
from fmnist_models.errors import UserError

FIT = Case("relu_mlp", "adam", "fit")
Search = Callable[..., tuple[Plan, Opening, list[str]]]


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Searches with scripted tries; returns the new plan, its folder and the lines."""
    monkeypatch.setattr(devices, "inventory", lambda: Inventory(problem="a test"))
    script = tmp_path / "script.json"
    monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))

    def go(*tries: dict[str, Any], plan: Plan | None = None) -> tuple[Plan, Opening, list[str]]:
        script.write_text(json.dumps([{"rounds": [0.1], **one} for one in tries]))
        lines: list[str] = []
        asked = find_batch.to_begin_with(plan or Plan((FIT,), RunSettings(), "test"))
        opening = preflight.begin(asked, tmp_path / "run")
        launcher = Launcher(FAKE_WORKER, watch=MemoryGuard().watch)
        return *find_batch.searched(asked, opening, lines.append, launcher=launcher), lines

    return go


def tries_of(opening: Opening) -> list[dict[str, str]]:
    folder = opening.open()
    with (folder.path / "find_batch.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("largest", [1, 5, 31, 32, 100, 1000, 4096, 30_000])
def test_the_size_found_fits_and_one_a_sixteenth_larger_does_not(
    search: Search, largest: int
) -> None:
    plan, _, lines = search({"largest": largest})
    (case,) = plan.cases
    assert case.batch_size <= largest < case.batch_size + max(1, case.batch_size / 16) + 1
    assert lines[0].startswith(f"{case.id}: the largest batch; a batch of ")
    assert "does not fit" in lines[0]


def test_a_batch_is_never_larger_than_the_training_samples(search: Search) -> None:
    work = WorkFacts("mine:f", samples=1000, batch_size=48)
    cases = (Case("mine:f", "adam", "fit", batch_size=48), Case("relu_mlp", "adam", "compiled"))
    plan, opening, lines = search({}, plan=Plan(cases, RunSettings(), "test", works=(work,)))
    assert [case.batch_size for case in plan.cases] == [1000, 48_000]
    assert "an epoch has 1,000 samples (6 tries, " in lines[0]
    tries = tries_of(opening)
    assert [int(row["batch_size"]) for row in tries[:6]] == [48, 96, 192, 384, 768, 1000]
    assert {(row["status"], row["reason"], row["peak_bytes"]) for row in tries} == {
        ("ok", "", "1000000")
    }
    assert all(float(row["seconds"]) > 0 for row in tries)


def test_an_epoch_holds_the_steps_of_a_round(search: Search) -> None:
    plan, _, _ = search({}, plan=Plan((FIT,), RunSettings(steps=100), "test"))
    assert [case.batch_size for case in plan.cases] == [480]


@pytest.mark.parametrize("steps", [None, 100])
def test_a_try_is_asked_for_the_rounds_of_the_run_and_ends_after_one_call(
    search: Search, monkeypatch: pytest.MonkeyPatch, steps: int | None
) -> None:
    asked: list[LaunchRequest] = []
    run = Launcher.run

    def noted(launcher: Launcher, request: LaunchRequest, *more: Any) -> LaunchRecord:
        asked.append(request)
        return run(launcher, request, *more)

    monkeypatch.setattr(Launcher, "run", noted)
    settings = RunSettings(steps=steps, cache_stream=True)
    search({"largest": 40}, plan=Plan((FIT,), settings, "test"))
    assert {(one.steps, one.one_call, one.cache_stream) for one in asked} == {(steps, True, True)}


def test_each_setting_is_searched_once_and_the_run_has_its_size(
    search: Search, tmp_path: Path
) -> None:
    cases = tuple(Case("relu_mlp", "adam", "fit", batch_size=size) for size in (32, 512, 8192))
    absent = Case("relu_mlp", "adam", "fit", "gpu")
    whole = Plan((*cases, absent, logistic_case()), RunSettings(epochs=1), "test")
    plan, opening, lines = search({"largest": 64}, plan=whole)
    found = Case("relu_mlp", "adam", "fit", batch_size=64)
    assert plan.cases == (found, absent, logistic_case())
    assert len(lines) == 1
    outcome = execute(plan, opening, Progress(), launcher=Launcher(FAKE_WORKER))
    assert [row["status"] for row in outcome.rows] == ["ok", "skipped", "ok"]
    assert read_plan(tmp_path / "run") == plan
    assert (tmp_path / "run" / "find_batch.csv").exists()


def test_another_failure_ends_the_search_with_its_reason(search: Search, tmp_path: Path) -> None:
    failure = {"failure": {"status": "failed", "reason": "the labels do not fit"}}
    plan, _, lines = search({}, {}, failure)
    assert plan.cases[0].batch_size == 64
    assert "the search ended with 128, failed: the labels do not fit (3 tries" in lines[0]
    with pytest.raises(UserError, match=r"relu_mlp: the search ended with 32, failed: the la"):
        search(failure)
    assert not (tmp_path / "run").exists()


def test_where_nothing_fits_the_case_fails_and_the_others_are_measured(search: Search) -> None:
    plan = Plan((FIT, logistic_case()), RunSettings(), "test")
    found, _, lines = search({"largest": 0}, plan=plan)
    why = (
        "--find-batch: relu_mlp: not even a batch of 1 fits the memory: free some, or take a "
        "smaller model; the last try: OOM when allocating tensor"
    )
    assert found.refused == {FIT.id: why}
    assert lines[0].startswith(f"{FIT.id}: {why} (6 tries, ")


def test_what_the_worker_skips_is_left_to_its_launch(search: Search) -> None:
    plan, _, _ = search({"failure": {"status": "skipped", "reason": "no memory of a GPU here"}})
    assert (plan.cases, plan.refused) == ((FIT,), {})


OWN = Case("out_of_memory:OOM", "adam", "fit")
OF_MEMORY = [
    ("killed", "killed by SIGKILL (out of memory?)"),
    ("killed", "killed by SIGABRT: terminate called after throwing 'std::bad_alloc'"),
    ("failed", "ResourceExhaustedError: Graph execution error: failed to allocate"),
    ("failed", "MemoryError: Unable to allocate 3 GiB"),
    ("failed", "InternalError: CUBLAS_STATUS_ALLOC_FAILED"),
    ("failed", "JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 40000 bytes."),
    ("failed", "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB."),
    (
        "failed",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 40000 bytes.",
    ),
    ("failed", "InternalError: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
]
OF_OTHERS = [
    ("killed", "killed by SIGSEGV: give fewer rows where memory lacks"),
    ("killed", "killed by SIGABRT: free(): invalid pointer"),
    ("failed", "model 'out_of_memory:OOM' raised ValueError: no such file"),
    ("failed", "60.00 GiB of data do not fit into the memory, of which 3 are free: use fewer rows"),
    ("invalid", "the training loss became nan: out of memory"),
]


@pytest.mark.parametrize(("status", "reason"), OF_MEMORY)
def test_kills_and_errors_of_memory_are_sizes_that_do_not_fit(
    search: Search, status: str, reason: str
) -> None:
    failure = {"failure": {"status": status, "reason": reason}}
    plan, opening, _ = search({}, failure, *[{}] * 7, plan=Plan((OWN,), RunSettings(), "test"))
    assert plan.cases[0].batch_size in range(60, 64)
    assert [row["status"] for row in tries_of(opening)][:3] == ["ok", status, "ok"]


@pytest.mark.parametrize(("status", "reason"), OF_OTHERS)
def test_what_has_nothing_to_do_with_memory_ends_the_search_with_its_own_remedy(
    search: Search, status: str, reason: str
) -> None:
    failure = {"failure": {"status": status, "reason": reason}}
    plan, _, (line,) = search({}, failure, plan=Plan((OWN,), RunSettings(), "test"))
    assert plan.cases[0].batch_size == 32
    assert f"the search ended with 64, {status}: {reason}" in line


def test_a_kill_is_a_size_that_does_not_fit(search: Search) -> None:
    plan, _, _ = search({}, {"die": "SIGKILL"}, *[{}] * 7)
    assert plan.cases[0].batch_size in range(60, 64)


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
def test_a_try_that_takes_too_much_memory_is_killed_and_its_template_lives(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = tmp_path / "script.count"
    monkeypatch.setattr(
        hardware,
        "memory_available_bytes",
        lambda: 10**6 if counted.exists() and counted.read_text() == "3" else 10**12,
    )
    plan, opening, _ = search({}, {}, {"hang": True}, *[{}] * 9)
    assert plan.cases[0].batch_size in range(120, 128)
    row = tries_of(opening)[2]
    assert (row["batch_size"], row["status"]) == ("128", "killed")
    assert row["reason"] == "killed by SIGKILL (out of memory?)"


def test_a_try_that_leaves_the_machine_too_little_is_killed(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([10**12] * 3)
    monkeypatch.setattr(guard, "_EVERY_S", 0.001)
    monkeypatch.setattr(hardware, "memory_available_bytes", lambda: next(left, 10**6))
    with pytest.raises(UserError, match="relu_mlp: not even a batch of 1 fits the memory"):
        search({"hang": True})


def test_available_memory_is_what_the_control_groups_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    monkeypatch.setattr(hardware, "_cgroups", lambda _: iter([tmp_path]))
    assert hardware.memory_available_bytes() == 150_000
    assert hardware.cgroup_memory_limit_bytes() == 1_000_000


def test_list_counts_the_searches(type_in: TypeIn) -> None:
    words = ("--models", "softmax,logistic", "--optimizers", "adam,sgd", "--loops", "fit,sklearn")
    code, out, _ = type_in("list", *words, "--devices", "cpu", "--find-batch")
    assert code == 0
    assert out.count("-b32-") == 8
    assert out.splitlines()[-1].startswith("6 searches of the largest batch that fits, before ")
