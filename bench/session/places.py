"""Where the launches of a case run: the environment, the log and the limit of each process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
    beside: Sequence[Case] = (),
) -> LaunchPlace:
    """The place of a launch, with the environment of each of its processes.

    Args:
        case: the case.
        machine: this machine.
        log: what it prints goes there.
        settings: of the run.
        environ: the environment that it inherits.
        beside: the cases whose launches run at once with it, this one among them.

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
        gpus={
            gpu: max(1, sum(gpu in devices.gpus_of(other, machine) for other in beside))
            for gpu in devices.gpus_of(case, machine)
        },
        others=tuple(others),
    )
