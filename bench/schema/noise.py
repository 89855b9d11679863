"""What disturbed a launch, as it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from bench.schema.bounds import Number, Plain, Size, Text

# Those of them that are a trouble: the others rest or were asked for, and a power cap is how
# many cards work at full load.
SLOWED_BY = frozenset(
    {"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"}
)


@dataclass(frozen=True, slots=True)
class Usage(Plain):
    """What only a launch's own process knows of its work.

    Attributes:
        cpu_s: CPU time of all its threads, and of processes that it waited for.
        wall_s: from the start of its work to the end.
        voluntary_switches: of its threads, such as waits for each other.
        involuntary_switches: of its threads, where the scheduler took the core away.
    """

    cpu_s: Size
    wall_s: Size
    voluntary_switches: Number | None = None
    involuntary_switches: Number | None = None


@dataclass(frozen=True, slots=True)
class Noise(Plain):
    """Readings over one launch, from the request to its end; None where not known.

    Shares are between 0 and 1; those "of the cores" are of the time of all cores that the
    suite may use together.

    Attributes:
        wall_s: length of the window that was read.
        steal_share: time of the cores that a hypervisor gave to others.
        other_work_share: busy time of the cores that neither the launch nor this suite's own
            processes spent. The kernel's work on their behalf (writing back pages, freeing
            the memory of ended processes) is in it; what others did on cores that the suite
            may not use is not, nor what they took of caches and memory bandwidth.
        cpu_pressure_share: wall time with a runnable thread, anyone's, that had no core.
        memory_pressure_share: wall time with a thread, anyone's, that waited for memory.
        quota_throttled_share: periods that the control groups' CPU quota cut short, in the
            group where they were most; None where no quota is set.
        thermal_throttle_events: rise of the CPU counter of throttling for heat that rose most.
        cpu_s: CPU time of the launch's own process.
        cpu_cores: cores that it kept busy on average, its CPU time over its wall time.
        voluntary_switches, involuntary_switches: its context switches.
        cpu_clock_hz: mean over the cores when the launch had just ended.
        gpu_clock_hz: of the streaming multiprocessors, likewise.
        gpu_throttle_reasons: what held the GPU's clock then, as NVML names it.
        gpu_other_processes: that computed on the GPU before or at the end; those that draw
            a screen are left out.
    """

    wall_s: Size | None = None
    steal_share: Size | None = None
    other_work_share: Size | None = None
    cpu_pressure_share: Size | None = None
    memory_pressure_share: Size | None = None
    quota_throttled_share: Size | None = None
    thermal_throttle_events: Number | None = None
    cpu_s: Size | None = None
    cpu_cores: Size | None = None
    voluntary_switches: Number | None = None
    involuntary_switches: Number | None = None
    cpu_clock_hz: Size | None = None
    gpu_clock_hz: Size | None = None
    gpu_throttle_reasons: tuple[Text, ...] | None = None
    gpu_other_processes: Number | None = None

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not below 0: {value}")
