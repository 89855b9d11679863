"""What a profiling launch reports, and the parts of a step, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bench.schema.bounds import Count, Number, Plain, Positive, Size, Text
from bench.schema.case import Case
from bench.schema.launch import Status


@dataclass(frozen=True, slots=True)
class Readings(Plain):
    """What a profiling launch reports.

    Attributes:
        rows: training images of each reading.
        steps: optimizer steps of each reading.
        wall_s, cpu_s: seconds of one step by `Variant`, one value for each round.
        epoch_step_s: seconds of one step of the whole loop, in an epoch over all images.
        traced_steps: number of steps in the saved trace.
        startup_s: seconds by stage, in order. The last, `first steps`, includes tracing and
            compiling; the trace of the start separates them.
        memory: (place, holder, bytes); the place is `host` or `device`.
        peak_host_bytes: peak memory of the whole process; None where the system cannot tell.
        peak_device_bytes: peak of the device's allocator; None on a CPU.
        model_name: the name that Keras gives to its operations in a trace.
        stack: (function, share of the samples with that function on top of Python's stack).
    """

    rows: Count
    steps: Count
    wall_s: Mapping[Text, Sequence[Positive]]
    cpu_s: Mapping[Text, Sequence[Size]]
    epoch_step_s: Positive
    traced_steps: Count
    startup_s: Mapping[Text, Size]
    memory: Sequence[tuple[Text, Text, Number]]
    peak_host_bytes: Number | None
    peak_device_bytes: Number | None
    jit_compile: bool
    model_name: Text
    device_name: Text | None
    stack: Sequence[tuple[Text, Size]] = ()


@dataclass(frozen=True, slots=True)
class ProfileRecord(Plain):
    """How the profile of one case ended.

    Attributes:
        reason: one line; empty where the status is ok.
        readings: what the launch reported; None where it reported nothing.
        total_s: seconds of the whole profile.
        warnings: what a reader must know to read the figures.
    """

    case: Case
    status: Status
    reason: str = ""
    readings: Readings | None = None
    total_s: float = 0.0
    warnings: tuple[str, ...] = field(default=())


class Phase(StrEnum):
    """A part of a step, in the order of the stacked bars."""

    INPUT = "input pipeline"
    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer update"
    METRICS = "metrics"
    PYTHON = "Python and dispatch"
    IDLE = "idle"
    UNEXPLAINED = "unexplained"


class Variant(StrEnum):
    """Which parts of a step a reading includes.

    `STEP` is the whole loop. `TRACED` is the whole loop under the framework's profiler, `SAMPLED`
    under the sampler of Python's stack.
    """

    DISPATCH = "dispatch"
    INPUT = "input"
    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    METRICS = "metrics"
    STEP = "step"
    TRACED = "traced"
    SAMPLED = "sampled"


_WITHOUT_INPUT = (
    Variant.DISPATCH,
    Variant.FORWARD,
    Variant.BACKWARD,
    Variant.OPTIMIZER,
    Variant.METRICS,
)
CHAINS: Mapping[str, tuple[Variant, ...]] = {
    "fit": (*_WITHOUT_INPUT, Variant.INPUT),
    "multistep": (*_WITHOUT_INPUT, Variant.INPUT),
    "compiled": (Variant.DISPATCH, Variant.INPUT, *_WITHOUT_INPUT[1:]),
}
