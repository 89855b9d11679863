"""What the events of a trace say. Pure functions over events in Chrome's trace format.

An event is `{"name", "pid", "tid", "ts", "dur", "args"}`, in microseconds, `ph` being `X`; the
names of processes and threads come as events whose `ph` is `M`. TensorFlow's profiler writes
`args.long_name` at its own operations and at each stage of the input pipeline, and `args.hlo_op` at
what XLA runs.
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
from fmnist_models.optimizers import OPTIMIZERS

Label = tuple[str, str]
_MICRO = 1e-6
# What TensorFlow names so is Python that builds a graph; XLA's and Grappler's passes are told by
# these words of their names.
_TRACING = "tf.function-graph_building"
_COMPILING = re.compile(r"Compil|Grappler|MetaOptimizer")
_COPY = re.compile(r"memcpy|memset", re.IGNORECASE)
# Keras names an optimizer's operations by its class, as the registry's names begin.
_OPTIMIZERS = "|".join({name.partition("_")[0] for name in OPTIMIZERS} | {"loss_scale_optimizer"})
# By the path of an operation, first match first; the gradients' are named by the tape.
_PATHS: tuple[tuple[Phase, re.Pattern[str]], ...] = (
    (Phase.INPUT, re.compile(r"^Iterator::|(^|/)IteratorGetNext|^GatherV2|^range")),
    (Phase.BACKWARD, re.compile(r"(^|/)gradient_tape/")),
    (Phase.OPTIMIZER, re.compile(rf"(^|/)({_OPTIMIZERS})(_\d+)?/")),
    (Phase.FORWARD, re.compile(r"(^|/)compile_loss/")),
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, added up over all its runs.

    Attributes:
        kind: `TensorFlow`, `XLA`, `input pipeline`, `kernel` or `copy`.
        phase: by its path; None where that does not tell.
        total_s: of all runs, from start to end, what was handed to other threads included.
        self_s: in which it ran itself: without what ran within, on the same thread, and, of
            what was handed over, without waiting for a thread (`bench.analysis.trace_ends.beyond`).
        share: of the self time of all operations.
        flops_per_s: over the self time; None where the FLOPs are not known.
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
        window_s: from the first to the last.
        kernels_s, copies_s: in which a kernel, or no kernel but a copy, was running.
        gaps: how many times it stood still, and gaps_s for how long.
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
    """The operations of a trace, those that took longest themselves first.

    Args:
        events: of the trace.
        hlo: what is known of XLA's instructions, by name.
        model: the Keras name of the model, under which its layers' operations stand.
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
            sums = added.setdefault(label, [0, 0.0, 0.0])
            sums[0] += 1
            sums[1] += (end_of(event, ended) - event["ts"]) * _MICRO
            sums[2] += (alone + after.get(id(event), 0.0)) * _MICRO
    whole = sum(sums[2] for sums in added.values())
    found = []
    for (kind, name), (count, total_s, self_s) in added.items():
        known = hlo.get(name)
        flops = known.flops * count if known else 0
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
    """The phase of an operation by its path; None where that does not tell."""
    for phase, pattern in _PATHS:
        if pattern.search(path):
            return phase
    if model and re.search(rf"(^|/){re.escape(model)}(_\d+)?/", path):
        return Phase.FORWARD
    return None


def starting(events: Iterable[Event]) -> tuple[float, float]:
    """Seconds in which graphs were traced, and in which anything was compiled besides."""
    tracing, compiling = [], []
    for event in events:
        if event.get("ph") != "X":
            continue
        if event["name"] == _TRACING:
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
    """Length of the union of intervals."""
    return sum(end - start for start, end in merged(intervals))


def named(
    events: Sequence[Event], case: str, hlo: Mapping[str, HloInstruction], model: str
) -> list[dict[str, Any]]:
    """The events for a person to look at: processes named by the case, operations by phase.

    What only marks the end of something, or a moment, is left out: it doubles the file.
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
    """Kind and name of an operation; None for whatever else a trace holds."""
    name = event.get("name", "")
    if event.get("ph") != "X" or name.startswith(END):
        return None
    args = event.get("args", {})
    if on_device:
        if _COPY.search(name):
            return "copy", name
        # Lines of whole operations, modules and graphs repeat what the streams' lines hold, and
        # some of them carry a `correlation_id` as well.
        return ("kernel", name) if "kernel_details" in args else None
    if "hlo_op" in args:
        return "XLA", args["hlo_op"]
    long_name = args.get("long_name", "")
    if long_name.startswith("Iterator::"):
        return "input pipeline", long_name
    if long_name:
        path, _, kind = long_name.rpartition(":")
        path = path.removeprefix("StatefulPartitionedCall/")
        # A call of a whole function: what runs in it is told by itself.
        if path.startswith("__inference_"):
            return None
        return "TensorFlow", f"{path} ({kind})" if path else kind
    return None


def _self_times(own: list[tuple[Event, Label]]) -> list[tuple[Event, Label, float]]:
    """Each event of one thread with its duration less what is nested in it."""
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
    """What a case's traces tell.

    Attributes:
        tracing_s, compiling_s: of the start.
        operations: of a few warm steps.
        devices: what each GPU did in them.
        file: for Perfetto.
    """

    tracing_s: float
    compiling_s: float
    operations: tuple[Operation, ...]
    devices: tuple[DeviceTime, ...]
    file: Path
