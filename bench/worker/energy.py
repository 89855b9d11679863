"""Energy of the training in joules, where it can be read: RAPL of the CPU, NVML of the GPU.

A counter covers more than the training. RAPL counts whole CPU packages, with idle power and the
work of other processes, but without memory modules and fans. NVML counts the GPU's board.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.nvml import energy_counter

_POWERCAP = Path("/sys/class/powercap")
# RAPL is updated every millisecond (Intel, Software Developer's Manual, volume 3B, 16.10). NVML's
# counters are updated every 20 to 100 ms, depending on the card (Z. Yang et al., "Part-time power
# measurements: nvidia-smi's lack of attention", 2024).
RAPL_UPDATE_S, NVML_UPDATE_S = 0.001, 0.1
# The error of a span is up to one update at each end; with 20 updates it is at most 10%.
LEAST_UPDATES = 20
# The share of a span that reading the counter may take. NVML takes 3 ms on an H100
# (results/evidence/gpu_energy.csv), which can be as long as an epoch.
_MOST_READING = 0.01


@dataclass(frozen=True, slots=True)
class Counter:
    """One running total of joules.

    Attributes:
        covers: the parts of the machine that it counts, as text.
        update_s: seconds between its updates.
        read: returns the joules so far; None where it cannot be read now.
    """

    covers: str
    update_s: float
    read: Callable[[], float | None]


def counter(device: str) -> Counter | None:
    """The counter of the device of a case; None where this machine has none that can be read.

    Args:
        device: the device, as the case spells it; of a GPU `CUDA_VISIBLE_DEVICES` holds the UUID.
    """
    if device != "cpu":
        read = energy_counter(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        return None if read is None else Counter("GPU board (NVML)", NVML_UPDATE_S, read)
    zones = [_Zone(folder) for folder in sorted(_POWERCAP.glob("*-rapl:*")) if _is_package(folder)]
    if not zones or any(zone.joules() is None for zone in zones):
        return None

    def read_all() -> float | None:
        """The sum over the packages."""
        readings = [zone.joules() for zone in zones]
        known = [joules for joules in readings if joules is not None]
        return sum(known) if len(known) == len(zones) else None

    count = "CPU package" if len(zones) == 1 else f"{len(zones)} CPU packages"
    return Counter(f"{count} (RAPL)", RAPL_UPDATE_S, read_all)


class Spans:
    """Adds up the joules of spans that contain only training.

    A span is one round, or several without an evaluation between them. A span shorter than
    `LEAST_UPDATES` updates of the counter is not counted.

    Args:
        counter: the counter; None counts nothing.
    """

    def __init__(self, counter: Counter | None) -> None:
        self._counter = counter
        self._began: tuple[float, float] | None = None
        self._ended = (0.0, 0.0)
        # Samples of the span up to the last reading, and since then.
        self._samples = self._unread = 0
        self._reading_s = 0.0
        self._joules, self._counted = 0.0, 0

    def round_begins(self) -> None:
        """Note that a round begins; it continues the open span, or begins one."""
        if self._counter is not None and self._began is None:
            self._began = self._read()
            self._samples = self._unread = 0

    def round_ends(self, samples: int) -> None:
        """Note that a round of `samples` samples has ended and the device is idle."""
        if self._counter is None or self._began is None:
            return
        self._unread += samples
        _, last_s = self._ended if self._samples else self._began
        if time.perf_counter() - last_s < self._reading_s / _MOST_READING:
            return
        ended = self._read()
        if ended is None:
            self._began = None
            return
        self._ended = ended
        self._samples += self._unread
        self._unread = 0

    def closes(self) -> None:
        """End the span, because other work follows; rounds since the last reading do not count."""
        if self._counter is None or self._began is None or not self._samples:
            self._began = None
            return
        joules, seconds = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        self._began = None
        if joules > 0 and seconds >= LEAST_UPDATES * self._counter.update_s:
            self._joules += joules
            self._counted += self._samples

    def _read(self) -> tuple[float, float] | None:
        """(joules so far, time of the reading); None where they cannot be read now."""
        assert self._counter is not None
        before = time.perf_counter()
        joules = self._counter.read()
        now = time.perf_counter()
        self._reading_s = now - before
        return None if joules is None else (joules, now)

    def result(self) -> dict[str, Any]:
        """The energy fields of a `LaunchRecord`; empty where no span counted."""
        self.closes()
        if self._counter is None or not self._counted:
            return {}
        return {
            "energy_j": self._joules,
            "energy_samples": self._counted,
            "energy_covers": self._counter.covers,
        }


class _Zone:
    """One zone of Linux's powercap framework.

    It counts microjoules up to a limit and then starts at 0 again (kernel documentation,
    power/powercap).
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = _number(folder / "max_energy_range_uj")
        self._last: int | None = None
        self._wrapped = 0

    def joules(self) -> float | None:
        """Joules so far, with every overflow of the counter; None where it cannot be read."""
        now = _number(self._file)
        if now is None:
            return None
        if self._last is not None and now < self._last:
            if self._range is None:
                return None
            self._wrapped += self._range
        self._last = now
        return (self._wrapped + now) / 1e6


def _is_package(folder: Path) -> bool:
    """Whether a zone is a whole CPU package, not a part of one and not a duplicate."""
    if not re.fullmatch(r"intel-rapl:\d+", folder.name):
        return False
    try:
        return (folder / "name").read_text().startswith("package")
    except OSError:
        return False


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
