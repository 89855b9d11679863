"""Where the launches of a case run: the environment, the log and the limit of each process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bench.launch.launcher import CAN_FORK
from bench.launch.placement import LaunchPlace
from bench.machine import devices, hardware, placement
from bench.machine.nvml import Inventory
from bench.schema.case import Case
from bench.schema.plan import Plan, RunSettings
from bench.session.control import Probe, control_probe


class Machines(Protocol):
    """Where a run measures: what its machines can run, and where in them a launch goes."""

    def skip_reason(self, case: Case, plan: Plan) -> str | None:
        """Why a case of the plan cannot be measured there; None where it can."""

    def forks(self, case: Case, settings: RunSettings) -> bool:
        """Whether launches of a case are forks of a template, not fresh processes."""

    def place(
        self, case: Case, log: Path, settings: RunSettings, beside: Sequence[Case]
    ) -> LaunchPlace:
        """The place of a launch; `beside` are the cases whose launches run at once with it."""

    def cpu_model(self) -> str:
        """The name of the processor on which the first process of a case runs."""

    def probe(self) -> Probe | None:
        """A probe of the machine's speed; None where another process is on it."""

    def warnings(self, case: Case) -> tuple[str, ...]:
        """What a reader of a case's figures must know of the machines."""


class ThisMachine:
    """The machine of this process.

    Args:
        environ: the environment that launches inherit.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._inventory = devices.inventory()

    def skip_reason(self, case: Case, plan: Plan) -> str | None:
        """Why a case of the plan cannot be measured here; None where it can."""
        return placement.skip_reason(case, self._inventory, plan)

    def forks(self, case: Case, settings: RunSettings) -> bool:
        """Whether launches of a case are forks of a template, not fresh processes."""
        return forks(case, settings)

    def place(
        self, case: Case, log: Path, settings: RunSettings, beside: Sequence[Case]
    ) -> LaunchPlace:
        """The place of a launch; `beside` are the cases whose launches run at once with it."""
        return place_of(case, self._inventory, log, settings, self._environ, beside)

    def cpu_model(self) -> str:
        """The name of the processor."""
        return hardware.cpu_model()

    def probe(self) -> Probe | None:
        """The probe of a duel's control."""
        return control_probe()

    def warnings(self, case: Case) -> tuple[str, ...]:
        """Nothing that the environment does not tell."""
        return ()


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
