"""The doctor: verdicts from numbers, and what it makes of a child that misbehaves."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console
from support import ROOT
from support.fakes_gpu import FAST, SLOW, Card, FakeNvml

from bench.backends.tensorflow import TENSORFLOW
from bench.backends.torch import TORCH
from bench.machine import devices, nvml
from bench.reports.terminal.doctor import render
from bench.session import doctor
from bench.session.doctor import ProbeResult, diagnose, framework_checks, versions
from bench.verdicts import validity
from bench.verdicts.validity import Check, Report, Verdict
from bench.worker import probe
from fmnist_models.errors import UserError

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED

# Verdicts.


def test_exit_code_is_2_only_where_a_check_failed() -> None:
    fine, advice, bad = (Check("c", verdict, "f") for verdict in (OK, WARNING, FAILED))
    assert Report("cpu", (fine, advice, validity.not_applicable("c", "no"))).exit_code == 0
    assert Report("cpu", (fine, bad)).exit_code == 2


@pytest.mark.parametrize(
    ("resolution", "monotonic", "verdict"),
    [(8e-8, True, OK), (1.6e-2, True, WARNING), (1e-9, False, FAILED)],
)
def test_timer(resolution: float, monotonic: bool, verdict: Verdict) -> None:
    assert validity.timer(resolution, monotonic).verdict is verdict


def test_timer_tells_the_resolution() -> None:
    assert validity.timer(8e-8, True).finding == "perf_counter resolves 80 ns"
    assert "15.6 ms" in validity.timer(0.0156, True).finding


@pytest.mark.parametrize(
    ("samples", "steal", "verdict"),
    [
        ([1.0, 1.001, 1.002, 1.003] * 5, 0.0, OK),
        ([1.0, 1.001, 1.002, 1.003] * 5, None, OK),
        ([1.0, 1.001, 1.002, 1.003] * 5, 0.02, WARNING),
        ([1.0, 1.2] * 10, 0.0, WARNING),
        ([1.0] * 99 + [50.0], 0.0, OK),  # one hiccup is not noise
    ],
)
def test_noise(samples: list[float], steal: float | None, verdict: Verdict) -> None:
    check = validity.noise(samples, steal)
    assert check.verdict is verdict
    assert bool(check.remedy) is (verdict is WARNING)


def test_noise_names_the_share_that_was_stolen() -> None:
    assert "took 2.0% of the CPU time" in validity.noise([1.0] * 10, 0.02).finding


@pytest.mark.parametrize(
    ("usable", "quota", "verdict", "remedy"),
    [
        (8, None, OK, ""),
        (8, 8.0, OK, ""),
        (8, 1.5, WARNING, "--threads 1"),
        (8, 0.5, WARNING, "--threads 1"),
        (8, 4.0, WARNING, "--threads 4"),
    ],
)
def test_cpus(usable: int, quota: float | None, verdict: Verdict, remedy: str) -> None:
    check = validity.cpus(usable, quota)
    assert (check.verdict, check.remedy) == (verdict, remedy)


@pytest.mark.parametrize(("gib", "verdict"), [(8, OK), (2, WARNING), (0.5, FAILED)])
def test_memory(gib: float, verdict: Verdict) -> None:
    assert validity.memory(int(gib * 2**30)).verdict is verdict


@pytest.mark.parametrize(("gib", "verdict"), [(8, OK), (0.5, WARNING), (0.05, FAILED)])
def test_temporary_space(gib: float, verdict: Verdict) -> None:
    assert validity.temporary_space(int(gib * 2**30)).verdict is verdict


@pytest.mark.parametrize(
    ("knows", "built", "verdict"),
    [
        ("12.4", "12.4.1", OK),
        ("13.0", "12.5.1", OK),
        ("12.2", "12.5.1", WARNING),
        ("11.4", "12.5.1", FAILED),
        (None, "12.5.1", OK),
        ("12.4", None, OK),
    ],
)
def test_driver(knows: str | None, built: str | None, verdict: Verdict) -> None:
    check = validity.driver("470.57.02", knows, built, "PyTorch")
    assert check.verdict is verdict
    assert bool(check.remedy) is (verdict is not OK)


def test_gpu_at_rest() -> None:
    calm = {"throttle_reasons": ["gpu_idle"], "compute_processes": 0, "temperature_c": 35}
    assert validity.gpu_at_rest(calm) == Check("GPU at rest", OK, "35 °C")
    hot = {**calm, "throttle_reasons": ["hw_thermal_slowdown"], "compute_processes": 2}
    check = validity.gpu_at_rest(hot)
    assert check.verdict is WARNING
    assert check.finding == "slowed down by hw_thermal_slowdown; 2 other processes on it; 35 °C"
    assert validity.gpu_at_rest({}).finding == "state unknown"


def test_gpus_that_differ_are_named_before_replicas_wait_for_the_slowest() -> None:
    alike = validity.several_gpus(["H100", "H100"])
    assert alike == Check("GPUs", OK, "2: 2 x H100; --replicas trains on several of them at once")
    found = validity.several_gpus(["H100", "A100", "H100"])
    assert found.verdict is WARNING
    assert found.finding.startswith("3: 2 x H100, 1 x A100; with --replicas, each step waits")
    assert "CUDA_VISIBLE_DEVICES" in found.remedy


def test_placement() -> None:
    assert validity.placement([], "/GPU:0").verdict is OK
    wrong = validity.placement(["dense/kernel on /CPU:0"], "/GPU:0")
    assert (wrong.verdict, wrong.finding) == (FAILED, "dense/kernel on /CPU:0")


@pytest.mark.parametrize(
    ("dispatch", "synced", "read", "verdict"),
    [
        (0.002, 0.300, 0.301, OK),  # a GPU
        (0.300, 0.300, 0.290, OK),  # a CPU, which computes at once
        (0.002, 0.003, 0.300, FAILED),
        (0.002, 0.003, 0.004, WARNING),
    ],
)
def test_synchronization(dispatch: float, synced: float, read: float, verdict: Verdict) -> None:
    check = validity.synchronization(dispatch, synced, read, "JAX")
    assert check.verdict is verdict
    assert (check.remedy == "update JAX") is (verdict is FAILED)


LOST = 2.0**-12


@pytest.mark.parametrize(
    ("off", "on", "capable", "verdict"),
    [
        (0.0, LOST, True, OK),
        (LOST, LOST, True, FAILED),
        (0.0, 0.0, True, WARNING),
        (0.0, 0.0, False, Verdict.NOT_APPLICABLE),
        (LOST, LOST, False, FAILED),
    ],
)
def test_tf32(off: float, on: float, capable: bool, verdict: Verdict) -> None:
    right = {"off": 0.0, "on": LOST if capable else 0.0}
    check = validity.tf32({"eager": right, "compiled": {"off": off, "on": on}}, capable, "JAX")
    assert check.verdict is verdict
    if verdict in (FAILED, WARNING):
        assert "(compiled)" in check.finding


@pytest.mark.parametrize(
    ("rise_mib", "verdict"), [(64, OK), (66, OK), (0, FAILED), (640, FAILED), (None, WARNING)]
)
def test_memory_counter(rise_mib: int | None, verdict: Verdict) -> None:
    rise = None if rise_mib is None else rise_mib * 2**20
    assert validity.memory_counter(64 * 2**20, rise, "device").verdict is verdict


# TensorFlow's log. The source is named beside each.

# TensorFlow 2.21 on a machine without an NVIDIA driver, with the loader's VLOG 1.
NO_DRIVER = """\
I0000 00:00:1795489749.758238   13959 dso_loader.cc:144] Could not load dynamic library \
'libcuda.so.1'; dlerror: libcuda.so.1: cannot open shared object file: No such file or directory
E0000 00:00:1795489749.758301   13959 cuda_platform.cc:52] failed call to cuInit: INTERNAL: \
CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
"""
# github.com/NVIDIA/tensorflow issue 110.
ONE_LIBRARY = """\
2024-06-19 16:06:44.995157: I tensorflow/stream_executor/platform/default/dso_loader.cc:49] \
Successfully opened dynamic library libcudart.so.11.0
2024-06-19 16:06:44.996032: W tensorflow/stream_executor/platform/default/dso_loader.cc:60] \
Could not load dynamic library 'libcusolver.so.11'; dlerror: libnvJitLink.so.12: cannot open \
shared object file: No such file or directory
2024-06-19 16:06:44.996140: W tensorflow/core/common_runtime/gpu/gpu_device.cc:1689] Cannot \
dlopen some GPU libraries. Please make sure the missing libraries mentioned above are installed
"""
# github.com/tensorflow/tensorflow issue 66750: a wheel without CUDA's runtime.
NO_RUNTIME = """\
2024-06-28 00:03:52.493638: I tensorflow/tsl/cuda/cudart_stub.cc:28] Could not find cuda drivers \
on your machine, GPU will not be used.
"""
# TensorFlow 2.14 (cuda_driver.cc) with CUDA_VISIBLE_DEVICES=-1, or in a container without
# its device nodes.
NO_DEVICE = """\
2023-10-15 01:44:09.073610: E tensorflow/compiler/xla/stream_executor/cuda/cuda_driver.cc:268] \
failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected
"""
# github.com/tensorflow/tensorflow: cuda_diagnostics.cc, ReportDiagnosticInformation.
UPDATED = """\
E tensorflow/compiler/xla/stream_executor/cuda/cuda_diagnostics.cc:313] kernel version 470.57.2 \
does not match DSO version 550.54.15 -- cannot find working devices in this configuration
"""
# CUDA runtime API, cudaErrorInsufficientDriver.
TOO_OLD = "InternalError: CUDA driver version is insufficient for CUDA runtime version\n"
TENSORRT = "Could not load dynamic library 'libnvinfer.so.8'; dlerror: no such file\n"


@pytest.mark.parametrize(
    ("log", "finding", "remedy"),
    [
        (NO_DRIVER, "libcuda.so.1", "install the NVIDIA driver"),
        (ONE_LIBRARY, "not loaded: libcusolver.so.11", 'pip install "tensorflow[and-cuda]"'),
        (NO_RUNTIME, "CUDA's runtime", 'pip install "tensorflow[and-cuda]"'),
        (NO_DEVICE, "CUDA_ERROR_NO_DEVICE: no CUDA-capable device", "nvidia-smi"),
        (UPDATED, "updated while running", "restart the machine"),
        (TOO_OLD, "older than CUDA", "update the NVIDIA driver"),
    ],
)
def test_what_tensorflows_log_tells(log: str, finding: str, remedy: str) -> None:
    check = validity.cuda_libraries(log, gpu_found=False)
    assert check.verdict is FAILED
    assert finding in check.finding
    assert remedy in check.remedy


def test_a_log_that_tells_nothing() -> None:
    assert validity.cuda_libraries(TENSORRT, gpu_found=False).verdict is WARNING
    assert validity.cuda_libraries(TENSORRT + NO_RUNTIME, gpu_found=True).verdict is OK


# What the child told.

TOLD: dict[str, dict[str, Any]] = {
    "versions": {"python": "3.11.7", "tensorflow": "2.21.0", "keras": "3.15.1", "cuda": "12.5.1"},
    "device": {"device_name": FAST.name},
    "placement": {"name": "/GPU:0", "misplaced": []},
    "waiting": {"dispatch_s": 0.01, "synced_s": 0.3, "read_s": 0.3},
    "tf32": {"errors": {"eager": {"off": 0.0, "on": LOST}}, "compute_capability": [8, 0]},
    "memory": {"allocated_bytes": 64, "rise_bytes": 64},
}


def verdicts(found: list[Check]) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in found}


def test_all_steps_of_a_gpu() -> None:
    found = framework_checks(ProbeResult(TOLD), TENSORFLOW, is_gpu=True)
    assert verdicts(found) == dict.fromkeys(
        ["versions", "device", "placement", "waiting", "TF32", "memory counter"], OK
    )


def test_a_version_that_the_suite_was_not_tested_with_is_said() -> None:
    """A build of the tested version, `2.13.0+cpu`, is that version."""
    told = {"python": "3.11.7", "torch": "2.13.0+cpu", "keras": "3.16.0"}
    (check,) = versions(ProbeResult({"versions": told}), TORCH)
    assert (check.verdict, check.remedy) == (WARNING, "pip install keras==3.15.1")
    assert check.finding.endswith("Keras 3.16.0: the suite is tested with keras==3.15.1")


def test_another_framework_is_named_and_so_is_what_else_it_sees() -> None:
    told = {"python": "3.11.7", "torch": "2.13.0", "keras": "3.15.1", "others": ["Metal (mps)"]}
    found = framework_checks(ProbeResult({**TOLD, "versions": told}), TORCH, is_gpu=True)
    assert found[0].finding == "Python 3.11.7, PyTorch 2.13.0, Keras 3.15.1"
    assert found[1] == validity.not_applicable(
        "other accelerators", "Metal (mps): untried, so no case can name it"
    )
    assert found[2].finding == f"PyTorch sees it: {FAST.name}"
    broken = framework_checks(ProbeResult({}), TORCH, is_gpu=True)[0]
    assert broken.remedy == "pip install torch, in this very environment"


def test_tf32_on_a_gpu_that_has_none() -> None:
    facts = {"errors": {"eager": {"off": 0.0, "on": 0.0}}, "compute_capability": [7, 5]}
    found = framework_checks(ProbeResult({**TOLD, "tf32": facts}), TENSORFLOW, is_gpu=True)
    assert verdicts(found)["TF32"] is Verdict.NOT_APPLICABLE


def test_an_unavailable_device_ends_the_steps() -> None:
    steps = {
        "versions": TOLD["versions"],
        "device": {"unavailable": "TensorFlow sees no GPU: run fmnist-bench doctor --device gpu"},
    }
    found = framework_checks(ProbeResult(steps), TENSORFLOW, is_gpu=True)
    assert found[1].finding == "TensorFlow sees no GPU"
    assert verdicts(found)["device"] is FAILED
    assert verdicts(found)["waiting"] is Verdict.NOT_APPLICABLE


def test_a_step_that_raised_is_its_finding() -> None:
    steps = {**TOLD, "waiting": {"error": "ResourceExhaustedError: OOM"}}
    found = framework_checks(ProbeResult(steps), TENSORFLOW, is_gpu=True)
    assert verdicts(found)["waiting"] is FAILED
    assert verdicts(found)["memory counter"] is OK


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ({"versions": {"error": "ModuleNotFoundError: No module named 'tensorflow'"}}, "No module"),
        ({}, "the child told nothing"),
        ({"versions": {**TOLD["versions"], "keras": "2.15.0"}}, "Keras 2.15.0"),
    ],
)
def test_a_broken_installation(steps: dict[str, dict[str, Any]], says: str) -> None:
    (check,) = versions(ProbeResult(steps), TENSORFLOW)
    assert check.verdict is FAILED
    assert says in check.finding
    assert check.remedy.startswith("pip install")


# The whole, with a child that a script stands in for.

TELLING = f"""
import json
for step, facts in {TOLD!r}.items():
    print(json.dumps({{"step": step, **facts}}), flush=True)
"""


@pytest.fixture
def on_fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(FAST)
    monkeypatch.setattr(doctor, "inventory", lambda: devices.inventory({}, fake))
    monkeypatch.setattr(doctor, "gpu_state", lambda gpu: nvml.gpu_state(gpu, fake))
    monkeypatch.setattr(doctor, "_NOISE_S", 0.0)


def stand_in(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(doctor, "PROBE", (sys.executable, "-c", script))


@pytest.mark.usefixtures("on_fake_gpu")
def test_a_gpu_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, TELLING)
    report = diagnose("gpu")
    found = verdicts(list(report.checks))
    assert report.device == "gpu"
    assert found["CUDA libraries"] is found["TF32"] is found["GPU at rest"] is OK
    assert found["driver"] is WARNING  # 12.4 against 12.5.1
    assert "GPUs" not in found


def test_several_gpus_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(SLOW, FAST)
    monkeypatch.setattr(doctor, "inventory", lambda: devices.inventory({}, fake))
    monkeypatch.setattr(doctor, "gpu_state", lambda gpu: nvml.gpu_state(gpu, fake))
    monkeypatch.setattr(doctor, "_NOISE_S", 0.0)
    stand_in(monkeypatch, TELLING)
    assert verdicts(list(diagnose("gpu:1").checks))["GPUs"] is WARNING


@pytest.mark.usefixtures("on_fake_gpu")
def test_without_tensorflow_nothing_is_said_of_the_libraries_that_it_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = json.dumps({"step": "versions", "error": "ModuleNotFoundError: No module named 'keras'"})
    stand_in(monkeypatch, f"print({told!r})")
    found = verdicts(list(diagnose("gpu").checks))
    assert found["CUDA libraries"] is Verdict.NOT_APPLICABLE
    assert found["versions"] is FAILED


@pytest.mark.usefixtures("on_fake_gpu")
def test_the_child_sees_the_gpu_and_tells_all(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "TF_CPP_VMODULE")
    script = f"""
import json, os, sys
values = [os.environ[name] for name in {names!r}]
print(json.dumps({{"step": "versions", "error": " ".join([*values, sys.argv[1]])}}))
"""
    stand_in(monkeypatch, script)
    told = next(check for check in diagnose("gpu").checks if check.name == "versions").finding
    assert f"{FAST.uuid} 0 dso_loader=1" in told
    assert told.endswith(" gpu")


@pytest.mark.usefixtures("on_fake_gpu")
def test_a_gpu_that_a_cpu_only_tensorflow_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {
        "versions": {**TOLD["versions"], "cuda": None},
        "device": {"unavailable": "TensorFlow 2.21.0 is built for CPUs only: ..."},
    }
    stand_in(monkeypatch, TELLING.replace(repr(TOLD), repr(lines)))
    report = diagnose("gpu")
    assert verdicts(list(report.checks))["device"] is FAILED
    assert report.exit_code == 2


@pytest.mark.usefixtures("on_fake_gpu")
def test_a_child_that_crashes_names_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off = TELLING.replace("    print(", "    if step == 'tf32': break\n    print(")
    stand_in(
        monkeypatch,
        f"{cut_off}\nimport os\nos.write(1, b'{{\"step\": \"tf')\nos.write(2, b'log')\nos._exit(3)",
    )
    report = diagnose("gpu")
    check = next(check for check in report.checks if check.name == "TensorFlow process")
    assert check.verdict is FAILED
    assert check.finding == "it ended with code 3; the last finished step: waiting"
    assert verdicts(list(report.checks))["TF32"] is Verdict.NOT_APPLICABLE


@pytest.mark.usefixtures("on_fake_gpu")
def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(doctor, "PROBE_LIMIT_S", 0.1)
    found = {check.name: check for check in diagnose("gpu").checks}
    assert "hung" in found["TensorFlow process"].finding
    assert found["versions"].verdict is FAILED


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "inventory", lambda: devices.inventory({}, FakeNvml(SLOW)))
    monkeypatch.setattr(doctor, "_NOISE_S", 0.0)
    stand_in(monkeypatch, TELLING)
    report = diagnose("gpu:3")
    found = {check.name: check for check in report.checks}
    assert "no gpu:3 here: there is gpu:0" in found["device"].finding
    assert found["versions"].verdict is OK
    assert found["waiting"].verdict is Verdict.NOT_APPLICABLE
    assert report.exit_code == 2


@pytest.mark.parametrize(
    ("cards", "environ", "remedy"),
    [
        ((), {}, "install the NVIDIA driver"),
        ((FAST,), {}, "name a device that is there"),
        ((FAST,), {"CUDA_VISIBLE_DEVICES": "-1"}, "unset CUDA_VISIBLE_DEVICES"),
    ],
)
def test_the_remedy_fits_why_a_device_is_missing(
    monkeypatch: pytest.MonkeyPatch, cards: tuple[Card, ...], environ: dict[str, str], remedy: str
) -> None:
    monkeypatch.setattr(doctor, "inventory", lambda: devices.inventory(environ, FakeNvml(*cards)))
    monkeypatch.setattr(doctor, "_NOISE_S", 0.0)
    stand_in(monkeypatch, TELLING)
    device = next(check for check in diagnose("gpu:1").checks if check.name == "device")
    assert device.verdict is FAILED
    assert remedy in device.remedy


def test_a_device_or_a_backend_that_no_case_can_name() -> None:
    with pytest.raises(UserError, match="unknown device 'tpu'"):
        diagnose("tpu")
    with pytest.raises(UserError, match="unknown backend 'mxnet'"):
        diagnose("cpu", "mxnet")


# The picture on the screen.


def test_render_fits_80_columns_and_prints_brackets() -> None:
    report = Report(
        "gpu",
        (
            validity.cuda_libraries(ONE_LIBRARY, gpu_found=False),
            validity.placement(["dense/" * 20], "/GPU:0"),
            validity.not_applicable("TF32", "a CPU has none"),
        ),
    )
    out = io.StringIO()
    render(report, Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert '"tensorflow[and-cuda]"' in out.getvalue()
    assert lines[-1] == "gpu: 0 ok, 0 warning, 2 failed, 1 not applicable"


# Real TensorFlow, one child.


def test_the_parent_imports_no_tensorflow() -> None:
    script = (
        "import sys, bench.session.doctor;print({'tensorflow', 'keras', 'pynvml'} & {*sys.modules})"
    )
    environ = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    told = subprocess.check_output([sys.executable, "-c", script], env=environ, text=True)
    assert told.strip() == "set()"


def test_the_real_child_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_NOISE_S", 0.0)
    report = diagnose("cpu")
    found = {check.name: check for check in report.checks}
    assert "TensorFlow process" not in found
    assert found["versions"].finding.startswith("Python 3.")
    assert found["device"].verdict is found["placement"].verdict is OK
    assert found["TF32"].verdict is Verdict.NOT_APPLICABLE
    assert found["waiting"].finding.startswith("a chain of products: ")
    if sys.platform == "linux":
        assert found["memory counter"].verdict is OK


def test_the_child_without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    told: list[dict[str, Any]] = []
    probe.probe("cpu", told.append)
    assert [message["step"] for message in told] == ["versions"]
    assert told[0]["error"].startswith("ModuleNotFoundError: ")
