"""Readings of what disturbed a launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

from bench.schema.bounds import Number, Plain, Size, Text

# The throttle reasons of NVML that count as a disturbance. The others are idle states or settings
# that somebody chose; a power cap is how many cards work at full load.
SLOWED_BY = frozenset(
    {"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"}
)

# Of several machines that wait for each other, the most disturbed one slows all.
_LARGEST = (
    "wall_s",
    "steal_share",
    "other_work_share",
    "ray_share",
    "cpu_pressure_share",
    "memory_pressure_share",
    "quota_throttled_share",
    "thermal_throttle_events",
    "gpu_other_processes",
)


@dataclass(frozen=True, slots=True)
class Usage(Plain):
    """What only a launch's own process knows of its work.

    Attributes:
        cpu_s: CPU seconds of all its threads, and of processes that it waited for.
        wall_s: seconds from the start of its work to the end.
        voluntary_switches: context switches of its threads to wait, such as for each other.
        involuntary_switches: context switches where the scheduler took the core away.
    """

    cpu_s: Size
    wall_s: Size
    voluntary_switches: Number | None = None
    involuntary_switches: Number | None = None


@dataclass(frozen=True, slots=True)
class Noise(Plain):
    """Readings over one launch, from the request to its end; None where not known.

    Shares are between 0 and 1. A share "of the cores" is a share of the time of all cores that
    the suite may use.

    Attributes:
        wall_s: seconds of the window that was read.
        steal_share: share of the cores that a hypervisor gave to others.
        other_work_share: share of the cores that was busy with work of others: neither of the
            launch nor of this suite's processes. It includes the kernel's work for the suite,
            such as writing back pages and freeing the memory of ended processes. It leaves out
            cores that the suite may not use, and the use of caches and memory bandwidth.
        ray_share: the part of it, as a share of the cores, that Ray's own daemons took; None where
            none runs. Those on cores that the suite may not use count as well.
        cpu_pressure_share: share of the wall time in which any runnable thread of the system had
            no core.
        memory_pressure_share: share of the wall time in which any thread of the system waited
            for memory.
        quota_throttled_share: share of the periods that a control group's CPU quota cut short,
            in the group with the largest share; None where no quota is set.
        thermal_throttle_events: the largest rise of a CPU's counter of thermal throttling.
        cpu_s: CPU seconds of the launch's own process.
        cpu_cores: cores that it kept busy on average: its CPU time over its wall time.
        voluntary_switches, involuntary_switches: its context switches.
        cpu_clock_hz: mean over the cores just after the launch ended.
        gpu_clock_hz: clock of the streaming multiprocessors just after the launch ended; of
            several GPUs the lowest.
        gpu_throttle_reasons: why the clock of any of its GPUs was held down then, in NVML's names.
        gpu_other_processes: other processes that computed on the GPU before or at the end, of
            several GPUs on the fullest; those that draw a screen are left out, and launches of
            this suite that take turns with it.

    Raises:
        ValueError: a number is not finite or below 0.
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
    ray_share: Size | None = None

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not below 0: {value}")


def worst(every: Sequence[Noise]) -> Noise:
    """The noise of a launch that ran on several machines: of each reading the worst.

    That is the largest, of clocks the lowest, and of reasons all. What a launch told of its own
    work is of the first machine.
    """
    first = every[0]

    def known(name: str) -> list[Any]:
        """The values of a reading that are known."""
        values = (getattr(noise, name) for noise in every)
        return [value for value in values if value is not None]

    reasons = list(dict.fromkeys(chain.from_iterable(known("gpu_throttle_reasons"))))
    return replace(
        first,
        **{name: max(known(name), default=None) for name in _LARGEST},
        **{name: min(known(name), default=None) for name in ("cpu_clock_hz", "gpu_clock_hz")},
        gpu_throttle_reasons=tuple(reasons) if known("gpu_throttle_reasons") else None,
    )
