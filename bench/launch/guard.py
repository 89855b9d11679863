"""Ends a launch before it takes the memory that the machine needs.

Not by a limit of the system: RLIMIT_AS and RLIMIT_DATA count what is reserved, and TensorFlow and
its threads reserve much more than they use. A control group would need rights that users lack.
"""

from __future__ import annotations

import contextlib
import threading

import psutil

from bench.machine import counters, hardware
from bench.machine.nvml import Gpu
from bench.schema.noise import Noise, Usage

# New memory is filled by at most some 10 GB/s: 200 MB between two looks.
_EVERY_S = 0.02
_LEAST_RESERVE_BYTES, _RESERVE_SHARE = 512 * 2**20, 0.05


class MemoryGuard:
    """Watches launches, one at a time, and kills one that leaves the machine too little memory.

    Args:
        most_bytes: growth of a launch's processes at which it is killed too; None for no limit.

    Attributes:
        reserve_bytes: a launch is killed where less than this is available.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        self._most_bytes = most_bytes
        share = round(_RESERVE_SHARE * hardware.memory_bytes())
        self.reserve_bytes = max(_LEAST_RESERVE_BYTES, share)

    def watch(self, pid: int, gpu: Gpu | None) -> counters.Close:
        """Begin to watch a launch, in the place of `counters.watch`.

        Args:
            pid: process id of the worker that will serve the launch, itself or by a fork.
            gpu: the GPU that the launch uses; None on a CPU.
        """
        ended = threading.Event()
        threading.Thread(target=self._look, args=(pid, ended), daemon=True).start()

        def close(usage: Usage | None) -> Noise:
            """End the watch; nothing that disturbs a launch is read."""
            ended.set()
            return Noise()

        return close

    def _look(self, pid: int, ended: threading.Event) -> None:
        before = _resident(pid)
        while not ended.wait(_EVERY_S) and psutil.pid_exists(pid):
            if self._is_too_much(pid, before):
                # The forks of a template, which itself goes on; a fresh process has none.
                for process in _children(pid) or _itself(pid):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                return

    def _is_too_much(self, pid: int, before: int) -> bool:
        if hardware.memory_available_bytes() < self.reserve_bytes:
            return True
        return self._most_bytes is not None and _resident(pid) - before > self._most_bytes


def _resident(pid: int) -> int:
    """Bytes of the largest process of a launch; processes share most of what they began with."""
    found = [0]
    for process in (*_itself(pid), *_children(pid)):
        with contextlib.suppress(psutil.Error):
            found.append(process.memory_info().rss)
    return max(found)


def _children(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        found += psutil.Process(pid).children(recursive=True)
    return found


def _itself(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [psutil.Process(pid)]
    return []
