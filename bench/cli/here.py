"""What a plan takes from this machine: the names of its devices, and the default backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.backends import DEFAULT
from bench.machine import devices, hardware, placement
from bench.schema.matrix import ALL, Axes


def default_backends(told: Callable[[str], None]) -> tuple[str, ...] | None:
    """The first backend that can be used, where that is not the matrix's own; it is `told`.

    Without the line it is TensorFlow.
    """
    found = placement.default_backend()
    if found in (None, DEFAULT):
        return None
    why = str(placement.why_missing(DEFAULT)).partition(":")[0]
    told(f"backend {found}: {why}")
    return (str(found),)


def each_once(named: Sequence[str], told: Callable[[str], None]) -> tuple[str, ...]:
    """The devices by the names that a matrix gives them, each once; changed names are `told`."""
    if all(device == "cpu" for device in named):
        return tuple(named)
    machine = devices.inventory()
    names = {device: devices.known_as(device, machine) for device in named}
    for device, name in names.items():
        if device != name:
            also = ", measured once" if name in named else ""
            told(f"--devices {device}: called {name} on this machine{also}")
    return tuple(dict.fromkeys(names.values()))


def with_replicas(axes: Axes) -> Axes:
    """Axes with a number of replicas in place of `all`, and with devices that replicas can have.

    Where the user names no device, these are the GPUs where there are some, else the CPU.
    """
    machine = devices.inventory()
    chosen = axes.devices or (("gpu",) if machine.gpus else ("cpu",))
    on_gpus = any(device != "cpu" for device in chosen)
    most = max(1, len(machine.gpus)) if on_gpus else len(hardware.cpu_affinity() or (1,))
    replicas = (most if number == ALL else number for number in axes.replicas or ())
    return replace(axes, devices=chosen, replicas=tuple(dict.fromkeys(replicas)))


def why_on_cpu() -> str:
    """Why replicas of which no device was named are on the CPU; empty where there are GPUs."""
    machine = devices.inventory()
    if machine.gpus:
        return ""
    return f"--replicas: on the CPU, where a speed-up means nothing: {machine.problem}"
