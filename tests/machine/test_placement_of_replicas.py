"""Which GPUs several replicas get, and why they cannot run here, by fakes of what NVML reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.fakes_gpu import FAST, SLOW, FakeNvml

from bench.cli import here
from bench.cli.options import plan_from
from bench.machine import devices, hardware
from bench.machine.devices import gpus_of, inventory
from bench.machine.nvml import Inventory
from bench.machine.placement import child_environment, skip_reason
from bench.schema.case import Case
from bench.schema.errors import Unavailable
from bench.schema.matrix import DUEL, Axes
from bench.schema.plan import RunSettings
from bench.session.places import place_of

TWO = Case("relu_mlp", "adam", "compiled", "gpu", 512, backend="jax", replicas=2)


@pytest.fixture
def machine() -> Inventory:
    return inventory({}, FakeNvml(SLOW, FAST))


def test_one_process_sees_the_gpus_of_all_replicas(machine: Inventory) -> None:
    seen = child_environment(TWO, machine, {})["CUDA_VISIBLE_DEVICES"].split(",")
    assert seen == [gpu.uuid for gpu in machine.gpus]
    alone = child_environment(replace(TWO, replicas=1), machine, {})
    assert alone["CUDA_VISIBLE_DEVICES"] == seen[0]


def test_each_of_several_processes_sees_the_gpu_of_its_replica(machine: Inventory) -> None:
    case = replace(TWO, processes=2)
    seen = [child_environment(case, machine, {}, rank)["CUDA_VISIBLE_DEVICES"] for rank in (0, 1)]
    assert seen == [gpu.uuid for gpu in machine.gpus]


def test_a_place_has_an_environment_and_a_log_for_each_process(
    machine: Inventory, tmp_path: Path
) -> None:
    place = place_of(replace(TWO, processes=2), machine, tmp_path / "a.log", RunSettings(), {})
    assert place.processes == 2
    assert not place.fork
    first, second = place.of_rank(0), place.of_rank(1)
    assert [p.log.name for p in (first, second)] == ["a.log", "a-rank1.log"]
    uuids = [p.environment["CUDA_VISIBLE_DEVICES"] for p in (first, second)]
    assert uuids == [gpu.uuid for gpu in machine.gpus]
    assert first.processes == second.processes == 1
    for log in (first.log, second.log):
        log.write_text("said")
    place.forget_logs()
    assert not list(tmp_path.iterdir())


def test_replicas_on_a_cpu_see_no_gpu(machine: Inventory) -> None:
    case = replace(TWO, device="cpu")
    assert gpus_of(case, machine) == ()
    assert child_environment(case, machine, {})["CUDA_VISIBLE_DEVICES"] == "-1"


def test_more_replicas_than_gpus_are_a_reason(machine: Inventory) -> None:
    four = replace(TWO, replicas=4)
    reason = "4 replicas need as many GPUs, and here are 2: name --replicas 2 or fewer"
    assert skip_reason(four, machine, elsewhere=True) == reason
    with pytest.raises(Unavailable, match="4 replicas need as many GPUs"):
        child_environment(four, machine, {})


def test_parts_of_a_gpu_cannot_train_together(machine: Inventory) -> None:
    split = replace(machine, gpus=tuple(replace(gpu, is_mig=True) for gpu in machine.gpus))
    with pytest.raises(Unavailable, match="that MIG split cannot train together"):
        gpus_of(TWO, split)


@pytest.mark.parametrize(
    ("backend", "loop", "processes", "words"),
    [
        ("tensorflow", "compiled", 1, "is one XLA program"),
        ("tensorflow", "multistep", 1, "is one XLA program"),
        ("tensorflow", "fit", 2, "in several processes"),
        ("torch", "fit", 2, "choose compiled"),
        ("torch", "compiled", 1, "a process for each replica"),
    ],
)
def test_what_a_framework_does_not_train_is_a_reason(
    machine: Inventory, backend: str, loop: str, processes: int, words: str
) -> None:
    case = replace(TWO, backend=backend, loop=loop, processes=processes)
    assert words in str(skip_reason(case, machine, elsewhere=True))


def test_all_is_the_number_of_gpus_or_of_cores(
    machine: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "inventory", lambda: machine)
    monkeypatch.setattr(hardware, "cpu_affinity", lambda: [0, 1, 4])
    on_gpus = here.with_replicas(Axes(replicas=(1, "all", 2)))
    assert (on_gpus.devices, on_gpus.replicas) == (("gpu",), (1, 2))
    on_cpu = here.with_replicas(Axes(devices=("cpu",), replicas=(1, "all")))
    assert (on_cpu.devices, on_cpu.replicas) == (("cpu",), (1, 3))
    assert here.why_on_cpu() == ""
    monkeypatch.setattr(devices, "inventory", lambda: Inventory())
    assert here.with_replicas(Axes(replicas=(2,))).devices == ("cpu",)


def test_a_gpu_of_two_names_is_one_device_of_a_plan_of_replicas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "inventory", lambda: inventory({}, FakeNvml(FAST)))
    words = {"models": "softmax", "optimizers": "sgd", "loops": "compiled", "backends": "jax"}
    plan = plan_from({**words, "devices": "gpu,gpu:0", "replicas": "1"}, list, "")
    assert {case.device for case in plan.cases} == {"gpu"}


def test_one_replica_alone_leaves_the_devices_as_they_are() -> None:
    words = {"models": "softmax", "optimizers": "sgd", "loops": "compiled", "backends": "jax"}
    plan = plan_from({**words, "replicas": "1"}, lambda: ["cpu", "gpu"], "")
    assert {case.device for case in plan.cases} == {"cpu", "gpu"}


def test_a_duel_of_replicas_is_on_the_cpu_unless_a_gpu_is_named(
    machine: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "inventory", lambda: machine)
    words = {"matrix": DUEL, "replicas": "2", "backends": "jax"}
    for named, device in ((None, "cpu"), ("gpu", "gpu")):
        plan = plan_from({**words, "devices": named}, list, "")
        assert [case.device for case in plan.cases] == [device]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"replicas": "1,2"}, ["--replicas: on the CPU, where a speed-up means nothing: hidden"]),
        ({"replicas": "1,2", "devices": "cpu"}, []),
        ({"replicas": "1"}, []),
    ],
)
def test_why_replicas_are_on_the_cpu_is_told_where_no_device_was_named(
    monkeypatch: pytest.MonkeyPatch, words: dict[str, str], said: list[str]
) -> None:
    monkeypatch.setattr(devices, "inventory", lambda: Inventory(problem="hidden"))
    told: list[str] = []
    named = {"models": "softmax", "optimizers": "sgd", "loops": "compiled", "backends": "jax"}
    plan_from({**named, **words}, lambda: ["cpu"], "", told=told.append)
    assert told == said
