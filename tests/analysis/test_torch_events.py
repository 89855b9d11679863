"""Made-up traces of PyTorch's profiler; those of a GPU are synthetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.torch_events import normalized, starting
from bench.analysis.trace_events import STEP_TRACED, device_times, named, operations
from bench.schema.profile import Phase

RECORDED = Path(__file__).parents[1] / "recorded"
CASE = "relu_mlp-adam-fit-gpu-b32-float32-torch"


def ran(
    name: str, start: float, length: float, cat: Any = "cpu_op", tid: Any = 9, **args: Any
) -> dict[str, Any]:
    """An event as `export_chrome_trace` writes it."""
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "pid": 4242,
        "tid": tid,
        "ts": start,
        "dur": length,
        "args": {"External id": 1, **args},
    }


def step() -> list[dict[str, Any]]:
    """A step of `fit`: batch, forward, loss, backward on a thread of its own, update, metrics."""
    engine = "autograd::engine::evaluate_function: "
    return [
        {"ph": "M", "name": "process_name", "pid": 4242, "ts": 0, "args": {"name": "python"}},
        {"ph": "s", "cat": "fwdbwd", "name": "fwdbwd", "pid": 4242, "tid": 9, "ts": 30},
        {"ph": "i", "name": "Record Window End", "pid": "", "tid": "", "ts": 900},
        ran("PyTorch Profiler (0)", 0, 999, "Trace", "PyTorch Profiler"),
        ran(CASE, 1, 990, "user_annotation"),
        ran("enumerate(DataLoader)#_It.__next__", 2, 8, "user_annotation"),
        ran("aten::to", 3, 4),
        ran("relu_mlp", 10, 60, "user_annotation"),
        ran("dense", 20, 40, "user_annotation"),
        ran("aten::matmul", 22, 30),
        ran("aten::mm", 24, 20, **{"Input Dims": [[32, 784], [784, 100]]}),
        ran("compile_loss", 80, 10, "user_annotation"),
        ran("aten::sum", 82, 4, **{"Input Dims": [[32, 10]]}),
        ran(f"{engine}MmBackward0", 100, 50, tid=77),
        ran("MmBackward0", 101, 48, tid=77),
        ran("aten::mm", 110, 10, tid=77, **{"Input Dims": [[784, 32], [32, 100]]}),
        ran(f"{engine}torch::autograd::AccumulateGrad", 160, 10, tid=77),
        ran("aten::detach", 162, 5, tid=77),
        ran("adam", 200, 40, "user_annotation"),
        ran("aten::_foreach_add_", 210, 20),
        ran("compute_metrics", 250, 20, "user_annotation"),
        ran("aten::argmax", 255, 5),
    ]


def test_an_operation_has_the_path_of_what_is_around_it() -> None:
    found = {o.name: o for o in operations(normalized(step(), CASE), None, "relu_mlp")}
    assert {name: o.phase for name, o in found.items()} == {
        "enumerate(DataLoader)#_It.__next__/aten::to": Phase.INPUT,
        "relu_mlp/dense/aten::matmul": Phase.FORWARD,
        "relu_mlp/dense/aten::mm": Phase.FORWARD,
        "compile_loss/aten::sum": Phase.FORWARD,
        "autograd::MmBackward0/MmBackward0": Phase.BACKWARD,
        "autograd::MmBackward0/aten::mm": Phase.BACKWARD,
        "autograd::AccumulateGrad/aten::detach": Phase.BACKWARD,
        "adam/aten::_foreach_add_": Phase.OPTIMIZER,
        "compute_metrics/aten::argmax": Phase.METRICS,
    }
    assert {o.kind for o in found.values()} == {"PyTorch"}
    product, around = found["relu_mlp/dense/aten::mm"], found["relu_mlp/dense/aten::matmul"]
    assert product.self_s == pytest.approx(20e-6)
    assert (around.total_s, around.self_s) == (pytest.approx(30e-6), pytest.approx(10e-6))
    assert product.flops_per_s == pytest.approx(2 * 32 * 784 * 100 / 20e-6)
    assert around.flops_per_s is None
    gradient = found["autograd::MmBackward0/aten::mm"]
    assert gradient.flops_per_s == pytest.approx(2 * 784 * 32 * 100 / 10e-6)
    assert sum(o.share for o in found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "dims", "flops"),
    [
        ("aten::mm", [[2, 3], [3, 5]], 60),
        ("aten::addmm", [[5], [2, 3], [3, 5], [], []], 60),
        ("aten::bmm", [[7, 2, 3], [7, 3, 5]], 420),
        ("aten::baddbmm", [[7, 2, 5], [7, 2, 3], [7, 3, 5]], 420),
        ("aten::mm", [], None),
        ("aten::add", [[2, 3], [2, 3]], None),
    ],
)
def test_the_shapes_tell_the_flops_of_a_product(name: str, dims: Any, flops: int | None) -> None:
    (found,) = operations(normalized([ran(name, 0, 1, **{"Input Dims": dims})], CASE))
    rate = found.flops_per_s
    assert (rate and rate * found.self_s) == (flops and pytest.approx(flops))


def test_a_call_of_a_compiled_step_is_no_operation_and_no_path() -> None:
    events = [
        ran("Torch-Compiled Region: 0/0", 0, 100),
        ran("## Call CompiledFxGraph f5sbo ##", 5, 90),
        ran("## Call CompiledFxGraph f5sbo ##", 5, 90, "user_annotation"),
        ran("aten::addmm", 10, 20),
        ran("graph_0_cpp_fused_relu_1", 40, 20),
    ]
    found = {o.name: o.share for o in operations(normalized(events, CASE))}
    assert found == {"aten::addmm": 0.5, "graph_0_cpp_fused_relu_1": 0.5}


def test_a_gpu_shows_kernels_copies_and_gaps() -> None:
    """Synthetic: two kernels side by side, a copy half hidden by one, and two gaps."""
    kernel = {"device": 0, "stream": 7, "correlation": 5}
    events = [
        ran("aten::mm", 0, 4),
        ran("cudaLaunchKernel", 1, 2, "cuda_runtime", correlation=5),
        ran("gemm", 0, 10, "kernel", 7, **kernel),
        ran("relu", 5, 10, "kernel", 13, **kernel),
        ran("Memcpy HtoD (Pinned -> Device)", 12, 8, "gpu_memcpy", 7, device=0, stream=7),
        ran("gemm", 30, 10, "kernel", 7, **kernel),
        ran("adam", 45, 5, "kernel", 7, **kernel),
        ran("fit", 0, 50, "gpu_user_annotation", 7, device=0),
    ]
    told = normalized(events, CASE)
    (gpu,) = device_times(told)
    assert gpu.device == "/device:GPU:0"
    assert (gpu.window_s, gpu.kernels_s) == (pytest.approx(50e-6), pytest.approx(30e-6))
    assert (gpu.copies_s, gpu.gaps_s) == (pytest.approx(5e-6), pytest.approx(15e-6))
    assert gpu.gaps == 2
    assert {(o.kind, o.name): o.count for o in operations(told)} == {
        ("PyTorch", "aten::mm"): 1,
        ("kernel", "gemm"): 2,
        ("kernel", "relu"): 1,
        ("kernel", "adam"): 1,
        ("copy", "Memcpy HtoD (Pinned -> Device)"): 1,
    }


def test_the_shared_trace_names_case_and_phases_and_nothing_of_the_machine() -> None:
    shown = named(normalized(step(), CASE), CASE, {}, "relu_mlp")
    assert shown[0]["args"]["name"] == f"{CASE} /host:CPU"
    names = [event["name"] for event in shown]
    assert {CASE, "forward: aten::mm", "backward: aten::mm", "metrics: aten::argmax"} <= set(names)
    assert "4242" not in str(shown)
    assert not any(name.startswith("PyTorch Profiler") for name in names)


def test_tracing_and_compiling_are_told_apart_and_a_compiled_call_is_none_of_both() -> None:
    events = [
        ran(STEP_TRACED, 0, 50, "user_annotation"),
        ran("_compile.compile_inner (dynamo_timed)", 60, 100),
        ran("_compile.compile_inner (dynamo_timed)", 140, 40),
        ran("Torch-Compiled Region: 0/0", 200, 500),
    ]
    assert starting(events) == pytest.approx((50e-6, 120e-6))


def test_a_step_of_fit_as_pytorch_2_13_wrote_it() -> None:
    """Recorded on a CPU: one step of relu_mlp and Adam on 32 images, and the end of the epoch."""
    events = json.loads((RECORDED / "torch_fit_trace.json").read_text())
    case = "relu_mlp-adam-fit-cpu-b32-float32-torch"
    found = operations(normalized(events, case), None, "relu_mlp")
    by_phase = {o.phase for o in found}
    assert by_phase == {*Phase} - {Phase.PYTHON, Phase.IDLE, Phase.UNEXPLAINED} | {None}
    products = {o.name: o for o in found if o.flops_per_s}
    assert {o.phase for o in products.values()} == {Phase.FORWARD, Phase.BACKWARD}
    flops = {name: round((o.flops_per_s or 0) * o.self_s) for name, o in products.items()}
    assert flops == {
        "relu_mlp/dense/aten::mm": 2 * 32 * 784 * 100,
        "relu_mlp/dense_1/aten::mm": 2 * 32 * 100 * 10,
        "autograd::MmBackward0/aten::mm": 2 * 32 * (784 * 100 + 2 * 100 * 10),
    }
    assert case not in "".join(o.name for o in found)
