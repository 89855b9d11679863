"""Devices: chosen by UUID, hidden from CPU cases, and never silently another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pynvml
import pytest
from support import ROOT
from support.fakes_gpu import (
    A100,
    FAST,
    PARTITIONED,
    SLOW,
    T4,
    FakeNvml,
    FakeTensorFlow,
    seen_by_cuda,
)

from bench.backends import KNOWN
from bench.backends.facts import Backend
from bench.backends.tensorflow import CUDA_DRIVER_VARIABLE
from bench.cli import here, options
from bench.machine import hardware, placement
from bench.machine.cuda import driver_is_too_old, missing_cuda_libraries
from bench.machine.devices import inventory, known_as, present, resolve
from bench.machine.gpu_memory import free_bytes_of_gpu
from bench.machine.nvml import Inventory, clock_event_names, gpu_state
from bench.machine.placement import child_environment, skip_reason
from bench.schema.case import Case, logistic_case
from bench.schema.errors import Unavailable
from bench.worker.precision import keras_policy
from bench.worker.tensorflow import device as tensorflow_device
from bench.worker.tensorflow.device import TensorFlowDevice
from fmnist_models.replicas import Replicas

GPU_CASE = Case("relu_mlp", "adam", "compiled", device="gpu")
CPU_CASE = Case("relu_mlp", "adam", "compiled")


def on(device: str, *, loop: str = "compiled", **more: Any) -> Case:
    return Case("relu_mlp", "adam", loop, device=device, **more)


# Two cards that NVML and CUDA count in opposite order.


def test_the_gpu_named_is_the_gpu_that_cuda_sees() -> None:
    cards = (SLOW, FAST)
    machine = inventory({}, FakeNvml(*cards))
    assert [gpu.name for gpu in machine.gpus] == [SLOW.name, FAST.name]
    assert seen_by_cuda(cards, {}) == [FAST.name, SLOW.name]
    assert seen_by_cuda(cards, {"CUDA_VISIBLE_DEVICES": "1"}) == [SLOW.name]
    for device, card in (("gpu:0", SLOW), ("gpu:1", FAST)):
        child = child_environment(on(device), machine, {})
        assert seen_by_cuda(cards, child) == [card.name]


def test_inventory_holds_every_fact() -> None:
    nvml = FakeNvml(SLOW, FAST)
    machine = inventory({}, nvml)
    assert (machine.driver_version, machine.cuda_driver_version) == ("550.54.15", "12.4")
    assert (machine.problem, machine.hidden) == ("", ())
    fast = machine.gpus[1]
    assert (fast.index, fast.uuid, fast.compute_capability) == (1, FAST.uuid, (8, 0))
    assert fast.memory_bytes == 40960 * 2**20
    assert fast.pci_bus_id == FAST.bus_id
    assert not fast.is_mig
    assert nvml.open_sessions == 0


def test_present_calls_a_lone_gpu_gpu() -> None:
    assert present(Inventory()) == ["cpu"]
    assert present(inventory({}, FakeNvml(FAST))) == ["cpu", "gpu"]
    assert present(inventory({}, FakeNvml(SLOW, FAST))) == ["cpu", "gpu:0", "gpu:1"]


def test_resolve() -> None:
    machine = inventory({}, FakeNvml(SLOW, FAST))
    assert resolve("cpu", machine) is None
    assert resolve("gpu", machine) == machine.gpus[0]
    assert resolve("gpu:1", machine) == machine.gpus[1]
    with pytest.raises(Unavailable, match=r"no gpu:2 here: there is gpu:0 \(NVIDIA GeForce"):
        resolve("gpu:2", machine)


# No driver, and drivers that do not answer.


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver is installed"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "installed but not loaded"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart the machine"),
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
    ],
)
def test_a_driver_that_does_not_start_is_a_reason(code: int, says: str) -> None:
    machine = inventory({"CUDA_VISIBLE_DEVICES": "0"}, FakeNvml(FAST, init_error=code))
    assert machine.gpus == ()
    assert says in machine.problem
    assert "\n" not in machine.problem
    assert present(machine) == ["cpu"]
    assert skip_reason(GPU_CASE, machine) == f"no gpu here: {machine.problem}"
    assert skip_reason(CPU_CASE, machine) is None


def test_no_binding_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in inventory({}).problem


def test_a_driver_without_gpus() -> None:
    assert "lists no GPU" in inventory({}, FakeNvml()).problem


def test_a_lost_gpu_does_not_rename_the_others() -> None:
    machine = inventory({}, FakeNvml(replace(SLOW, lost=True), FAST))
    assert [(gpu.index, gpu.name) for gpu in machine.gpus] == [(1, FAST.name)]
    assert machine.problem == "GPU 0 does not answer (GPU is lost)"
    assert "does not answer" in str(skip_reason(on("gpu:0"), machine))


def test_an_old_binding_and_driver_leave_facts_out() -> None:
    calls = ("nvmlSystemGetCudaDriverVersion_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetPciInfo")
    machine = inventory({}, FakeNvml(SLOW, missing=calls))
    assert machine.cuda_driver_version is None
    assert (machine.gpus[0].memory_bytes, machine.gpus[0].pci_bus_id) == (None, "")


# MIG.


def test_each_mig_device_is_a_gpu_and_the_card_is_none() -> None:
    machine = inventory({}, FakeNvml(PARTITIONED, FAST))
    first, second = (device for device in PARTITIONED.mig if device)
    assert [gpu.uuid for gpu in machine.gpus] == [first.uuid, second.uuid, FAST.uuid]
    assert [gpu.index for gpu in machine.gpus] == [0, 1, 2]
    assert [gpu.is_mig for gpu in machine.gpus] == [True, True, False]
    assert machine.gpus[0].name.endswith("MIG 3g.20gb")
    assert machine.gpus[0].memory_bytes == 20096 * 2**20
    assert machine.gpus[0].compute_capability == (8, 0)
    child = child_environment(on("gpu:1"), machine, {})
    assert child["CUDA_VISIBLE_DEVICES"] == second.uuid


def test_mig_mode_without_a_device_is_a_reason() -> None:
    machine = inventory({}, FakeNvml(replace(PARTITIONED, mig=(None,) * 7)))
    assert machine.gpus == ()
    assert "in MIG mode without a MIG device" in machine.problem


def test_the_state_of_a_mig_device_is_its_cards() -> None:
    card = replace(PARTITIONED, answers={"nvmlDeviceGetEnforcedPowerLimit": 400_000})
    nvml = FakeNvml(card)
    state = gpu_state(inventory({}, nvml).gpus[0], nvml)
    assert state["power_limit_w"] == 400
    assert state["mig_mode"] is True
    assert state["is_mig"] is True


# CUDA_VISIBLE_DEVICES, as the user set it.


@pytest.mark.parametrize(
    ("setting", "order", "chosen"),
    [
        (FAST.uuid, None, [FAST]),
        ("GPU-5c8", None, [FAST]),
        (f"{FAST.uuid}, {SLOW.uuid}", None, [SLOW, FAST]),
        ("1", "PCI_BUS_ID", [FAST]),
        ("1,-1,0", "PCI_BUS_ID", [FAST]),
        ("1,0", None, [SLOW, FAST]),
    ],
)
def test_what_cuda_visible_devices_leaves(setting: str, order: str | None, chosen: list) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": setting}
    if order:
        environ["CUDA_DEVICE_ORDER"] = order
    machine = inventory(environ, FakeNvml(SLOW, FAST))
    assert [gpu.name for gpu in machine.gpus] == [card.name for card in chosen]
    assert machine.problem == ""
    assert len(machine.hidden) == 2 - len(chosen)
    plain = setting.replace(" ", "")
    assert set(seen_by_cuda((SLOW, FAST), {**environ, "CUDA_VISIBLE_DEVICES": plain})) == {
        card.name for card in chosen
    }


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("", "hides every GPU"),
        ("-1", "hides every GPU"),
        ("1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        ("NoDevFiles", "'NoDevFiles' names no usable GPU"),
        ("GPU-", "'GPU-' names more than one GPU"),
        ("GPU-ffff", "nvidia-smi -L"),
    ],
)
def test_settings_that_leave_no_gpu_say_why(setting: str, says: str) -> None:
    machine = inventory({"CUDA_VISIBLE_DEVICES": setting}, FakeNvml(SLOW, FAST))
    assert machine.gpus == ()
    assert says in machine.problem
    assert says in str(skip_reason(GPU_CASE, machine))
    assert says in str(skip_reason(on("gpu:1"), machine))


def test_an_unknown_entry_ends_the_list_and_is_named() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": f"{FAST.uuid},GPU-ffff,{SLOW.uuid}"}
    machine = inventory(environ, FakeNvml(SLOW, FAST))
    assert [gpu.index for gpu in machine.gpus] == [1]
    assert "'GPU-ffff'" in machine.problem


def test_numbers_are_plain_where_there_is_one_gpu() -> None:
    assert len(inventory({"CUDA_VISIBLE_DEVICES": "0"}, FakeNvml(FAST)).gpus) == 1
    assert inventory({"CUDA_VISIBLE_DEVICES": "1"}, FakeNvml(FAST)).gpus == ()


def test_numbers_follow_the_bus_even_where_nvml_does_not() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert inventory(environ, FakeNvml(FAST, SLOW)).gpus[0].name == SLOW.name


def test_numbers_are_ambiguous_with_mig() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert "name UUIDs" in inventory(environ, FakeNvml(PARTITIONED)).problem


def test_a_mig_device_is_chosen_by_its_uuid_and_keeps_its_number() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "MIG-a28ad590"}
    machine = inventory(environ, FakeNvml(PARTITIONED))
    assert [gpu.index for gpu in machine.gpus] == [1]
    assert present(machine) == ["cpu", "gpu"]


def test_one_gpu_has_one_name() -> None:
    lone, two = inventory({}, FakeNvml(FAST)), inventory({}, FakeNvml(SLOW, FAST))
    second = inventory({"CUDA_VISIBLE_DEVICES": FAST.uuid}, FakeNvml(SLOW, FAST))
    asked = ("cpu", "gpu", "gpu:0", "gpu:1")
    assert [known_as(name, lone) for name in asked] == ["cpu", "gpu", "gpu", "gpu:1"]
    assert [known_as(name, two) for name in asked] == ["cpu", "gpu:0", "gpu:0", "gpu:1"]
    assert [known_as(name, second) for name in asked] == ["cpu", "gpu", "gpu:0", "gpu"]


def test_a_matrix_measures_one_gpu_once_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(here.devices, "inventory", lambda: inventory({}, FakeNvml(FAST)))
    chosen = {"matrix": "quick", "models": "softmax", "loops": "fit", "backends": "tensorflow"}
    values = {**chosen, "devices": "gpu,gpu:0,gpu:1"}
    plan = options.plan_from(values, list, "run")
    assert {case.device for case in plan.cases} == {"gpu", "gpu:1"}
    assert len(set(plan.cases)) == len(plan.cases)
    told = capsys.readouterr().err
    assert told == "--devices gpu:0: called gpu on this machine, measured once\n"
    monkeypatch.setattr(here.devices, "inventory", lambda: pytest.fail("nobody asked"))
    options.plan_from({**values, "devices": "cpu"}, list, "run")


def test_a_hidden_gpu_is_not_said_to_be_absent() -> None:
    machine = inventory({"CUDA_VISIBLE_DEVICES": FAST.uuid}, FakeNvml(SLOW, FAST))
    assert skip_reason(on("gpu:0"), machine) == "no gpu:0 here: CUDA_VISIBLE_DEVICES hides it"


# What is kept of a GPU's state.

# Values as `nvidia-smi -q` prints them for an A100-SXM4-40GB: power limit 400 W, SM clock at
# most 1410 MHz, memory 1215 MHz; NVML counts in mW and MHz.
BUSY = {
    "nvmlDeviceGetEnforcedPowerLimit": 300_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 400_000,
    "nvmlDeviceGetClockInfo": 1215,
    "nvmlDeviceGetMaxClockInfo": 1410,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x44,
    "nvmlDeviceGetTemperatureV": 85,
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetComputeRunningProcesses": [object()],
}


def test_gpu_state() -> None:
    nvml = FakeNvml(replace(FAST, answers=BUSY))
    state = gpu_state(inventory({}, nvml).gpus[0], nvml)
    assert json.loads(json.dumps(state)) == state
    assert state == {
        "index": 0,
        "name": FAST.name,
        "uuid": FAST.uuid,
        "memory_bytes": 40960 * 2**20,
        "compute_capability": "8.0",
        "is_mig": False,
        "power_limit_w": 300.0,
        "power_limit_default_w": 400.0,
        "sm_clock_hz": 1.215e9,
        "sm_clock_max_hz": 1.41e9,
        "memory_clock_hz": 1.215e9,
        "memory_clock_max_hz": 1.41e9,
        "throttle_reasons": ["sw_power_cap", "hw_thermal_slowdown"],
        "temperature_c": 85,
        "mig_mode": False,
        "persistence_mode": True,
        "compute_processes": 1,
        "driver_version": "550.54.15",
    }
    assert nvml.open_sessions == 0


def test_an_older_driver_is_asked_by_the_older_names() -> None:
    answers = {
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x1,
        "nvmlDeviceGetTemperature": 40,
    }
    nvml = FakeNvml(replace(FAST, answers=answers))
    state = gpu_state(inventory({}, nvml).gpus[0], nvml)
    assert (state["throttle_reasons"], state["temperature_c"]) == (["gpu_idle"], 40)


@pytest.mark.parametrize(
    "nvml", [FakeNvml(init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED), FakeNvml(FAST)]
)
def test_a_state_that_cannot_be_asked_for_is_unknown(nvml: FakeNvml) -> None:
    slow = inventory({}, FakeNvml(SLOW)).gpus[0]
    state = gpu_state(slow, nvml)
    assert state["uuid"] == SLOW.uuid
    assert state["power_limit_w"] is state["throttle_reasons"] is state["mig_mode"] is None


def test_clock_events_unknown_to_this_table_stay_visible() -> None:
    assert clock_event_names(0) == []
    assert clock_event_names(0x1008) == ["hw_slowdown", "0x1000"]


# What is skipped.


def test_skip_reasons() -> None:
    machine = inventory({}, FakeNvml(SLOW, FAST))
    assert skip_reason(CPU_CASE, machine) is None
    assert skip_reason(logistic_case(), machine) is None
    assert skip_reason(on("gpu:1", precision="tf32"), machine) is None
    assert skip_reason(on("gpu:0", precision="mixed_float16"), machine) is None
    assert "changes nothing on a CPU" in str(skip_reason(on("cpu", precision="tf32"), machine))
    too_old = skip_reason(on("gpu:0", precision="tf32"), machine)
    assert too_old == (
        "tf32 needs compute capability 8.0 and later; NVIDIA GeForce GTX 1050 has 6.1"
    )


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (on("cpu", backend="torch"), None),
        (on("cpu", backend="torch", loop="multistep"), "Keras refuses steps_per_execution"),
        (on("cpu", backend="torch", precision="mixed_float16"), "float16 in float32"),
        (on("gpu:1", backend="torch", precision="mixed_float16"), None),
        (on("cpu", backend="jax", loop="multistep", precision="mixed_float16"), None),
    ],
)
def test_what_a_framework_cannot_train_is_skipped(
    monkeypatch: pytest.MonkeyPatch, case: Case, why: str | None
) -> None:
    monkeypatch.setattr(placement, "why_missing", lambda *_: None)
    found = skip_reason(case, inventory({}, FakeNvml(SLOW, FAST)))
    assert found is None if why is None else why in str(found)


@pytest.mark.parametrize(
    ("installed", "versions", "why"),
    [
        ("jax jaxlib", {"jax": "0.10.1", "keras": "3.15.0"}, None),
        ("jax jaxlib", {}, None),
        ("", {}, "jax is not installed in this environment: pip install jax"),
        ("jax", {}, "jaxlib is not installed in this environment, and jax, which is, needs it: "
         "pip install jax"),
        ("jax jaxlib", {"jax": "0.10.2", "keras": "3.15.0"},
         'jax 0.10.2 is not supported with JAX: pip install "jax!=0.10.2,>=0.10.1"'),
        ("jax jaxlib", {"jax": "0.11.0", "keras": "3.5.0"},
         'keras 3.5.0 is not supported with JAX: pip install "keras>=3.15"'),
    ],
)  # fmt: skip
def test_why_a_framework_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, installed: str, versions: dict[str, str], why: str | None
) -> None:
    """Another version than the tested one is taken; one that the suite excludes is skipped."""
    monkeypatch.setattr(placement, "is_there", lambda name: name in installed.split())
    monkeypatch.setattr(placement, "_version", versions.get)
    assert placement.why_missing("jax") == why
    assert skip_reason(on("cpu", backend="jax"), inventory({}, FakeNvml())) == why
    assert placement.default_backend() == (None if why else "jax")
    assert placement.wanted_backend() == ("jax" if installed else "tensorflow")


@pytest.mark.parametrize(
    ("loop", "keras", "why"),
    [
        ("multistep", "3.6.0", "keras 3.6.0 is not supported with TensorFlow in multistep: pip "),
        ("multistep", "3.7.0", None),
        ("fit", "3.6.0", None),
        ("multistep", "3.4.0", 'keras 3.4.0 is not supported with TensorFlow: pip install "keras>'),
    ],
)
def test_a_loop_may_need_a_later_version(
    monkeypatch: pytest.MonkeyPatch, loop: str, keras: str, why: str | None
) -> None:
    monkeypatch.setattr(placement, "is_there", lambda _: True)
    monkeypatch.setattr(placement, "_version", {"tensorflow": "2.18.1", "keras": keras}.get)
    case = Case("softmax", "adam", loop, "cpu", 256)
    told = skip_reason(case, inventory({}, FakeNvml()))
    assert told is None if why is None else str(told).startswith(why)


def test_a_folder_that_a_removal_left_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "left_over_framework").mkdir()
    (tmp_path / "whole_framework").mkdir()
    (tmp_path / "whole_framework/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert not placement.is_there("left_over_framework")
    assert placement.is_there("whole_framework")
    assert not placement.is_there("no_framework")


@pytest.mark.parametrize("backend", KNOWN.values(), ids=KNOWN)
def test_the_versions_of_a_framework_are_those_that_pip_is_asked_for(backend: Backend) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(backend.requires) <= set(extras["optional-dependencies"][backend.name])
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert {f"{name}=={version}" for name, version in backend.tested.items()} <= set(pins)


@pytest.mark.parametrize(
    ("usable", "named", "says"),
    [
        (["tensorflow"], None, []),
        ([], None, []),
        (["tensorflow", "jax", "torch"], None, []),
        (["jax", "torch"], ("jax",), ["backend jax: it is missing"]),
    ],
)
def test_the_first_line_says_which_framework_is_the_default_where_it_is_not_tensorflow(
    monkeypatch: pytest.MonkeyPatch,
    usable: list[str],
    named: tuple[str, ...] | None,
    says: list[str],
) -> None:
    def why(name: str) -> str | None:
        """Why a framework is missing, with a remedy."""
        return None if name in usable else "it is missing: pip install it"

    monkeypatch.setattr(placement, "why_missing", why)
    lines: list[str] = []
    assert here.default_backends(lines.append) == named
    assert lines == says


# The child's environment.


def test_a_cpu_case_sees_no_gpu() -> None:
    machine = inventory({}, FakeNvml(FAST))
    child = child_environment(CPU_CASE, machine, {"CUDA_VISIBLE_DEVICES": "0", "PATH": "p"})
    assert seen_by_cuda((FAST,), child) == []
    assert child["HIP_VISIBLE_DEVICES"] == child["ROCR_VISIBLE_DEVICES"] == "-1"
    assert CUDA_DRIVER_VARIABLE not in child
    assert child["PATH"] == "p"


def test_defaults_and_what_the_user_may_change() -> None:
    plain = child_environment(CPU_CASE, Inventory(), {})
    assert plain["TF_CPP_MIN_LOG_LEVEL"] == "2"
    assert plain["OMP_NUM_THREADS"] == plain["OPENBLAS_NUM_THREADS"] == "1"
    assert plain["KERAS_BACKEND"] == "tensorflow"
    assert "TF_NUM_INTRAOP_THREADS" not in plain
    user = {
        "TF_CPP_MIN_LOG_LEVEL": "0",
        "OMP_NUM_THREADS": "8",
        "OPENBLAS_NUM_THREADS": "8",
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_dump_to=x",
        "NVIDIA_TF32_OVERRIDE": "1",
        "TF_NUM_INTRAOP_THREADS": "3",
    }
    child = child_environment(CPU_CASE, Inventory(), user)
    for kept in ("TF_CPP_MIN_LOG_LEVEL", "OMP_NUM_THREADS", "XLA_FLAGS", "TF_NUM_INTRAOP_THREADS"):
        assert child[kept] == user[kept]
    assert child["OPENBLAS_NUM_THREADS"] == "1"
    assert child["KERAS_BACKEND"] == "tensorflow"
    assert "NVIDIA_TF32_OVERRIDE" not in child
    assert len(user) == 7


def test_threads_of_the_case_win() -> None:
    child = child_environment(on("cpu", threads=2), Inventory(), {"TF_NUM_INTRAOP_THREADS": "3"})
    assert child["TF_NUM_INTRAOP_THREADS"] == child["OMP_NUM_THREADS"] == "2"


def test_a_gpu_case_hands_on_what_the_child_must_know() -> None:
    user = {"TF_FORCE_GPU_ALLOW_GROWTH": "false"}
    child = child_environment(GPU_CASE, inventory({}, FakeNvml(FAST)), user)
    assert child[CUDA_DRIVER_VARIABLE] == "12.4"
    assert child["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert "HIP_VISIBLE_DEVICES" not in child
    with pytest.raises(Unavailable, match="none was found"):
        child_environment(GPU_CASE, Inventory(), {})


# The child's side, with TensorFlow faked.


@pytest.mark.parametrize(
    ("precision", "tf32"),
    [("float32", False), ("tf32", True), ("mixed_bfloat16", False), ("mixed_float16", False)],
)
def test_configure_a_gpu(precision: str, tf32: bool) -> None:
    tf = FakeTensorFlow([A100])
    device = TensorFlowDevice(tf, "gpu:1", precision)
    device.configure()
    assert tf.calls == [("soft_placement", False), ("tf32", tf32), ("growth", A100, True)]
    assert (device.name, device.device_name) == ("/GPU:0", "NVIDIA A100-SXM4-40GB")


def test_configure_the_gpus_of_replicas() -> None:
    tf = FakeTensorFlow([A100, T4])
    device = TensorFlowDevice(tf, "gpu", "float32", replicas=Replicas(2))
    device.configure()
    assert tf.calls[-2:] == [("growth", A100, True), ("growth", T4, True)]
    assert device.names == ["/GPU:0", "/GPU:1"]
    assert device.device_name == "NVIDIA A100-SXM4-40GB, Tesla T4"
    device.reset_peak_memory()
    assert tf.calls[-2:] == [("reset", "GPU:0"), ("reset", "GPU:1")]
    assert device.peak_memory_bytes() == 2 * 4096


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (4, "4 replicas need as many GPUs, and TensorFlow sees 3 GPUs: name --replicas 3"),
        (2, "TensorFlow sees 3 GPUs where CUDA_VISIBLE_DEVICES names 2: which of them would"),
    ],
)
def test_replicas_need_as_many_gpus(count: int, reason: str) -> None:
    device = TensorFlowDevice(
        FakeTensorFlow([A100] * 3), "gpu", "float32", replicas=Replicas(count)
    )
    with pytest.raises(Unavailable, match=reason):
        device.configure()


def test_a_gpu_of_replicas_that_does_not_know_tf32_is_named() -> None:
    device = TensorFlowDevice(FakeTensorFlow([A100, T4]), "gpu", "tf32", replicas=Replicas(2))
    with pytest.raises(Unavailable, match=r"Tesla T4 has 7\.5"):
        device.configure()


def test_replicas_on_a_cpu_are_virtual_devices_of_it() -> None:
    tf = FakeTensorFlow([A100])
    device = TensorFlowDevice(tf, "cpu", "float32", replicas=Replicas(3))
    device.configure()
    assert tf.calls[-2:] == [("visible", [], "GPU"), ("logical", "CPU", ["logical"] * 3)]
    assert device.names == ["/CPU:0", "/CPU:1", "/CPU:2"]


def test_configure_a_cpu_hides_the_gpus() -> None:
    tf = FakeTensorFlow([A100])
    device = TensorFlowDevice(tf, "cpu", "float32", cpu_name="AMD EPYC 7B12")
    device.configure()
    assert ("visible", [], "GPU") in tf.calls
    assert ("growth", A100, True) not in tf.calls
    assert all(name != "logical" for name, *_ in tf.calls)
    assert (device.name, device.device_name) == ("/CPU:0", "AMD EPYC 7B12")


@pytest.mark.parametrize(
    ("uuid", "free"),
    [(FAST.uuid, 10240 * 2**20), (SLOW.uuid, 512 * 2**20), ("GPU-of-another-machine", None)],
)
def test_the_free_memory_of_a_gpu_is_that_of_the_card_in_use(
    monkeypatch: pytest.MonkeyPatch, uuid: str, free: int | None
) -> None:
    nvml = FakeNvml(SLOW, FAST)
    asked = partial(free_bytes_of_gpu, nvml=nvml)
    monkeypatch.setattr(tensorflow_device, "free_bytes_of_gpu", asked)
    environ = {"CUDA_VISIBLE_DEVICES": uuid}
    gpu = TensorFlowDevice(FakeTensorFlow([A100]), "gpu", "float32", environ=environ)
    assert gpu.free_memory("compiled") == (free, "memory of NVIDIA A100-SXM4-40GB")
    assert nvml.open_sessions == 0


@pytest.mark.parametrize(("name", "loop"), [("cpu", "compiled"), ("gpu", "fit")])
def test_the_free_memory_of_the_host_is_what_its_control_group_leaves(
    monkeypatch: pytest.MonkeyPatch, name: str, loop: str
) -> None:
    monkeypatch.setattr(hardware, "memory_available_bytes", lambda: 1000)
    target = TensorFlowDevice(FakeTensorFlow([A100]), name, "float32")
    assert target.free_memory(loop) == (1000, "memory")


def unavailable(tf: FakeTensorFlow, driver: str | None = None, precision: str = "float32") -> str:
    environ = {CUDA_DRIVER_VARIABLE: driver} if driver else {}
    with pytest.raises(Unavailable) as caught:
        TensorFlowDevice(tf, "gpu", precision, environ=environ).configure()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_cpu_only_tensorflow_says_so() -> None:
    reason = unavailable(FakeTensorFlow(cuda_build=False), "12.4")
    assert "TensorFlow 2.21.0 is built for CPUs only" in reason
    assert 'pip install "tensorflow[and-cuda]"' in reason


def test_a_driver_too_old_says_so() -> None:
    # Driver 470 knows CUDA 11.4: CUDA toolkit release notes, table of driver versions.
    reason = unavailable(FakeTensorFlow(), "11.4")
    assert "driver knows CUDA 11.4 at most" in reason
    assert "built for CUDA 12.5.1: update the driver" in reason


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bench.worker.tensorflow.device.missing_cuda_libraries", lambda *_: ["libX.so.9"]
    )
    assert "CUDA libraries cannot be loaded: libX.so.9" in unavailable(FakeTensorFlow(), "12.4")


def test_no_reason_found_sends_to_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.worker.tensorflow.device.missing_cuda_libraries", lambda *_: [])
    assert "fmnist-bench doctor --device gpu" in unavailable(FakeTensorFlow())


def test_two_gpus_where_one_was_named_are_refused() -> None:
    assert "sees 2 GPUs" in unavailable(FakeTensorFlow([A100, T4]))


def test_tf32_is_refused_by_the_child_where_the_parent_did_not_know() -> None:
    reason = unavailable(FakeTensorFlow([T4]), precision="tf32")
    assert reason == "tf32 needs compute capability 8.0 and later; Tesla T4 has 7.5"


@pytest.mark.parametrize(
    ("driver", "built", "too_old"),
    [
        ("11.4", "12.5.1", True),
        ("12.2", "12.5.1", False),  # minor version compatibility
        ("13.0", "12.5.1", False),
        (None, "12.5.1", False),
        ("12.2", None, False),
    ],
)
def test_driver_is_too_old(driver: str | None, built: str | None, too_old: bool) -> None:
    assert driver_is_too_old(driver, built) is too_old


@pytest.mark.skipif(sys.platform != "linux", reason="CUDA wheels exist on Linux only")
def test_missing_cuda_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    opened = []

    def load(name: str) -> None:
        opened.append(name)
        if name not in ("libcudart.so.12", str(wheel)):
            raise OSError(name)

    missing = missing_cuda_libraries("12.5.1", "9", load)
    assert missing == [
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libcusolver.so.11",
        "libcusparse.so.12",
    ]
    assert missing_cuda_libraries("99.0", "9", load) == []
    assert missing_cuda_libraries(None, None, load) == []


def test_memory_counter() -> None:
    tf = FakeTensorFlow([A100])
    gpu = TensorFlowDevice(tf, "gpu", "float32")
    gpu.reset_peak_memory()
    assert tf.calls == [("reset", "GPU:0")]
    assert gpu.peak_memory_bytes() == 4096
    cpu = TensorFlowDevice(tf, "cpu", "float32")
    cpu.reset_peak_memory()
    assert tf.calls == [("reset", "GPU:0")]
    assert cpu.peak_memory_bytes() is None


def test_synchronize_uses_tensorflows_own() -> None:
    tf = FakeTensorFlow([A100])
    TensorFlowDevice(tf, "gpu", "float32").synchronize()
    assert tf.calls == [("sync_devices",)]


def test_keras_policy() -> None:
    assert keras_policy("float32") == keras_policy("tf32") == "float32"
    assert keras_policy("mixed_float16") == "mixed_float16"


# Real TensorFlow, two virtual CPU devices, one process for all.

THREADS = 5
REAL = """
import json, sys
import keras
import tensorflow as tf
from types import SimpleNamespace
from bench.worker.tensorflow.device import TensorFlowDevice

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
device = TensorFlowDevice(tf, "cpu", "float32")
found = {"soft_before": tf.config.get_soft_device_placement()}
device.configure()
found["soft"] = tf.config.get_soft_device_placement()
found["tf32"] = tf.config.experimental.tensor_float_32_execution_enabled()

with tf.device("/CPU:1"):
    there = tf.Variable([1.0, 2.0], name="there")
    count_there = tf.Variable(1, dtype=tf.int64)
    keras_there = keras.Variable([1.0], name="slot")
    tensor_there = tf.constant([[1.0, 2.0]])
    half_there = tf.constant([1.0], tf.bfloat16)
with device.scope():
    here = tf.Variable([1.0, 2.0])
    product = tf.function(lambda x: x * 2.0, jit_compile=True)(here)
found["here"] = device.misplaced([here, product, keras.Variable([1.0])])
found["there"] = device.misplaced(
    [here, there, count_there, keras_there, tensor_there, half_there]
)
device.synchronize()
old = SimpleNamespace(test=SimpleNamespace(experimental=None), device=tf.device,
                      constant=tf.constant)
TensorFlowDevice(old, "cpu", "float32").synchronize()
try:
    with tf.device("/GPU:0"):
        tf.constant(1.0) + 1.0
    found["gpu"] = "ran somewhere else"
except tf.errors.InvalidArgumentError:
    found["gpu"] = "refused"
found["software"] = device.software()
if sys.platform == "linux":
    from pathlib import Path
    names = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    found["xla_threads"] = names.count("tf_XLAEigen")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    environ = child_environment(on("cpu", threads=THREADS), Inventory())
    environ["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", REAL]
    ended = subprocess.run(
        command, env=environ, cwd=os.fspath(ROOT), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_real_configure(real: dict[str, Any]) -> None:
    assert real["soft_before"] is True
    assert real["soft"] is False
    assert real["tf32"] is False


def test_real_misplaced_tells_devices_apart(real: dict[str, Any]) -> None:
    assert real["here"] == []
    assert len(real["there"]) == 4
    assert all(line.endswith("device:CPU:1") for line in real["there"])
    assert real["there"][1].startswith("slot on ")
    assert real["there"][2].startswith("tensor of shape (1, 2) on ")


def test_real_gpu_scope_is_refused_where_there_is_none(real: dict[str, Any]) -> None:
    assert real["gpu"] == "refused"


def test_real_software(real: dict[str, Any]) -> None:
    software = real["software"]
    assert software["tensorflow"].startswith("2.")
    assert software["keras"].startswith("3.")
    assert software["tf32"] is False
    assert isinstance(software["onednn"], bool)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the names of threads")
def test_real_threads_limit_the_pool_that_xla_computes_with(real: dict[str, Any]) -> None:
    assert real["xla_threads"] == THREADS
