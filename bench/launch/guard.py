"""Ends a launch before it takes the memory that the machine needs.

Not by a limit of the system: RLIMIT_AS and RLIMIT_DATA count what is reserved, and TensorFlow and
its threads reserve much more than they use. A control group would need rights that users lack.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

import psutil

from bench.machine import counters, hardware
from bench.machine.nvml import Gpu
from bench.schema.noise import Noise, Usage

# New memory is filled by at most some 10 GB/s: 200 MB between two looks.
_EVERY_S = 0.02
_LEAST_RESERVE_BYTES, _RESERVE_SHARE = 512 * 2**20, 0.05


class MemoryGuard:
    """Watches launches, one at a time, and kills one that leaves the machine too little memory.

    Attributes:
        reserve_bytes: a launch is killed where less than this is available.
    """

    def __init__(self) -> None:
        share = round(_RESERVE_SHARE * hardware.memory_bytes())
        self.reserve_bytes = max(_LEAST_RESERVE_BYTES, share)

    def watch(self, pid: int, gpus: Mapping[Gpu, int], forks: bool) -> counters.Close:
        """Begin to watch a launch, in the place of `counters.watch`.

        Args:
            pid: process id of the worker that will serve the launch, itself or by a fork.
            gpus: the GPUs that the launch uses; none on a CPU.
            forks: the launch is a fork of the worker, which itself is to live on.
        """
        ended = threading.Event()
        threading.Thread(target=self._look, args=(pid, forks, ended), daemon=True).start()

        def close(usage: Usage | None) -> Noise:
            """End the watch; nothing that disturbs a launch is read."""
            ended.set()
            return Noise()

        return close

    def _look(self, pid: int, forks: bool, ended: threading.Event) -> None:
        while not ended.wait(_EVERY_S) and psutil.pid_exists(pid):
            if hardware.memory_available_bytes() < self.reserve_bytes:
                for process in _of_launch(pid, forks):
                    with contextlib.suppress(psutil.Error):
                        process.kill()


def _of_launch(pid: int, forks: bool) -> list[psutil.Process]:
    """The processes of a launch: a worker, unless it forks, and all that it started."""
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        worker = psutil.Process(pid)
        found += [] if forks else [worker]
        found += worker.children(recursive=True)
    return found
