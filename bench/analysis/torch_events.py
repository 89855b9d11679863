"""Traces of PyTorch's profiler in the form of `bench.analysis.trace_events`. Pure functions.

PyTorch names the operations and not where they belong. So an operation gets a path: of the
annotations around it on its thread (`bench.worker.torch.naming` adds those of layers, loss,
optimizer and metrics, and Keras's loader of batches has its own), or of the gradient's function.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bench.analysis.trace_ends import Event, interval
from bench.analysis.trace_events import STEP_TRACED, covered

# As xprof names them.
HOST = "/host:CPU"
_HOST_PID = 701
_ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
_SHOWN = {"cpu_op", "user_annotation", "cuda_runtime", "cuda_driver"}
_GRADIENT = "autograd::engine::evaluate_function: "
# The calls of what `torch.compile` made, and the annotations of its own.
_CALLS = ("Torch-Compiled Region", "## Call ", "TorchDynamo ", "Pregraph ", "AOTDispatcher ")
_COMPILING = "_compile.compile_inner"
# The operands of a product, by the number of its argument; the first two give all its sizes.
_PRODUCTS = {"aten::mm": 0, "aten::bmm": 0, "aten::addmm": 1, "aten::baddbmm": 1}
_MICRO = 1e-6


def normalized(events: Iterable[Event], case: str) -> list[dict[str, Any]]:
    """The operations, kernels and copies of a trace, with their paths, processes and FLOPs.

    Args:
        events: `traceEvents` as `export_chrome_trace` writes them.
        case: the annotation around all of it, which is in no path.
    """
    timed = [e for e in events if e.get("ph") == "X" and "dur" in e]
    found: list[dict[str, Any]] = [_process(_HOST_PID, HOST)]
    threads: dict[Any, list[Event]] = {}
    devices: dict[int, str] = {}
    for event in timed:
        kind, args = event.get("cat"), event.get("args", {})
        if kind in _SHOWN:
            threads.setdefault(event["tid"], []).append(event)
        elif kind in _ON_DEVICE:
            number = int(args.get("device", 0))
            devices[number] = f"/device:GPU:{number}"
            details = {"kernel_details": f"stream {args.get('stream', event['tid'])}"}
            told = details if kind == "kernel" else {}
            found.append(_event(event, number + 1, event["tid"], told))
    for number, thread in enumerate(threads.values(), 1):
        found += [
            _event(event, _HOST_PID, number, _told(event, path))
            for event, path in _with_paths(thread, case)
        ]
    return found + [_process(number + 1, name) for number, name in devices.items()]


def starting(events: Iterable[Event]) -> tuple[float, float]:
    """(seconds of tracing the step, seconds of `torch.compile` outside it) of the start."""
    timed = [event for event in events if event.get("ph") == "X" and "dur" in event]
    tracing = [interval(e) for e in timed if e["name"] == STEP_TRACED]
    compiling = [interval(e) for e in timed if e["name"].startswith(_COMPILING)]
    traced = covered(tracing)
    return traced * _MICRO, (covered([*tracing, *compiling]) - traced) * _MICRO


def _with_paths(thread: Sequence[Event], case: str) -> list[tuple[Event, str]]:
    """Each event of a thread with the annotations around it; a gradient's path begins anew."""
    found: list[tuple[Event, str]] = []
    open_: list[tuple[float, str]] = []
    for event in sorted(thread, key=lambda e: (e["ts"], -e["dur"])):
        start, end = interval(event)
        while open_ and open_[-1][0] <= start:
            open_.pop()
        path = open_[-1][1] if open_ else ""
        found.append((event, path))
        name = event["name"]
        if name.startswith(_GRADIENT):
            open_.append((end, f"autograd::{name.removeprefix(_GRADIENT).rpartition('::')[2]}/"))
        elif event.get("cat") == "user_annotation" and not name.startswith((case, *_CALLS)):
            open_.append((end, f"{path}{name}/"))
    return found


def _told(event: Event, path: str) -> dict[str, Any]:
    """What is told of an event of the host; nothing of one that is no operation."""
    name = event["name"]
    if event["cat"] != "cpu_op" or name.startswith((_GRADIENT, *_CALLS)):
        return {}
    told: dict[str, Any] = {"operation": f"{path}{name}", "kind": "PyTorch"}
    flops = _flops(name, event.get("args", {}).get("Input Dims", ()))
    return told | ({"flops": flops} if flops else {})


def _flops(name: str, dims: Sequence[Any]) -> int:
    """FLOPs of a product, 2 for each multiply-add; 0 for what is none."""
    first = _PRODUCTS.get(name)
    if first is None or len(dims) < first + 2:
        return 0
    left, right = dims[first], dims[first + 1]
    return 2 * math.prod(left) * int(right[-1]) if left and right else 0


def _event(event: Event, pid: int, tid: Any, told: dict[str, Any]) -> dict[str, Any]:
    kept = {name: event[name] for name in ("name", "ts", "dur")}
    return {"ph": "X", **kept, "pid": pid, "tid": tid, "args": told}


def _process(pid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
