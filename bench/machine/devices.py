"""Which devices this machine has, and which of them a name in the matrix means.

`bench.machine.nvml` asks NVIDIA's library; `bench.machine.placement` restricts a worker to one
device.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.machine.nvml import Gpu, Inventory, installed
from bench.schema.case import Case
from bench.schema.errors import Unavailable


def inventory(environ: Mapping[str, str] = os.environ, nvml: Any = None) -> Inventory:
    """The GPUs of this machine that the user's CUDA_VISIBLE_DEVICES allows.

    Never raises where a driver or GPU is missing or broken: the inventory's `problem` says so.

    Args:
        environ: the user's environment.
        nvml: the module pynvml, or a replacement for tests; None imports it.
    """
    return _visible(installed(nvml), environ)


def present(machine: Inventory) -> list[str]:
    """The devices of a matrix where the user names none: the CPU and each GPU."""
    if len(machine.gpus) == 1:
        return ["cpu", "gpu"]
    return ["cpu", *(f"gpu:{gpu.index}" for gpu in machine.gpus)]


def resolve(device: str, machine: Inventory) -> Gpu | None:
    """The GPU that a device of the matrix means; None for the CPU.

    `gpu` is the first GPU that may be used. `gpu:N` is number N of nvidia-smi, with each MIG
    device counted; CUDA_VISIBLE_DEVICES does not change the numbers.

    Raises:
        Unavailable: there is no such GPU; the message is the row's reason.
    """
    if device == "cpu":
        return None
    if device == "gpu" and machine.gpus:
        return machine.gpus[0]
    for gpu in machine.gpus:
        if device == f"gpu:{gpu.index}":
            return gpu
    if any(device in ("gpu", f"gpu:{gpu.index}") for gpu in machine.hidden):
        reason = machine.problem or "CUDA_VISIBLE_DEVICES hides it"
    else:
        there = ", ".join(f"gpu:{gpu.index} ({gpu.name})" for gpu in machine.gpus)
        reason = "; ".join(filter(None, (there and f"there is {there}", machine.problem)))
    raise Unavailable(f"no {device} here: {reason or 'none was found'}")


def gpus_of(case: Case, machine: Inventory) -> tuple[Gpu, ...]:
    """The GPUs of a case, one for each replica; empty on a CPU.

    Raises:
        Unavailable: there are not as many; the message is the row's reason.
    """
    first = resolve(case.device, machine)
    if first is None:
        return ()
    if case.replicas == 1:
        return (first,)
    if any(gpu.is_mig for gpu in machine.gpus):
        raise Unavailable(
            f"{case.replicas} replicas: the parts of a GPU that MIG split cannot train together: "
            "leave --replicas out"
        )
    if case.replicas > len(machine.gpus):
        raise Unavailable(
            f"{case.replicas} replicas need as many GPUs, and here are {len(machine.gpus)}: name "
            f"--replicas {len(machine.gpus)} or fewer"
        )
    return machine.gpus[: case.replicas]


def known_as(device: str, machine: Inventory) -> str:
    """The name that `present` gives to a device, so that one GPU has one name.

    A device that this machine does not have keeps its name.
    """
    try:
        gpu = resolve(device, machine)
    except Unavailable:
        return device
    if gpu is None or len(machine.gpus) > 1:
        return device if gpu is None else f"gpu:{gpu.index}"
    return "gpu"


def _visible(found: Inventory, environ: Mapping[str, str]) -> Inventory:
    """The part of `found` that CUDA_VISIBLE_DEVICES allows, read as CUDA reads it.

    An entry that names no device ends the list: CUDA C++ programming guide, "CUDA
    environment variables".
    """
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None or not found.gpus:
        return found
    words = [word.strip() for word in setting.split(",")]
    if words[0] in ("", "-1"):
        return _only(found, (), f"CUDA_VISIBLE_DEVICES={setting!r} hides every GPU")
    order = _numbering(found.gpus, words, environ)
    chosen: list[Gpu] = []
    problem = ""
    for word in words:
        if word == "-1":
            break
        if re.fullmatch(r"\d+", word):
            if order is None:
                return _only(
                    found,
                    (),
                    f"CUDA_VISIBLE_DEVICES={setting} counts GPUs in an order that only CUDA knows: "
                    "name UUIDs (nvidia-smi -L), or set CUDA_DEVICE_ORDER=PCI_BUS_ID",
                )
            matches = order[int(word) : int(word) + 1]
        else:
            matches = [gpu for gpu in found.gpus if word and gpu.uuid.startswith(word)]
        if len(matches) != 1:
            what = "more than one GPU" if matches else "no usable GPU"
            problem = f"CUDA_VISIBLE_DEVICES: {word!r} names {what} here (nvidia-smi -L lists them)"
            break
        chosen += matches
    return _only(found, chosen, problem)


def _numbering(
    gpus: tuple[Gpu, ...], words: list[str], environ: Mapping[str, str]
) -> list[Gpu] | None:
    """The GPUs in CUDA's order; None where that is not known.

    Without CUDA_DEVICE_ORDER=PCI_BUS_ID, CUDA puts the fastest GPU first, by a rule that it does
    not publish. Of a card in MIG mode it counts only one device. A list of all numbers means all
    GPUs, whatever the order.
    """
    by_bus = sorted(gpus, key=lambda gpu: (gpu.pci_bus_id, gpu.index))
    if any(gpu.is_mig for gpu in gpus):
        return by_bus if len(gpus) == 1 else None
    everyone = {str(number) for number in range(len(gpus))}
    known = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return by_bus if known or everyone == set(words) else None


def _only(found: Inventory, chosen: list[Gpu] | tuple[()], problem: str) -> Inventory:
    return replace(
        found,
        gpus=tuple(gpu for gpu in found.gpus if gpu in chosen),
        hidden=tuple(gpu for gpu in found.gpus if gpu not in chosen),
        problem="; ".join(filter(None, (found.problem, problem))),
    )
