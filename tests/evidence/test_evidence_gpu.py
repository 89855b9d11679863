"""What a real GPU answered, replayed; and the evidence that recorded it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from support import RECORDED, ROOT, Program
from support.fakes_gpu import FAST, FakeNvml, Replay

from bench.analysis import trace_events
from bench.evidence import gpu as evidence
from bench.evidence.gpu import Recorder, Sample, energy_row
from bench.machine.nvml import gpu_state, gpu_use, installed


@pytest.fixture
def h100() -> dict[str, Any]:
    return json.loads((RECORDED / "h100_nvml.json").read_text())


@pytest.fixture
def h100_trace() -> list[dict[str, Any]]:
    """One call of 8 steps of `jax_scan`, as the profiler wrote it on an H100."""
    return json.loads((RECORDED / "h100_trace.json").read_text())


def test_the_facts_of_a_real_card_are_read_as_they_were_recorded(h100: dict[str, Any]) -> None:
    nvml = Replay(h100["answers"])
    found = installed(nvml)
    (gpu,) = found.gpus
    assert (gpu.name, gpu.compute_capability) == ("NVIDIA H100 80GB HBM3", (9, 0))
    assert gpu.pci_bus_id == "00000000:00:06.0"
    assert (found.driver_version, found.cuda_driver_version) == ("580.159.04", "13.0")
    assert gpu_state(gpu, nvml) == h100["state"]
    assert gpu_use(gpu, nvml).compute_pids == frozenset()


def test_the_recorder_keeps_answers_and_errors_for_a_replay() -> None:
    answers = {"nvmlDeviceGetPersistenceMode": 1, "nvmlDeviceGetComputeRunningProcesses": []}
    card = replace(FAST, answers=answers)
    recorder = Recorder(FakeNvml(card))
    (gpu,) = installed(recorder).gpus
    state = gpu_state(gpu, recorder)
    kept = json.loads(json.dumps(recorder.answers))
    assert kept["nvmlDeviceGetTemperatureV 0"] == {"error": pynvml.NVML_ERROR_NOT_SUPPORTED}
    assert gpu_state(installed(Replay(kept)).gpus[0], Replay(kept)) == state


def test_the_lines_that_repeat_the_streams_of_a_real_trace_are_no_kernels(
    h100_trace: list[dict[str, Any]],
) -> None:
    """Graphs and XLA's own lines carry a `correlation_id`, as kernels do."""
    kernels = [e for e in h100_trace if "kernel_details" in e.get("args", {})]
    repeated = {"command_buffer_6", "Command Buffer 2", "jit_whole_epoch(33781)"}
    assert len(kernels) == 24 * 8
    assert repeated <= {event["name"] for event in h100_trace}
    found = trace_events.operations(h100_trace)
    assert sum(o.count for o in found if o.kind == "kernel") == len(kernels)
    assert not repeated & {operation.name for operation in found}
    (device,) = trace_events.device_times(h100_trace)
    assert device.kernels_s <= sum(event["dur"] for event in kernels) * 1e-6
    assert device.gaps > 0


def samples(update_s: float, watts: float, counted: float) -> list[Sample]:
    """Two seconds of a card that takes `watts` and counts `counted` of it, moved each update."""
    times = [number * 0.002 for number in range(1001)]
    return [Sample(at, counted * (at // update_s) * update_s, watts) for at in times]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_counter_that_leaves_a_half_out_is_seen(share: float) -> None:
    row = energy_row(samples(0.1, 300.0, 300.0 * share))
    assert row["counter_over_samples"] == pytest.approx(share, rel=0.01)
    assert row["update_median_s"] == pytest.approx(0.1, abs=0.003)


def test_a_counter_that_hardly_moves_is_refused() -> None:
    with pytest.raises(evidence.UserError, match="updated fewer than three times"):
        energy_row(samples(1.5, 300.0, 300.0))


def test_the_power_is_that_of_a_moment_where_the_card_tells_it() -> None:
    field = SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=250_000))
    answers = {"nvmlDeviceGetFieldValues": [field], "nvmlDeviceGetPowerUsage": 400_000}
    card = replace(FAST, answers=answers)
    assert evidence._watts(FakeNvml(card), card) == 250.0
    field.nvmlReturn = 3
    assert evidence._watts(FakeNvml(card), card) == 400.0


def test_without_a_gpu_it_is_one_line_and_exit_code_2(program: Program, tmp_path: Path) -> None:
    done = program("bench.evidence", "gpu", "--output", tmp_path / "out", CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 2
    assert done.stderr.startswith("bench.evidence: error: no GPU to look at: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_child_answers_on_a_cpu(tmp_path: Path) -> None:
    """All that it asks of a framework, with JAX."""
    requests = [
        {"op": "probe", "size": 64},
        {"op": "load", "seconds": 0.01, "size": 64},
        {"op": "hold", "byte_count": 4096},
        {"op": "trace", "folder": str(tmp_path), "calls": 1, "scanned": 2},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "bench.evidence.gpu_child", "jax"],
        input="".join(json.dumps(request) + "\n" for request in requests),
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    probe, load, held, trace = map(json.loads, done.stdout.splitlines())
    assert probe["devices"] == ["cpu"]
    assert probe["tf32"]["off"]["relative_error"] == 0
    assert load["products"] > 0
    assert held == {"free_bytes": None}
    assert Path(trace["file"]).is_file()
