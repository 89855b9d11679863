"""CPU time and context switches of a launch, read in its own process."""

from __future__ import annotations

import time

from bench.machine.counters import _rise
from bench.schema.noise import Usage


class OwnUsage:
    """CPU time and context switches of this process since this object was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._before = _own_totals()

    def so_far(self) -> Usage:
        """The usage so far."""
        wall_s = time.perf_counter() - self._started
        then, now = self._before, _own_totals()
        return Usage(
            cpu_s=now[0] - then[0],
            wall_s=wall_s,
            voluntary_switches=_rise(then[1], now[1]),
            involuntary_switches=_rise(then[2], now[2]),
        )


def _own_totals() -> tuple[float, int | None, int | None]:
    """CPU seconds, voluntary and involuntary context switches of this process so far."""
    try:
        import resource
    except ImportError:  # Windows
        return time.process_time(), None, None
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return cpu_s, own.ru_nvcsw, own.ru_nivcsw
