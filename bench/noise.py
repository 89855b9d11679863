"""What disturbed a launch: the readings, when they matter, and when they void it.

Plain data and pure functions; `bench.counters` reads, and a launch is judged by its
readings alone, never by its own time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from bench.bounds import Number, Size, Text, checked
from bench.nvml import SLOWED_BY

# Where a signal begins to matter, and why.
# Idle daemons and the system's own work stay below; more is missing from a loop that uses
# every core.
OTHER_WORK_MATTERS = 0.05
# From here on a launch that would use every core lost a quarter of the machine: no figure of it
# says what the machine can do.
OTHER_WORK_VOIDS = 0.25
# A hypervisor takes a few ticks for itself; 2% is what a launch's throughput is trusted to.
STEAL_MATTERS = 0.02
# Stolen time is lost for sure, while other work may run beside: so a lower limit.
STEAL_VOIDS = 0.20
# A launch's own threads wait for each other's cores in 3 to 5% of the time on a quiet machine;
# here others, or more threads than cores, keep them waiting.
CPU_PRESSURE_MATTERS = 0.20
# A launch whose threads all fit into memory never waits for pages.
MEMORY_PRESSURE_MATTERS = 0.01
# A quota ends a period early only where it is used up: one in twenty costs about as much time.
# It voids nothing, because on such a machine every launch meets it.
QUOTA_MATTERS = 0.05

DISTURBED = "disturbed: "


@dataclass(frozen=True, slots=True)
class Usage:
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

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` wrote; fields of another version are ignored.

        Raises:
            ValueError: a field is missing or out of bounds; it is named.
        """
        return checked(values, cls)


@dataclass(frozen=True, slots=True)
class Noise:
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

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `dataclasses.asdict` gave; fields of a later version are ignored.

        Raises:
            ValueError: a field is out of bounds; it is named.
        """
        return checked(values, cls)


@dataclass(frozen=True, slots=True)
class _Signal:
    """A reading that can matter: over which value, and what it says then."""

    reading: str
    matters_over: float
    says: str
    voids_over: float = math.inf


_SIGNALS: tuple[_Signal, ...] = (
    _Signal(
        "other_work_share",
        OTHER_WORK_MATTERS,
        "other processes took {:.0%} of the cores",
        OTHER_WORK_VOIDS,
    ),
    _Signal(
        "steal_share",
        STEAL_MATTERS,
        "the hypervisor took {:.0%} of the cores' time",
        STEAL_VOIDS,
    ),
    _Signal("gpu_other_processes", 0, "processes of others on the GPU: {:.0f}", 0),
    _Signal(
        "quota_throttled_share",
        QUOTA_MATTERS,
        "the control group's CPU quota cut {:.0%} of its periods short",
    ),
    _Signal("thermal_throttle_events", 0, "throttled for heat, times a core: {:.0f}"),
    _Signal(
        "cpu_pressure_share",
        CPU_PRESSURE_MATTERS,
        "threads waited for a core in {:.0%} of the time",
    ),
    _Signal(
        "memory_pressure_share",
        MEMORY_PRESSURE_MATTERS,
        "threads waited for memory in {:.0%} of the time",
    ),
)


def voids(noise: Noise | None) -> str:
    """Why these readings void a launch, as its reason; empty where they do not."""
    found = [
        signal.says.format(value)
        for signal in _SIGNALS
        if (value := _value(noise, signal)) is not None and value > signal.voids_over
    ]
    return DISTURBED + ", ".join(found) if found else ""


def matters(noise: Noise | None) -> list[str]:
    """What of these readings a reader must know, a phrase each; none for a quiet launch."""
    found = [
        signal.says.format(value)
        for signal in _SIGNALS
        if (value := _value(noise, signal)) is not None and value > signal.matters_over
    ]
    return found + ([f"the GPU was slowed by {slowed}"] if (slowed := _slowed(noise)) else [])


def warnings(launches: Iterable[tuple[int, Noise | None]]) -> list[str]:
    """A warning for each signal that matters in some launch, naming the worst one.

    Args:
        launches: number of each launch, 0 for the first, and its readings.
    """
    launches = list(launches)
    found = []
    for signal in _SIGNALS:
        known = [
            (value, launch)
            for launch, noise in launches
            if (value := _value(noise, signal)) is not None
        ]
        # The first of equals.
        value, launch = max(known, key=lambda pair: (pair[0], -pair[1]), default=(0.0, 0))
        if value > signal.matters_over:
            found.append(f"{DISTURBED}{signal.says.format(value)} in launch {launch + 1}")
    for launch, noise in launches:
        if slowed := _slowed(noise):
            found.append(f"{DISTURBED}the GPU was slowed by {slowed} in launch {launch + 1}")
            break
    return found


def _value(noise: Noise | None, signal: _Signal) -> float | None:
    if noise is None:
        return None
    value: float | None = getattr(noise, signal.reading)
    # Pressure that other work explains is said already.
    explained = (noise.other_work_share or 0.0) > OTHER_WORK_MATTERS
    return None if signal.reading == "cpu_pressure_share" and explained else value


def _slowed(noise: Noise | None) -> str:
    reasons = (noise.gpu_throttle_reasons or ()) if noise else ()
    return ", ".join(reason for reason in reasons if reason in SLOWED_BY)
