"""What a profiling launch is asked for and what it answers, as plain data."""

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
        rows, steps: that each reading trained, of the images and of the optimizer.
        wall_s, cpu_s: seconds of a step by `Variant`, a value a round.
        epoch_step_s: of a step in one epoch over all images, before anything was left out.
        traced_steps: that the saved trace shows.
        startup_s: seconds by stage, in order; the last, `first steps`, holds tracing and compiling,
            which the trace of the start tells apart.
        memory: (where, holder, bytes), where being `host` or `device`.
        peak_host_bytes: of the whole process; None where the system cannot tell.
        peak_device_bytes: of the device's allocator; None on a CPU.
        model_name: Keras's, under which its operations stand in a trace.
        stack: (function, share of the samples in it and not below), of Python's own stack.
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
        readings: None where there are none.
        warnings: what a reader must know.
    """

    case: Case
    status: Status
    reason: str = ""
    readings: Readings | None = None
    total_s: float = 0.0
    warnings: tuple[str, ...] = field(default=())


class Phase(StrEnum):
    """A part of a step, in the order in which pictures stack them."""

    INPUT = "input pipeline"
    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer update"
    METRICS = "metrics"
    PYTHON = "Python and dispatch"
    IDLE = "idle"
    UNEXPLAINED = "unexplained"


class Variant(StrEnum):
    """What one reading of a step leaves in.

    `STEP` is the loop as it is; `TRACED` and `SAMPLED` are it under TensorFlow's profiler and
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
