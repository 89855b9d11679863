"""The tables of a profile: phases, operations, memory, stages of the start, and GPU time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis import phases
from bench.analysis.collectives import collectives_share
from bench.analysis.phases import Split
from bench.analysis.trace_events import Trace
from bench.schema.case import Case
from bench.schema.profile import ProfileRecord, Variant

PHASE_COLUMNS = (
    "case",
    "phase",
    "share",
    "seconds_per_step",
    "low_s",
    "high_s",
    "step_s",
    "epoch_step_s",
    "rounds",
    "steps",
    "trace_overhead",
    "sampler_overhead",
    "collectives_share",
    "status",
    "reason",
    "warnings",
)
OPERATION_COLUMNS = (
    "case",
    "operation",
    "kind",
    "phase",
    "count",
    "count_per_step",
    "total_s",
    "self_s",
    "share",
    "flops_per_s",
)
MEMORY_COLUMNS = ("case", "where", "holder", "bytes", "share")
STARTUP_COLUMNS = ("case", "stage", "seconds")
DEVICE_COLUMNS = ("case", "device", "window_s", "kernels_s", "copies_s", "gaps", "gaps_s")
REST = "workspace and the rest"


@dataclass(frozen=True, slots=True)
class Profile:
    """One case, profiled.

    Attributes:
        split, trace: the phases, and the traces' contents; None where the case did not end ok.
        stack: the file with the samples of Python's stack; None where it was not sampled.
    """

    record: ProfileRecord
    split: Split | None = None
    trace: Trace | None = None
    stack: Path | None = None

    @property
    def case(self) -> Case:
        """What was profiled."""
        return self.record.case

    @property
    def collectives_share(self) -> float | None:
        """The share of the operations' time in which replicas exchange what they computed.

        None for one replica, and where the trace names no such operation.
        """
        if self.trace is None or self.case.replicas == 1:
            return None
        return collectives_share(self.trace.operations)

    def overhead(self, variant: Variant) -> float | None:
        """How much longer a step takes under a profiler, as a share."""
        readings = self.record.readings
        if readings is None:
            return None
        wall_s = readings.wall_s
        return phases.overhead(wall_s.get(variant, ()), wall_s[Variant.STEP])


def phase_rows(profile: Profile) -> list[dict[str, Any]]:
    """One row for each phase, with the keys `PHASE_COLUMNS`; one row with the reason if none."""
    record = profile.record
    row: dict[str, Any] = {
        **dict.fromkeys(PHASE_COLUMNS),
        "case": record.case.id,
        "phase": "",
        "status": str(record.status),
        "reason": record.reason,
        "warnings": "; ".join(record.warnings),
    }
    if profile.split is None or record.readings is None:
        return [row]
    row |= {
        "step_s": profile.split.step_s,
        "epoch_step_s": record.readings.epoch_step_s,
        "rounds": len(record.readings.wall_s[Variant.STEP]),
        "steps": record.readings.steps,
        "trace_overhead": profile.overhead(Variant.TRACED),
        "sampler_overhead": profile.overhead(Variant.SAMPLED),
        "collectives_share": profile.collectives_share,
    }
    return [
        {
            **row,
            "phase": str(share.phase),
            "share": share.share,
            "low_s": share.low,
            "high_s": share.high,
            "seconds_per_step": share.seconds,
        }
        for share in profile.split.shares
    ]


def memory_rows(record: ProfileRecord) -> list[dict[str, Any]]:
    """One row for each holder of memory on host and device, and one for the rest up to the peak.

    The rows of a place add up to its peak. On a CPU all holders are on the host.
    """
    readings = record.readings
    if readings is None:
        return []
    rows = []
    for where, peak in (("host", readings.peak_host_bytes), ("device", readings.peak_device_bytes)):
        own = [(holder, size) for place, holder, size in readings.memory if place == where]
        if peak is None:
            continue
        own.append((REST, peak - sum(size for _, size in own)))
        rows += [
            {
                "case": record.case.id,
                "where": where,
                "holder": holder,
                "bytes": size,
                "share": size / peak,
            }
            for holder, size in own
        ]
    return rows


def startup_rows(profile: Profile) -> list[dict[str, Any]]:
    """One row for each stage of the start, in seconds; the trace gives tracing and compiling."""
    readings, trace = profile.record.readings, profile.trace
    if readings is None or trace is None:
        return []
    stages = dict(readings.startup_s)
    first_s = stages.pop("first steps")
    stages |= {"trace": trace.tracing_s, "compile": trace.compiling_s}
    stages["first steps"] = first_s - trace.tracing_s - trace.compiling_s
    case = profile.case.id
    return [{"case": case, "stage": name, "seconds": s} for name, s in stages.items()]


def operation_rows(profile: Profile) -> list[dict[str, Any]]:
    """One row for each operation of the traced steps."""
    readings, trace = profile.record.readings, profile.trace
    if readings is None or trace is None:
        return []
    return [
        {
            "case": profile.case.id,
            "operation": found.name,
            "kind": found.kind,
            "phase": found.phase and str(found.phase),
            "count": found.count,
            "count_per_step": found.count / readings.traced_steps,
            "total_s": found.total_s,
            "self_s": found.self_s,
            "share": found.share,
            "flops_per_s": found.flops_per_s,
        }
        for found in trace.operations
    ]


def device_rows(profile: Profile) -> list[dict[str, Any]]:
    """One row for each GPU that was traced."""
    times = profile.trace.devices if profile.trace else ()
    return [
        {"case": profile.case.id, **{name: getattr(t, name) for name in DEVICE_COLUMNS[1:]}}
        for t in times
    ]
