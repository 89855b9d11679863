"""What a real GPU answered, replayed; and the evidence that recorded it."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from support import RECORDED, Program
from support.fakes_gpu import FAST, FakeNvml, Replay
from support.run_folders import write_run

from bench.analysis import trace_events
from bench.evidence.gpu import checks, evidence, power, verb_parts, wheels
from bench.evidence.gpu.box import Box
from bench.evidence.gpu.evidence import Wish, measure, pack
from bench.evidence.gpu.part import Context, Part
from bench.evidence.gpu.power import Recorder, Sample, energy_row
from bench.evidence.gpu.records import (
    REHEARSAL,
    Outcome,
    Record,
    Records,
    Result,
    judged,
    records_of,
)
from bench.evidence.gpu.show import show
from bench.evidence.gpu.traces import PAUSE_S, device_work
from bench.machine.nvml import Gpu, Inventory, gpu_state, gpu_use, installed
from bench.machine.placement import default_backend
from bench.schema.case import Case
from fmnist_models.errors import UserError


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
    with pytest.raises(UserError, match="updated fewer than three times"):
        energy_row(samples(1.5, 300.0, 300.0))


def test_the_power_is_that_of_a_moment_where_the_card_tells_it() -> None:
    field = SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=250_000))
    answers = {"nvmlDeviceGetFieldValues": [field], "nvmlDeviceGetPowerUsage": 400_000}
    card = replace(FAST, answers=answers)
    assert power._watts(FakeNvml(card), card) == 250.0
    field.nvmlReturn = 3
    assert power._watts(FakeNvml(card), card) == 400.0


GPU = Gpu(0, "Test GPU", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")
UUID = {"on_cpu": False, "asked": GPU.uuid, "compared_with": GPU.uuid, "block_bytes": 2**30}
WAITS = {"dispatch_s": 0.001, "synced_s": 0.3, "synced_twice_s": 0.6, "read_s": 0.3}
OFF, ON = ({"relative_error": e, "flops_per_s": f} for e, f in ((0.0, 5e13), (2.4e-4, 3e14)))
TF32 = {"compute_capability": [9, 0], "off": OFF, "on": ON}
TRACED = {"kernels": 40, "kernels_s": 0.1, "window_s": 0.2, "pauses": 4, "pause_s": PAUSE_S}
ROW = {
    "case": "relu_mlp-adam-fit-gpu-b32-float32-jax",
    "status": "ok",
    "reason": "",
    "device": "gpu",
    "precision": "mixed_bfloat16",
    "precision_share": "1.0",
    "samples_per_s": "1e6",
    "roofline_fraction": "0.2",
}
PHASE = {"status": "ok", "reason": ""}
RUN = {"device": "gpu", "last_line": "", "exit_code": 0}
DUEL = {"blocks": 8, "last_line": "", "expected_slower": 0.4}
EQUALS = {**DUEL, "verdict": "passed", "log_ratios": [0.001] * 8}
SLOWER = {**DUEL, "verdict": "regression", "log_ratios": [0.34] * 8}


@pytest.mark.parametrize(
    ("check", "good", "faulty"),
    [
        (checks.doctor, {"exit_code": 0, "last_line": ""}, {"exit_code": 2}),
        (checks.placement, {"misplaced": [], "name": "gpu:0"}, {"misplaced": ["a on cpu:0"]}),
        (checks.uuid, {**UUID, "framework_uuids": [], "taken_bytes": 2**30}, {"taken_bytes": None}),
        (checks.uuid, {**UUID, "framework_uuids": [GPU.uuid], "taken_bytes": 2**30},
         {"framework_uuids": [power.NO_UUID]}),
        (checks.uuid, {**UUID, "framework_uuids": [], "taken_bytes": 2**30}, {"taken_bytes": 0}),
        (checks.uuid, {"on_cpu": True, "asked": "-1"}, {"asked": "0"}),
        (checks.memory, {"allocated_bytes": 2**30, "rise_bytes": 2**30}, {"rise_bytes": 2**29}),
        (checks.memory, {"allocated_bytes": 2**30, "rise_bytes": 2**30}, {"rise_bytes": None}),
        (checks.synchronisation, WAITS, {"synced_s": 0.001, "synced_twice_s": 0.002}),
        (checks.synchronisation, WAITS, {"synced_twice_s": 0.3}),
        (checks.synchronisation, WAITS, {"read_s": 0.01}),
        (checks.tf32, TF32, {"off": {**OFF, "relative_error": 2.4e-4}}),
        (checks.tf32, TF32, {"on": {**ON, "relative_error": 0.0}}),
        (checks.tf32, TF32, {"on": {**ON, "flops_per_s": 5e13}}),
        (checks.energy, {"counter_over_samples": 1.01, "seconds": 4.0},
         {"counter_over_samples": 4.0}),
        (checks.trace, {**TRACED, "long_gaps": 4}, {"long_gaps": 0}),
        (checks.trace, {**TRACED, "long_gaps": 4}, {"kernels": 0}),
        (checks.company, {"gpu_other_processes": 0}, {"gpu_other_processes": 1}),
        (checks.company, {"gpu_other_processes": 0}, {"gpu_other_processes": None}),
        (checks.sweep, {**RUN, "rows": [ROW]}, {"rows": [{**ROW, "status": "skipped"}]}),
        (checks.sweep, {**RUN, "rows": [ROW]}, {"rows": [{**ROW, "device": "cpu"}]}),
        (checks.sweep, {**RUN, "rows": [ROW]}, {"rows": [{**ROW, "roofline_fraction": "3"}]}),
        (checks.sweep, {**RUN, "rows": [ROW]}, {"rows": [{**ROW, "roofline_fraction": ""}]}),
        (checks.precisions, {**RUN, "rows": [ROW]}, {"rows": [{**ROW, "status": "invalid"}]}),
        (checks.precisions, {**RUN, "rows": [ROW]}, {"rows": [{**ROW, "precision_share": "0.1"}]}),
        (checks.equal, EQUALS, SLOWER),
        (checks.slowed, SLOWER, EQUALS),
        (checks.slowed, SLOWER, {"log_ratios": [2.0] * 8}),
        (checks.profile, {**RUN, "rows": [PHASE], "device_rows": [{"kernels_s": "1", "gaps": "7"}]},
         {"exit_code": 2}),
    ],
)  # fmt: skip
def test_a_check_passes_and_fails(
    check: Any, good: Mapping[str, Any], faulty: Mapping[str, Any]
) -> None:
    whole = {"on_cpu": False, "framework": "JAX", **good}
    assert check(whole).result is Result.PASSED
    assert check({**whole, **faulty}).result is Result.FAILED


def test_what_a_cpu_cannot_show_is_not_said_to_be_shown() -> None:
    for check in (checks.tf32, checks.trace, checks.company):
        assert check({"on_cpu": True}).result is Result.NOT_APPLICABLE
    waits_itself = {**WAITS, "dispatch_s": 0.3, "on_cpu": True, "framework": "JAX"}
    assert checks.synchronisation(waits_itself).result is Result.NOT_APPLICABLE
    without = {"why_not": "no counter", "on_cpu": False}
    assert checks.energy(without).result is Result.NOT_APPLICABLE
    missing = {**RUN, "exit_code": 2, "rows": [], "last_line": "xprof is not installed: ..."}
    assert checks.profile(missing).result is Result.SKIPPED


def test_power_samples_that_stopped_are_found() -> None:
    """The counter goes on; the samples repeat the power at rest."""
    stopped = [replace(sample, watts=75.0) for sample in samples(0.1, 300.0, 300.0)]
    row = {**energy_row(stopped), "on_cpu": False}
    assert checks.energy(row).result is Result.FAILED


def test_kernels_and_pauses_are_read_from_either_trace(h100_trace: list[dict[str, Any]]) -> None:
    found = device_work(h100_trace)
    assert found["kernels"] == 24 * 8
    assert found["long_gaps"] == 0
    of_torch = [
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": start, "dur": 1_000, "pid": 0}
        for start in (0, 30_000, 60_000, 60_500)
    ]
    found = device_work([*of_torch, {"ph": "X", "cat": "cpu_op", "ts": 5_000, "dur": 9e4}])
    assert (found["kernels"], found["long_gaps"]) == (4, 2)
    assert found["kernels_s"] == pytest.approx(0.0035)
    assert device_work([])["kernels"] == 0


def test_a_fault_that_is_not_found_is_bad() -> None:
    passed, failed = Outcome(Result.PASSED, "fine"), Outcome(Result.FAILED, "wrong")
    assert judged(passed, "") is passed
    assert judged(passed, "a fault").result is Result.MISSED
    assert judged(failed, "a fault").result is Result.FOUND
    assert judged(failed, "a fault").words == "check failed as it must: wrong"


def made(name: str, fails: bool = False, seconds: float = 0.0) -> Part:
    """A part that needs no framework."""

    def measured(context: Context, backend: str, fault: bool) -> dict[str, Any]:
        if fails:
            raise ValueError("it broke")
        return {"wrong": fault}

    def check(values: Mapping[str, Any]) -> Outcome:
        return Outcome(Result.FAILED if values["wrong"] else Result.PASSED, "said")

    return Part(name, measured, check, "a fault", seconds, 10.0)


def test_what_fails_or_does_not_fit_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (made("first"), made("broken", fails=True), made("long", seconds=1e6), made("last"))
    monkeypatch.setattr(evidence, "GROUPS", tuple((part,) for part in parts))
    own, absent = "jax", "torch"
    why = {own: None, absent: "torch is not installed"}
    monkeypatch.setattr(evidence, "why_missing", why.get)
    box = Box(Inventory(), None, "cpu", tmp_path)
    wish = Wish([part.name for part in parts], [own, absent], 1.0)
    told: list[str] = []
    found = measure(box, wish, told.append)
    assert [(r.part, r.backend, r.result) for r in found] == [
        ("all", absent, Result.SKIPPED),
        *((("first", own, result)) for result in (Result.PASSED, Result.FOUND)),
        *[("broken", own, Result.FAILED)] * 2,
        *[("long", own, Result.DID_NOT_FIT)] * 2,
        *((("last", own, result)) for result in (Result.PASSED, Result.FOUND)),
    ]
    file = tmp_path / "rehearsal-no-gpu-records.jsonl"
    assert records_of(file.read_text()) == found
    assert all(REHEARSAL in line for line in told)
    alone = measure(replace(box, folder=tmp_path), replace(wish, fault="last"), told.append)
    assert [(r.part, r.result) for r in alone][1:] == [("last", Result.FOUND)]


def test_the_rows_of_a_run_are_read_where_it_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def command(box: Box, name: str, words: Sequence[str], limit: float) -> tuple[int, str]:
        """A run that measured one case, or nothing."""
        asked.append(words)
        if "fault" not in name:
            case = Case("relu_mlp", "adam", "compiled", batch_size=512, backend="jax")
            write_run(box.folder / name, {case: (0.5, 0.8)})
        return 0, "stopped"

    monkeypatch.setattr(Box, "command", command)
    context = Context(Box(Inventory(), None, "cpu", tmp_path), Records(tmp_path, REHEARSAL))
    context.end_s = time.monotonic() + 100.0
    values = verb_parts.SWEEP.measure(context, "jax", False)
    (row,) = values["rows"]
    assert (row["status"], row["backend"], row["batch_size"]) == ("ok", "jax", "512")
    assert float(row["samples_per_s"]) == pytest.approx(96_000, rel=0.05)
    # A run that never began is no proof that a fault is found.
    with pytest.raises(UserError, match="nothing was measured: stopped"):
        verb_parts.SWEEP.measure(context, "jax", True)
    devices = [words[words.index("--devices") + 1] for words in asked]
    assert devices == ["cpu", "gpu:99"]


def test_the_fault_of_a_duel_is_the_other_duel(tmp_path: Path) -> None:
    context = Context(Box(Inventory(), None, "cpu", tmp_path), Records(tmp_path, REHEARSAL))
    context.measured["duel-equal", "jax"] = EQUALS
    context.measured["duel-slowed", "jax"] = SLOWER
    for part, other in ((verb_parts.SLOWED, EQUALS), (verb_parts.EQUAL, SLOWER)):
        values = part.measure(context, "jax", True)
        assert values == other
        assert part.check(values).result is Result.FAILED


def an_archive(folder: Path, gpu: Gpu | None) -> Path:
    """An archive with a doctor's report, a run, a duel and a reading of the device."""
    folder.mkdir()
    box = Box(Inventory(), gpu, "gpu", folder)
    records = Records(folder, box.label)
    row = {**ROW, "backend": "jax", "loop": "fit", "batch_size": "32"}
    for part, values in (
        ("doctor", {"report": ["all is well"]}),
        ("sweep", {"rows": [row, {**row, "batch_size": "512"}]}),
        ("duel-slowed", SLOWER),
        ("tf32", TF32),
    ):
        records.add(Record(box.label, part, "jax", "", Result.PASSED, "fine", 1.0, values))
    return pack(box, folder.parent / "packed.tar.gz")


@pytest.mark.parametrize("gpu", [None, GPU])
def test_an_archive_is_shown_elsewhere(tmp_path: Path, gpu: Gpu | None) -> None:
    archive = an_archive(tmp_path / "work", gpu)
    written = show(archive, tmp_path / "shown")
    names = {"checks.csv", "device.csv", "runs.csv", "duels.csv", "doctor-jax.txt", "sweep.png"}
    before = "" if gpu else "rehearsal-no-gpu-"
    assert archive.name == f"{before}packed.tar.gz"
    assert {file.name for file in written} == {before + name for name in names}
    label = gpu.name if gpu else REHEARSAL
    for file in written:
        if file.suffix == ".csv":
            head, *rows = file.read_text().splitlines()
            assert head.startswith("label,")
            assert rows
            assert all(label in row for row in rows)
        elif file.suffix == ".txt":
            assert file.read_text() == f"{label}\nall is well\n"


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz"):
        pass
    with pytest.raises(UserError, match="holds no records"):
        show(other, tmp_path / "shown")
    other.write_text("text")
    with pytest.raises(UserError, match="cannot be unpacked"):
        show(other, tmp_path / "shown")


def test_more_wheels_than_can_be_carried_are_refused(tmp_path: Path) -> None:
    small, large = tmp_path / "a.whl", tmp_path / "b.whl"
    small.write_bytes(b"1")
    wheels.refuse_large([small], lambda _: None)
    with large.open("wb") as out:
        out.truncate(wheels.MOST_BYTES)
    with pytest.raises(UserError, match=r"25\.0 MB of wheels are more than 25 MB"):
        wheels.refuse_large([small, large], lambda _: None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--parts", "doctr"], "'doctr' is no part: choose from doctor, "),
        (["--fault", "x"], "'x' is no part"),
        (["--backends", "mxnet"], "'mxnet' is no backend"),
        (["--work", "."], "is not empty"),
        (["--show", "no.tar.gz"], "cannot be unpacked"),
    ],
)
def test_a_mistake_is_one_line(program: Program, words: list[str], told: str) -> None:
    done = program("bench.evidence", "gpu", "--work", "new", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_a_gpu_it_rehearses_and_says_so(program: Program, tmp_path: Path) -> None:
    """With the framework that is there, and a child that uses the worker's own classes."""
    backend = "jax" if default_backend() == "tensorflow" else str(default_backend())
    missing = {"jax": "torch", "torch": "jax"}[backend]
    run = partial(program, "bench.evidence", "gpu", CUDA_VISIBLE_DEVICES="-1")
    parts = ["--parts", "placement,uuid,memory,tf32,trace"]
    done = run("--work", tmp_path / "work", "--backends", backend, *parts)
    assert done.returncode == 0, done.stdout + done.stderr
    records = records_of((tmp_path / "work" / "rehearsal-no-gpu-records.jsonl").read_text())
    told = [Result.PASSED, Result.FOUND] * 3 + [Result.NOT_APPLICABLE] * 4
    assert [record.result for record in records] == told
    assert {record.label for record in records} == {REHEARSAL}
    assert (tmp_path / "rehearsal-no-gpu-work.tar.gz").exists()
    if default_backend() != "tensorflow":
        absent = run("--work", tmp_path / "new", "--backends", missing, "--parts", "memory")
        assert f"{missing}: skipped: {missing} is not installed" in absent.stdout
