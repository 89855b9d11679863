"""The rise of this process's memory peak, forked or fresh."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from bench.worker.framework import Device

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """The rise of the peak of resident memory since this object was made.

    On Linux the kernel's high-water mark is reset first. So memory that a template process held
    before the fork, or that an import needed temporarily, does not count. File-backed pages are
    subtracted: a forked child maps library code again, which a fresh process already has mapped,
    and the case does not need that memory.
    """

    def __init__(self) -> None:
        self._start = _resident()
        self._start_elsewhere = _process_memory().rss
        self._before = 0
        self._was_reset = _reset_peak()

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Leave out of the rise what the context needs, where the peak can be reset."""
        self._before = self.rise_bytes() or 0
        yield
        self._was_reset = _reset_peak()

    def rise_bytes(self) -> int | None:
        """Bytes between the start and the peak; None where the system does not report them.

        Where the peak cannot be reset (macOS, Windows), it may include memory that an import
        needed temporarily. There every launch is a fresh process, so all include the same.
        """
        now = _resident()
        if self._start is None or now is None:
            peak = _peak_elsewhere()
            return None if peak is None else max(0, peak - self._start_elsewhere)
        if not self._was_reset:
            return None
        pages_of_files = now["RssFile"] - self._start["RssFile"]
        return max(self._before, now["VmHWM"] - self._start["VmRSS"] - max(0, pages_of_files))


def resident_and_peak() -> tuple[int, int] | None:
    """(resident bytes, peak of them since the reset or the start) of this process.

    None where the system does not report them.
    """
    now = _resident()
    if now is not None:
        return now["VmRSS"], now["VmHWM"]
    peak = _peak_elsewhere()
    return None if peak is None else (_process_memory().rss, peak)


def _reset_peak() -> bool:
    """Whether the system could set the peak to what is resident now."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _resident() -> dict[str, int] | None:
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    pairs = re.findall(r"^(VmHWM|VmRSS|RssFile):\s+(\d+) kB", text, re.MULTILINE)
    found = {name: int(kib) * 1024 for name, kib in pairs}
    return found if {"VmHWM", "VmRSS", "RssFile"} <= found.keys() else None


def _peak_elsewhere() -> int | None:
    peak_on_windows = getattr(_process_memory(), "peak_wset", None)
    if peak_on_windows is not None:
        return int(peak_on_windows)
    try:
        import resource
    except ImportError:
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _process_memory() -> Any:
    return psutil.Process().memory_info()


def peaks_of(memory: PeakMemory, device: Device) -> dict[str, int | None]:
    """The fields of a result about the peaks of memory so far, in bytes."""
    return {
        "peak_host_memory_bytes": memory.rise_bytes(),
        "peak_device_memory_bytes": device.peak_memory_bytes(),
    }
