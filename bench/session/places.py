"""Where the launches of a case run: the environment, the log and the limit of each process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bench.launch.launcher import CAN_FORK
from bench.launch.placement import LaunchPlace
from bench.machine import devices, placement
from bench.machine.nvml import Inventory
from bench.schema.case import Case
from bench.schema.plan import RunSettings


def forks(case: Case, settings: RunSettings) -> bool:
    """Whether launches of a case are forks of a template, not fresh processes."""
    return settings.fork and CAN_FORK and case.device == "cpu"


def place_of(
    case: Case,
    machine: Inventory,
    log: Path,
    settings: RunSettings,
    environ: Mapping[str, str] = os.environ,
) -> LaunchPlace:
    """The place of a launch, with the environment of each of its processes.

    Raises:
        Unavailable: this machine does not have the case's GPUs.
    """
    first, *others = (
        placement.child_environment(case, machine, environ, rank) for rank in range(case.processes)
    )
    return LaunchPlace(
        environment=first,
        fork=forks(case, settings),
        log=log,
        timeout_s=settings.timeout_s,
        gpu=devices.resolve(case.device, machine),
        others=tuple(others),
    )
