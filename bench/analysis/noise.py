"""Judges what disturbed a launch: which readings give a warning, and which make it invalid.

Plain data and pure functions; `bench.machine.counters` takes the readings. A launch is judged
only by these, never by its own time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from bench.schema.noise import SLOWED_BY, Noise
from bench.schema.warnings import DISTURBED, CaseWarning, Kind

# The limits of the signals, and their reasons.
# Idle daemons and the system's own work take less; more slows a loop that uses every core.
OTHER_WORK_MATTERS = 0.05
# A launch that uses every core has lost a quarter of the machine, so its figures do not show what
# the machine can do.
OTHER_WORK_VOIDS = 0.25
# What rounds to a percent; beside other work that matters, its name helps more than its size.
RAY_IS_NAMED = 0.005
# A hypervisor takes a few ticks for itself; a launch's throughput is exact to about 2%.
STEAL_MATTERS = 0.02
# Lower than for other work, which may run on idle cores; stolen time is always lost.
STEAL_VOIDS = 0.20
# On a quiet machine, a launch's own threads wait for each other's cores in 3 to 5% of the time;
# above this limit, other processes or too many threads make them wait.
CPU_PRESSURE_MATTERS = 0.20
# A launch that fits into memory never waits for pages.
MEMORY_PRESSURE_MATTERS = 0.01
# A quota cuts a period short only where it is used up; one in twenty costs about 5% of the time.
# It makes no launch invalid, because on such a machine it affects every launch.
QUOTA_MATTERS = 0.05


@dataclass(frozen=True, slots=True)
class _Signal:
    """A reading with its limits: above them it gives a warning, or makes a launch invalid."""

    reading: str
    kind: Kind
    matters_over: float
    voids_over: float = math.inf

    def warning(self, value: float, launch: int = 0) -> CaseWarning:
        """That the reading was `value` in this launch."""
        return CaseWarning(self.kind, self.kind.severity(value), launch)


_OTHERS = _Signal("other_work_share", Kind.OTHER_WORK, OTHER_WORK_MATTERS, OTHER_WORK_VOIDS)
_RAY = _Signal("ray_share", Kind.RAY, RAY_IS_NAMED)
_SIGNALS: tuple[_Signal, ...] = (
    _OTHERS,
    _RAY,
    _Signal("steal_share", Kind.STEAL, STEAL_MATTERS, STEAL_VOIDS),
    _Signal("gpu_other_processes", Kind.GPU_PROCESSES, 0, 0),
    _Signal("quota_throttled_share", Kind.QUOTA, QUOTA_MATTERS),
    _Signal("thermal_throttle_events", Kind.HEAT, 0),
    _Signal("cpu_pressure_share", Kind.CPU_PRESSURE, CPU_PRESSURE_MATTERS),
    _Signal("memory_pressure_share", Kind.MEMORY_PRESSURE, MEMORY_PRESSURE_MATTERS),
)


def voids(noise: Noise | None) -> str:
    """The reason why these readings make a launch invalid; empty where they do not."""
    known = [(signal, value) for signal in _SIGNALS if (value := _value(noise, signal)) is not None]
    over = [signal for signal, value in known if value > signal.voids_over]
    # Who is among the others is worth saying beside them, though it voids nothing itself.
    named = [_RAY] if _OTHERS in over else []
    found = [
        signal.warning(value).phrase
        for signal, value in known
        if signal in over or (signal in named and value > signal.matters_over)
    ]
    return DISTURBED + ", ".join(found) if found else ""


def matters(noise: Noise | None) -> list[str]:
    """A phrase for each reading above its limit for a warning; empty for a quiet launch."""
    return [warning.phrase for warning in warnings([(0, noise)])]


def warnings(launches: Iterable[tuple[int, Noise | None]]) -> list[CaseWarning]:
    """A warning for each signal above its limit in any launch, with the worst launch.

    Args:
        launches: (number from 0, readings) of each launch.
    """
    launches = list(launches)
    found = []
    for signal in _SIGNALS:
        known = [
            (value, launch)
            for launch, noise in launches
            if (value := _value(noise, signal)) is not None
        ]
        # The first of several launches with the same value.
        value, launch = max(known, key=lambda pair: (pair[0], -pair[1]), default=(0.0, 0))
        if value > signal.matters_over:
            found.append(signal.warning(value, launch))
    for launch, noise in launches:
        if slowed := _slowed(noise):
            found.append(CaseWarning(Kind.GPU_SLOWED, None, launch, slowed))
            break
    return found


def _value(noise: Noise | None, signal: _Signal) -> float | None:
    if noise is None:
        return None
    value: float | None = getattr(noise, signal.reading)
    others = (noise.other_work_share or 0.0) > OTHER_WORK_MATTERS
    # No second warning for pressure that is due to other work, and no part without the whole.
    if signal.reading == ("cpu_pressure_share" if others else "ray_share"):
        return None
    return value


def _slowed(noise: Noise | None) -> str:
    reasons = (noise.gpu_throttle_reasons or ()) if noise else ()
    return ", ".join(reason for reason in reasons if reason in SLOWED_BY)
