"""What a GPU did, by the profiler of JAX, TensorFlow or PyTorch; without a package to read it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.analysis.trace_ends import merged
from bench.analysis.trace_events import covered

# Seconds of the rest between two traced calls, which must be seen as a gap.
PAUSE_S = 0.02
# Categories of PyTorch's trace.
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The events of the profiler's own trace for Chrome."""
    for file in sorted(folder.rglob("*trace.json*")):
        text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        found: list[dict[str, Any]] = json.loads(text)["traceEvents"]
        return found
    return []


def device_work(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the GPU did, in seconds: of JAX's and TensorFlow's trace, or of PyTorch's."""
    events = [event for event in events if event.get("ph") in ("X", "M")]
    gpus = {
        event["pid"]
        for event in events
        if event.get("name") == "process_name" and "/device:GPU" in event["args"]["name"]
    }
    kernels, both = [], []
    for event in events:
        details = event.get("args", {})
        is_kernel = event.get("cat") == "kernel" or (
            event.get("pid") in gpus and "kernel_details" in details
        )
        is_copy = event.get("cat") in _ON_DEVICE or (
            event.get("pid") in gpus and "memcpy_details" in details
        )
        if is_kernel or is_copy:
            began = float(event["ts"])
            both.append((began, began + float(event["dur"])))
            kernels += both[-1:] if is_kernel else []
    busy = merged(both)
    gaps = [(after - end) * 1e-6 for (_, end), (after, _) in pairwise(busy)]
    return {
        "kernels": len(kernels),
        "kernels_s": covered(kernels) * 1e-6,
        "window_s": (busy[-1][1] - busy[0][0]) * 1e-6 if busy else 0.0,
        "gaps_s": sum(gaps),
        "long_gaps": sum(gap >= PAUSE_S for gap in gaps),
    }
