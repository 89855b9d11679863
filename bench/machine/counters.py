"""Reads the system's counters around a launch, and makes a `bench.schema.noise.Noise` of them.

A value that a system does not count, does not show or writes in an unknown form is None. Nothing
here raises. Of Linux's counters psutil has no pressure, no throttling and no quota. Its times of
each CPU do not say which CPU they are of, so they cannot be used where a CPU is offline.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from bench.machine import hardware
from bench.machine.daemons import ray_daemons_s, risen_s
from bench.machine.nvml import Gpu, GpuUse, gpu_use
from bench.schema.noise import Noise, Usage

_K = TypeVar("_K")
_Number = TypeVar("_Number", int, float)
Close = Callable[[Usage | None], Noise]
Watch = Callable[[int, Mapping[Gpu, int], bool], Close]

_PROC = Path("/proc")
_SYS = Path("/sys")
# The kernel counts the cores' time in ticks of 10 ms; a shorter window has too few of them.
SHORTEST_S = 0.5
# proc(5), /proc/stat; user and nice already include the time of guests.
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_NOT_BUSY = frozenset({"idle", "iowait", "steal"})
_IN_PSUTIL_NOT_BUSY = frozenset({"idle", "iowait", "steal", "guest", "guest_nice"})


def watch(
    pid: int, gpus: Mapping[Gpu, int], forks: bool = True, beside: Collection[int] = ()
) -> Close:
    """Start the readings of one launch; call the returned function to end and get them.

    Args:
        pid: process id of the worker that will serve the launch, itself or by a fork.
        gpus: the GPUs that the launch uses, each with the number of launches of this suite that
            use it at once; empty on a CPU.
        forks: the launch is a fork of that worker; its readings are the same.
        beside: processes of this suite on this machine that this one has not started; their work
            and that of what they started is no work of others.
    """
    before = _read(gpus, beside)

    def close(usage: Usage | None) -> Noise:
        """The readings since the start; `usage` is what the launch reported, None if nothing."""
        return _noise(before, _read(gpus, beside), usage, pid, hardware.cpu_clock_hz())

    return close


@dataclass(frozen=True, slots=True)
class _CoreTimes:
    """Seconds of all cores that this process may use, since the system started."""

    total_s: float
    busy_s: float
    steal_s: float | None


@dataclass(frozen=True, slots=True)
class _Counters:
    """The counters at one moment; they count up."""

    at_s: float
    cores: _CoreTimes | None
    own_s: float | None
    ray_s: Mapping[int, float]
    cpu_pressure_s: float | None
    memory_pressure_s: float | None
    quota_periods: Mapping[Path, tuple[int, int]]
    thermal: Mapping[Path, int]
    gpus: Mapping[Gpu, GpuUse]
    # Launches of this suite that use each at once.
    launches: Mapping[Gpu, int]


def _read(gpus: Mapping[Gpu, int], beside: Collection[int] = ()) -> _Counters:
    return _Counters(
        at_s=time.perf_counter(),
        cores=_core_times(),
        own_s=_own_tree_s(beside),
        ray_s=ray_daemons_s(),
        cpu_pressure_s=_pressure_s("cpu"),
        memory_pressure_s=_pressure_s("memory"),
        quota_periods=hardware.cgroup_cpu_periods(),
        thermal=_thermal_counts(),
        gpus={gpu: gpu_use(gpu) for gpu in gpus},
        launches=gpus,
    )


def _noise(
    before: _Counters, after: _Counters, usage: Usage | None, pid: int, clock_hz: float | None
) -> Noise:
    wall_s = after.at_s - before.at_s
    total_s = steal_s = other_s = None
    if before.cores and after.cores and wall_s >= SHORTEST_S:
        total_s = after.cores.total_s - before.cores.total_s
        steal_s = _rise(before.cores.steal_s, after.cores.steal_s)
        busy_s, own_s = after.cores.busy_s - before.cores.busy_s, _rise(before.own_s, after.own_s)
        # Ticks are coarse, so own time may come out above all busy time.
        other_s = None if own_s is None or busy_s < 0 else max(0.0, busy_s - own_s)
    cpu_stalled_s = _rise(before.cpu_pressure_s, after.cpu_pressure_s)
    memory_stalled_s = _rise(before.memory_pressure_s, after.memory_pressure_s)
    return Noise(
        wall_s=wall_s,
        steal_share=_share(steal_s, total_s),
        other_work_share=_share(other_s, total_s),
        ray_share=_share(risen_s(before.ray_s, after.ray_s), total_s),
        cpu_pressure_share=_share(cpu_stalled_s, wall_s),
        memory_pressure_share=_share(memory_stalled_s, wall_s),
        quota_throttled_share=_throttled_share(before.quota_periods, after.quota_periods),
        thermal_throttle_events=_largest_rise(before.thermal, after.thermal),
        **of_usage(usage),
        cpu_clock_hz=clock_hz,
        gpu_clock_hz=min(_known(use.clock_hz for use in after.gpus.values()), default=None),
        gpu_throttle_reasons=_throttle_reasons(after.gpus.values()),
        gpu_other_processes=max(
            _known(_others_on(gpu, before, after, pid) for gpu in after.gpus), default=None
        ),
    )


def of_usage(usage: Usage | None) -> dict[str, Any]:
    """The fields of a `Noise` that a launch tells of itself; None where it told nothing."""
    return {
        "cpu_s": usage.cpu_s if usage else None,
        "cpu_cores": usage.cpu_s / usage.wall_s if usage and usage.wall_s > 0 else None,
        "voluntary_switches": usage.voluntary_switches if usage else None,
        "involuntary_switches": usage.involuntary_switches if usage else None,
    }


def _core_times() -> _CoreTimes | None:
    if sys.platform != "linux":
        return _core_times_elsewhere()
    usable = hardware.cpu_affinity()
    total = busy = steal = 0.0
    has_steal, found = True, False
    for name, *ticks in map(str.split, _text(_PROC / "stat").splitlines()):
        core = re.fullmatch(r"cpu(\d+)", name)
        if core is None or (usable is not None and int(core[1]) not in usable):
            continue
        try:
            times = dict(zip(_FIELDS, map(int, ticks), strict=False))
        except ValueError:
            return None
        found = True
        has_steal = has_steal and "steal" in times
        steal += times.get("steal", 0)
        total += sum(times.values())
        busy += sum(spent for kind, spent in times.items() if kind not in _NOT_BUSY)
    if not found:
        return None
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return _CoreTimes(total * tick_s, busy * tick_s, steal * tick_s if has_steal else None)


def _core_times_elsewhere() -> _CoreTimes | None:
    """Times of all cores, on macOS and Windows: times of the usable ones alone are not known."""
    import psutil

    try:
        times = psutil.cpu_times()._asdict()
    except (OSError, psutil.Error):
        return None
    busy = math.fsum(s for kind, s in times.items() if kind not in _IN_PSUTIL_NOT_BUSY)
    return _CoreTimes(busy + times["idle"] + times.get("iowait", 0.0), busy, None)


def _own_tree_s(beside: Collection[int] = ()) -> float | None:
    """CPU seconds of this process and of all that it started; None where not readable.

    These are workers, launches that the workers waited for, and launches that are measured in
    turns with this one. Those of `beside` and of what these started count as well.
    """
    import psutil

    waited = os.times()
    spent_s = time.process_time() + waited.children_user + waited.children_system
    try:
        trees = list(psutil.Process().children(recursive=True))
        for pid in beside:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                trees += [root, *root.children(recursive=True)]
        # The driver of a cluster may have started this process, or this one the driver.
        for process in set(trees) - {psutil.Process()}:
            # The time of a process that has ended is in the times of the one that waited for it.
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent_s += times.user + times.system + times.children_user + times.children_system
    except (OSError, psutil.Error):
        return None
    return spent_s


def _pressure_s(resource: str) -> float | None:
    """Seconds since the system started in which some thread waited for `resource` (kernel PSI)."""
    text = _text(_PROC / "pressure" / resource)
    found = re.search(r"^some .*\btotal=(\d+)$", text, re.MULTILINE)
    return int(found[1]) / 1e6 if found else None


def _thermal_counts() -> dict[Path, int]:
    """Thermal throttle events so far, by counter; cores that share hardware count the same."""
    files = (_SYS / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    return {file: int(text) for file in files if (text := _text(file).strip()).isdecimal()}


def _throttled_share(
    before: Mapping[Path, tuple[int, int]], after: Mapping[Path, tuple[int, int]]
) -> float | None:
    shares = [
        _share(_rise(before[group][1], throttled), _rise(before[group][0], periods))
        for group, (periods, throttled) in after.items()
        if group in before
    ]
    return max((share for share in shares if share is not None), default=None)


def _throttle_reasons(uses: Iterable[GpuUse]) -> tuple[str, ...] | None:
    """The reasons of any of several GPUs, each once; None where none is known."""
    known = list(_known(use.throttle_reasons for use in uses))
    return tuple(dict.fromkeys(chain.from_iterable(known))) if known else None


def _others_on(gpu: Gpu, before: _Counters, after: _Counters, pid: int) -> int | None:
    """The larger count of strangers on a GPU of the two readings, without launches of this suite.

    In a container NVML may give the host's process id of the launch. So after the launch one
    process is subtracted, whether its id is `pid` or not, and where launches take turns, one for
    each of them: before and after, as those that began earlier are there already.
    """
    ours = after.launches[gpu]
    first, last = (counters.gpus[gpu].compute_pids for counters in (before, after))
    counts = []
    if first is not None:
        counts.append(max(0, len(first - {pid}) - (ours - 1)))
    if last is not None:
        counts.append(max(0, len(last) - ours))
    return max(counts, default=None)


def _known(values: Iterable[_K | None]) -> Iterator[_K]:
    return (value for value in values if value is not None)


def _rise(before: _Number | None, after: _Number | None) -> _Number | None:
    """How far a counter rose; None where it is not known, or was reset in between."""
    return None if before is None or after is None or after < before else after - before


def _largest_rise(before: Mapping[_K, int], after: Mapping[_K, int]) -> int | None:
    rises = [count - before[key] for key, count in after.items() if key in before]
    return max((rise for rise in rises if rise >= 0), default=None)


def _share(part: float | None, whole: float | None) -> float | None:
    """`part` over `whole`, limited to 1, because the two are not read at the same moment."""
    return None if part is None or whole is None or whole <= 0 else min(1.0, part / whole)


def _text(file: Path) -> str:
    """The text of the file; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
