"""Operations and GPU times of a trace. Pure functions over events in Chrome's trace format.

An event is `{"name", "pid", "tid", "ts", "dur", "args"}` with `ph` `X` and times in microseconds.
Events with `ph` `M` name processes and threads. TensorFlow's profiler writes `args.long_name` for
its own operations and for each stage of the input pipeline, and JAX's too `args.hlo_op` for XLA's
instructions. What PyTorch's profiler writes gets `args.operation`, with its kind and FLOPs, by
`bench.analysis.torch_events`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis.hlo import HloInstruction
from bench.analysis.trace_ends import END, Event, beyond, end_of, ends, interval, merged
from bench.schema.profile import Phase
from fmnist_models.optimizers import OPERATIONS

Label = tuple[str, str]
_MICRO = 1e-6
# The annotation around a trace of the step, with JAX and PyTorch.
STEP_TRACED = "trace the training step"
# Python code that builds a graph, as TensorFlow names it; what JAX makes of a trace before XLA
# compiles it; and the words by which the passes of XLA and Grappler are recognized.
_TRACING = {"tf.function-graph_building", STEP_TRACED, "lower_sharding_computation"}
_COMPILING = re.compile(r"Compil|backend_compile|Grappler|MetaOptimizer")
_COPY = re.compile(r"memcpy|memset", re.IGNORECASE)
_OPTIMIZERS = "|".join([*OPERATIONS.values(), "loss_scale_optimizer"])
# The batch of a step, as TensorFlow's pipeline, the epoch of `compiled` with JAX, and PyTorch's
# loader name what makes it.
_BATCH = (
    r"^Iterator::|(^|/)IteratorGetNext|^GatherV2|^range"
    r"|^jit\(epoch_\d+\)/(while/body/|closed_call/)*gather$|^enumerate\(DataLoader\)"
)
# The phase of an operation by its path; the first match decides. Gradients are named by
# TensorFlow's tape, by the transposition of JAX, and by PyTorch's engine.
_PATHS: tuple[tuple[Phase, re.Pattern[str]], ...] = (
    (Phase.INPUT, re.compile(_BATCH)),
    (Phase.BACKWARD, re.compile(r"(^|/)(gradient_tape/|transpose\(|autograd::)")),
    (Phase.OPTIMIZER, re.compile(rf"(^|/)({_OPTIMIZERS})(_\d+)?/")),
    (Phase.METRICS, re.compile(r"(^|/)compute_metrics/")),
    (Phase.FORWARD, re.compile(r"(^|/)(compile_loss/|jvp\()")),
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, with the sums over all its runs.

    Attributes:
        kind: `TensorFlow`, `PyTorch`, `XLA`, `input pipeline`, `kernel` or `copy`.
        phase: by the operation's path; None where the path names none.
        total_s: seconds of all runs from start to end, with the parts on other threads.
        self_s: seconds of its own work. Operations nested in it on the same thread are left out,
            and so is the time in which its parts waited for another thread
            (`bench.analysis.trace_ends.beyond`).
        share: self_s over that of all operations.
        flops_per_s: FLOPs over self_s; None where the FLOPs are not known.
    """

    name: str
    kind: str
    phase: Phase | None
    count: int
    total_s: float
    self_s: float
    share: float
    flops_per_s: float | None


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """What a GPU did between its first and its last event.

    Attributes:
        window_s: seconds from the start of the first to the end of the last event.
        kernels_s: seconds in which a kernel was running.
        copies_s: seconds in which a copy was running, and no kernel.
        gaps, gaps_s: number and seconds of the times in which nothing was running.
    """

    device: str
    window_s: float
    kernels_s: float
    copies_s: float
    gaps: int
    gaps_s: float


def operations(
    events: Iterable[Event], hlo: Mapping[str, HloInstruction] | None = None, model: str = ""
) -> list[Operation]:
    """The operations of a trace, with the longest self time first.

    Args:
        events: events of the trace.
        hlo: XLA's instructions, by name.
        model: the Keras name of the model, with which the paths of its layers' operations begin.
    """
    hlo = hlo or {}
    events = list(events)
    devices = {pid for pid, name in _process_names(events).items() if "/device:" in name}
    ended = ends(events)
    threads: dict[tuple[Any, Any], list[tuple[Event, Label]]] = {}
    handing_over = []
    for event in events:
        label = _label(event, event.get("pid") in devices)
        if not label:
            continue
        threads.setdefault((event["pid"], event["tid"]), []).append((event, label))
        if label[0] == "XLA" and not (label[1] in hlo and hlo[label[1]].holds_others):
            handing_over.append(event)
    later = beyond(handing_over, events, ended)
    after = {id(event): more for event, more in zip(handing_over, later, strict=True)}
    added: dict[Label, list[float]] = {}
    for own in threads.values():
        for event, label, alone in _self_times(own):
            sums = added.setdefault(label, [0, 0.0, 0.0, 0])
            sums[0] += 1
            sums[1] += (end_of(event, ended) - event["ts"]) * _MICRO
            sums[2] += (alone + after.get(id(event), 0.0)) * _MICRO
            sums[3] += event["args"].get("flops", 0) if label[0] == "PyTorch" else 0
    whole = sum(sums[2] for sums in added.values())
    found = []
    for (kind, name), (count, total_s, self_s, own_flops) in added.items():
        known = hlo.get(name)
        flops = known.flops * count if known else own_flops
        path = known.path if known else name
        found.append(
            Operation(
                name,
                kind,
                phase_of(path, model),
                int(count),
                total_s,
                self_s,
                self_s / whole if whole else 0.0,
                flops / self_s if flops and self_s else None,
            )
        )
    return sorted(found, key=lambda operation: -operation.self_s)


def phase_of(path: str, model: str = "") -> Phase | None:
    """The phase of an operation by its path; None where the path names none."""
    for phase, pattern in _PATHS:
        if pattern.search(path):
            return phase
    if model and re.search(rf"(^|/){re.escape(model)}(_\d+)?/", path):
        return Phase.FORWARD
    return None


def starting(events: Iterable[Event]) -> tuple[float, float]:
    """(seconds of tracing graphs, seconds of compiling outside tracing) of the start."""
    tracing, compiling = [], []
    for event in events:
        if event.get("ph") != "X":
            continue
        if event["name"] in _TRACING:
            tracing.append(interval(event))
        elif _COMPILING.search(event["name"]):
            compiling.append(interval(event))
    traced = covered(tracing)
    return traced * _MICRO, (covered([*tracing, *compiling]) - traced) * _MICRO


def device_times(events: Sequence[Event]) -> list[DeviceTime]:
    """What each GPU of a trace did; none on a CPU."""
    found = []
    for pid, name in _process_names(events).items():
        if "/device:GPU" not in name:
            continue
        ran = [e for e in events if e.get("ph") == "X" and e.get("pid") == pid]
        labelled = [(e, label) for e in ran if (label := _label(e, on_device=True))]
        kernels = [interval(event) for event, (kind, _) in labelled if kind == "kernel"]
        both = [interval(event) for event, _ in labelled]
        if not both:
            continue
        window = max(end for _, end in both) - min(start for start, _ in both)
        gaps = len(merged(both)) - 1
        found.append(
            DeviceTime(
                name,
                window * _MICRO,
                covered(kernels) * _MICRO,
                (covered(both) - covered(kernels)) * _MICRO,
                gaps,
                (window - covered(both)) * _MICRO,
            )
        )
    return found


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals, in their unit."""
    return sum(end - start for start, end in merged(intervals))


def named(
    events: Sequence[Event], case: str, hlo: Mapping[str, HloInstruction], model: str
) -> list[dict[str, Any]]:
    """The events for a trace viewer: process names begin with the case, operations with a phase.

    Events that only mark an end or a moment are left out: they double the size of the file.
    """
    shown = []
    for event in events:
        if event.get("ph") == "M" and event["name"] == "process_name":
            shown.append({**event, "args": {"name": f"{case} {event['args']['name']}"}})
        elif event.get("ph") == "M":
            shown.append(dict(event))
        elif event.get("ph") == "X" and not event["name"].startswith(END):
            label = _label(event, on_device=False)
            known = hlo.get(label[1]) if label else None
            phase = phase_of(known.path if known else label[1], model) if label else None
            if phase:
                name = f"{phase}: {event['name']}"
                shown.append({**event, "name": name, "cat": str(phase)})
            else:
                shown.append(dict(event))
    return shown


def _process_names(events: Iterable[Event]) -> dict[Any, str]:
    return {
        event["pid"]: event["args"]["name"]
        for event in events
        if event.get("ph") == "M" and event.get("name") == "process_name"
    }


def _label(event: Event, on_device: bool) -> Label | None:
    """Kind and name of an operation; None for an event that is no operation."""
    name = event.get("name", "")
    if event.get("ph") != "X" or name.startswith(END):
        return None
    args = event.get("args", {})
    if on_device:
        if _COPY.search(name):
            return "copy", name
        # The lines of whole operations, modules and graphs repeat the events of the streams'
        # lines, and some of them have a `correlation_id` too.
        return ("kernel", name) if "kernel_details" in args else None
    if "operation" in args:
        return args["kind"], args["operation"]
    if "hlo_op" in args:
        return "XLA", args["hlo_op"]
    long_name = args.get("long_name", "")
    if long_name.startswith("Iterator::"):
        return "input pipeline", long_name
    if long_name:
        path, _, kind = long_name.rpartition(":")
        path = path.removeprefix("StatefulPartitionedCall/")
        # A call of a whole function: the operations in it have events of their own.
        if path.startswith("__inference_"):
            return None
        return "TensorFlow", f"{path} ({kind})" if path else kind
    return None


def _self_times(own: list[tuple[Event, Label]]) -> list[tuple[Event, Label, float]]:
    """Each event of one thread with its microseconds less those of the events nested in it."""
    own.sort(key=lambda item: (item[0]["ts"], -item[0]["dur"]))
    times: list[tuple[Event, Label, list[float]]] = []
    open_: list[tuple[float, list[float]]] = []
    for event, label in own:
        start, end = interval(event)
        while open_ and open_[-1][0] <= start:
            open_.pop()
        if open_:
            open_[-1][1][0] -= min(end, open_[-1][0]) - start
        alone = [end - start]
        times.append((event, label, alone))
        open_.append((end, alone))
    return [(event, label, max(0.0, alone[0])) for event, label, alone in times]


@dataclass(frozen=True, slots=True)
class Trace:
    """The contents of a case's traces.

    Attributes:
        tracing_s, compiling_s: seconds of the start.
        operations: those of a few steps after the warm-up.
        devices: what each GPU did in these steps.
        file: the trace for Perfetto.
    """

    tracing_s: float
    compiling_s: float
    operations: tuple[Operation, ...]
    devices: tuple[DeviceTime, ...]
    file: Path
