"""Where one launch runs, and its time limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.machine.nvml import Gpu


@dataclass(frozen=True, slots=True)
class LaunchPlace:
    """Where and how a launch runs.

    Attributes:
        environment: the worker's whole environment.
        fork: fork from a template with this environment; otherwise a fresh process.
        log: the file that everything the launch prints is written to.
        timeout_s: limit in seconds, from the request to the end.
        gpu: the GPU that the launch uses; None on a CPU.
    """

    environment: Mapping[str, str]
    fork: bool
    log: Path
    timeout_s: float
    gpu: Gpu | None = None
