"""The clock of one reading of a profile."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from bench.worker.framework import Device


class Window:
    """An observer that times one epoch in the same way as the rounds of a launch.

    Attributes:
        wall_s: seconds of the window.
        cpu_s: CPU seconds of all threads of the process in the window.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.wall_s = self.cpu_s = math.nan

    def window_opens(self) -> None:
        """Start the clocks once the device is idle."""
        self._device.synchronize()
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def window_closes(self) -> None:
        """Stop the clocks once the device is idle."""
        self._device.synchronize()
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._cpu

    def epoch_ends(self, logs: Mapping[str, float]) -> bool:
        """Return False: one epoch is enough."""
        return False
