"""The processor and the memory, and how much of them this process may use.

A fact that this system does not report is None. Most facts are from psutil, which has no control
groups, caches, governors and names of processors. py-cpuinfo starts other processes to find such a
name, so it is asked last.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

_VECTOR_FLAG = re.compile(r"sse4_2|avx.*|amx_.*|fma|f16c|asimd.*|sve.*|bf16|i8mm|rvv|vsx")
_CACHES_OF_MACOS = {
    "hw.l1dcachesize": "L1d",
    "hw.l1icachesize": "L1i",
    "hw.l2cachesize": "L2",
    "hw.l3cachesize": "L3",
}
_NO_LIMIT_BYTES = 2**60
# Root, mount point, version and super options of a mounted hierarchy: proc(5), mountinfo.
_MOUNT = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .*- cgroup(2?) \S+ (\S+)")
_PROC = Path("/proc")
_SYS = Path("/sys")


def cpu_facts() -> dict[str, Any]:
    """Facts of the CPU and of the part of it that this process may use; units in the keys."""
    import psutil

    clock = _clock()
    return {
        "model": cpu_model(),
        "cores_logical": psutil.cpu_count(),
        "cores_physical": psutil.cpu_count(logical=False),
        "sockets": _sockets(),
        "affinity": cpu_affinity(),
        "cgroup_quota_cpus": cgroup_cpu_quota(),
        "frequency_hz": cpu_clock_hz(),
        "frequency_max_hz": round(clock.max * 1e6) or None if clock else None,
        "governor": _governor(),
        "caches_bytes": _caches() or None,
        "vector_extensions": _vector_extensions(),
    }


def cpu_clock_hz() -> int | None:
    """The current clock, as the mean over the cores; None where not known."""
    clock = _clock()
    return round(clock.current * 1e6) or None if clock else None


def memory_bytes() -> int:
    """Bytes of physical memory."""
    import psutil

    return int(psutil.virtual_memory().total)


@functools.cache
def cpu_model() -> str:
    """The processor's name as its maker writes it; the architecture where it is not known."""
    brand = _brand_of_linux() or _brand_of_macos() or _brand_of_windows() or _brand_elsewhere()
    return " ".join(brand.split())


def cpu_affinity() -> list[int] | None:
    """The logical CPUs that this process may use, ascending; None where not known (macOS)."""
    getaffinity = getattr(os, "sched_getaffinity", None)
    if getaffinity is not None:
        return sorted(getaffinity(0))
    import psutil

    try:
        return sorted(psutil.Process().cpu_affinity())
    except (AttributeError, OSError, psutil.Error):
        return None


def cgroup_cpu_quota() -> float | None:
    """CPU seconds per second that the control groups allow; None where there is no limit.

    The smallest of cpu.max (v2) or cpu.cfs_quota_us / cpu.cfs_period_us (v1), from this
    process's group up to the root that it can see.
    """
    quotas = []
    for group in _cgroups("cpu"):
        text = _read(group / "cpu.max") or (
            f"{_read(group / 'cpu.cfs_quota_us')} {_read(group / 'cpu.cfs_period_us')}"
        )
        if found := re.fullmatch(r"([1-9]\d*) ([1-9]\d*)", text):
            quotas.append(int(found[1]) / int(found[2]))
    return min(quotas, default=None)


def cgroup_cpu_periods() -> dict[Path, tuple[int, int]]:
    """(periods, throttled periods) of the CPU quota so far, by control group.

    Read from cpu.stat (v1 and v2) of this process's group and of its parents, where they have a
    quota. Groups in which no period has passed yet are left out.
    """
    found = {}
    for group in _cgroups("cpu"):
        lines = (_read(group / "cpu.stat") or "").splitlines()
        counts = dict(line.split(" ", 1) for line in lines if re.fullmatch(r"\S+ \d+", line))
        periods, throttled = int(counts.get("nr_periods", 0)), counts.get("nr_throttled")
        if periods and throttled is not None:
            found[group] = (periods, int(throttled))
    return found


def cgroup_memory_limit_bytes() -> int | None:
    """The smallest memory limit of the control groups, v1 or v2; None where there is none."""
    return min((limit for _, limit in _memory_limits()), default=None)


def memory_available_bytes() -> int:
    """Bytes that a process can take without swapping, by the machine and its control groups."""
    import psutil

    available = [int(psutil.virtual_memory().available)]
    for group, limit in _memory_limits():
        used = _read(group / "memory.current") or _read(group / "memory.usage_in_bytes") or ""
        # The system takes such pages back where memory is short.
        cached = re.search(r"^inactive_file (\d+)$", _read(group / "memory.stat") or "", re.M)
        if used.isdecimal():
            available.append(limit - int(used) + (int(cached[1]) if cached else 0))
    return min(available)


def _memory_limits() -> Iterator[tuple[Path, int]]:
    """The control groups with a memory limit, v1 or v2, and the limit in bytes."""
    for group in _cgroups("memory"):
        text = _read(group / "memory.max") or _read(group / "memory.limit_in_bytes") or ""
        # v1 writes "no limit" as the largest number of whole pages.
        if text.isdecimal() and int(text) < _NO_LIMIT_BYTES:
            yield group, int(text)


def command_output(
    *command: str, environ: Mapping[str, str] | None = None, any_exit: bool = False
) -> str | None:
    """The stripped standard output of `command`; None if it cannot start or takes over 10 s.

    None also where it fails, unless `any_exit`.
    """
    try:
        ended = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip() if any_exit or ended.returncode == 0 else None


def _clock() -> Any:
    """Clock frequencies of psutil in MHz; None where it cannot read them."""
    import psutil

    try:
        return psutil.cpu_freq()
    except (AttributeError, NotImplementedError, OSError, RuntimeError):
        return None


def _cgroups(controller: str) -> Iterator[Path]:
    """Folders of this process's control groups, in each hierarchy from the group to the root.

    A group's path is relative to the root of its hierarchy, and a container may mount another
    folder than that root: cgroups(7). For a group outside the mount, the mount's top is taken.
    """
    paths: dict[str, str] = {}
    for line in (_read(_PROC / "self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for line in (_read(_PROC / "self/mountinfo") or "").splitlines():
        mounted = _MOUNT.fullmatch(line)
        if mounted is None:
            continue
        root, mount, version, options = mounted.groups()
        # /proc/self/cgroup lists no controllers for the one hierarchy of v2.
        key = "" if version == "2" else controller
        if key not in paths or not (version == "2" or controller in options.split(",")):
            continue
        group = PurePosixPath(paths[key])
        outside = ".." in group.parts or not group.is_relative_to(root)
        inner = PurePosixPath() if outside else group.relative_to(root)
        for folder in (inner, *inner.parents):
            yield Path(_unescape(mount)) / folder


def _unescape(text: str) -> str:
    """`text` of mountinfo with its octal escapes, such as that of a space, decoded."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _brand_of_linux() -> str | None:
    found = re.search(r"^model name\s*: *(\S.*)$", _read(_PROC / "cpuinfo") or "", re.MULTILINE)
    return found[1] if found else None


def _brand_of_macos() -> str | None:
    return _sysctl("machdep.cpu.brand_string").get("machdep.cpu.brand_string")


def _brand_of_windows() -> str | None:
    if sys.platform == "win32":
        import winreg

        key = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
                return str(winreg.QueryValueEx(opened, "ProcessorNameString")[0])
        except OSError:
            return None
    return None


def _brand_elsewhere() -> str:
    try:
        import cpuinfo

        brand = cpuinfo.get_cpu_info().get("brand_raw")
    except Exception:  # noqa: BLE001 - what py-cpuinfo raises on an unknown architecture
        brand = None
    return str(brand or platform.processor() or platform.machine() or "unknown")


def _sockets() -> int | None:
    """The number of processors, each with its cores; None where not known."""
    files = (_SYS / "devices/system/cpu").glob("cpu[0-9]*/topology/physical_package_id")
    # A virtual machine without the fact says -1.
    return len({text for file in files if (text := _read(file) or "").isdecimal()}) or None


def _governor() -> str | None:
    files = (_SYS / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({text for file in files if (text := _read(file))})) or None


def _caches() -> dict[str, int]:
    """Bytes of each cache that the first CPU sees, such as `L1d` and `L3`."""
    caches = {}
    for index in sorted((_SYS / "devices/system/cpu/cpu0/cache").glob("index[0-9]*")):
        level, kind, size = (_read(index / name) or "" for name in ("level", "type", "size"))
        if found := re.fullmatch(r"(\d+)K", size):
            letter = {"Data": "d", "Instruction": "i"}.get(kind, "")
            caches[f"L{level}{letter}"] = int(found[1]) * 1024
    for name, size in _sysctl(*_CACHES_OF_MACOS).items():
        caches[_CACHES_OF_MACOS[name]] = int(size)
    return caches


def _vector_extensions() -> list[str] | None:
    """The CPU flags by which oneDNN and XLA choose their kernels; None where not known."""
    text = _read(_PROC / "cpuinfo") or ""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return sorted(filter(_VECTOR_FLAG.fullmatch, found[1].split())) if found else None


def _sysctl(*names: str) -> dict[str, str]:
    """The values of `names` that macOS knows; empty elsewhere.

    sysctl fails where one name is unknown, but prints the others.
    """
    if platform.system() != "Darwin":
        return {}
    lines = (command_output("/usr/sbin/sysctl", *names, any_exit=True) or "").splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
