"""The one place that knows about devices: which there are, how a child is held to one,
and how TensorFlow is made to train there and nowhere else.

This half is the parent's; `bench.nvml` asks NVIDIA's library for it, and
`bench.tensorflow_device` is the child's half. None of the three imports TensorFlow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench import variables
from bench.nvml import Gpu, Inventory, gpu_state, installed
from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.errors import Unavailable
from bench.tensorflow_device import (
    CUDA_DRIVER_VARIABLE,
    TF32_SINCE,
    TensorFlowDevice,
    keras_policy,
    refuse_tf32,
)

__all__ = [
    "CUDA_DRIVER_VARIABLE",
    "Gpu",
    "Inventory",
    "TensorFlowDevice",
    "child_environment",
    "gpu_state",
    "inventory",
    "keras_policy",
    "known_as",
    "present",
    "resolve",
    "skip_reason",
]

_NOTHING = "-1"


def inventory(environ: Mapping[str, str] = os.environ, nvml: Any = None) -> Inventory:
    """The GPUs of this machine, within what the user's CUDA_VISIBLE_DEVICES allows.

    Never raises for what is missing or broken: the inventory's `problem` says it.

    Args:
        environ: the user's environment.
        nvml: the module pynvml, or what stands in for it; None imports it.
    """
    return _visible(installed(nvml), environ)


def present(machine: Inventory) -> list[str]:
    """The devices that a matrix takes where the user names none: the CPU and each GPU."""
    if len(machine.gpus) == 1:
        return ["cpu", "gpu"]
    return ["cpu", *(f"gpu:{gpu.index}" for gpu in machine.gpus)]


def resolve(device: str, machine: Inventory) -> Gpu | None:
    """The GPU that a device of the matrix means; None for the CPU.

    `gpu` is the first GPU that may be used, `gpu:N` the one that nvidia-smi numbers N
    (counting each MIG device), whatever CUDA_VISIBLE_DEVICES hides.

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


def known_as(device: str, machine: Inventory) -> str:
    """The name that `present` gives a device, so that one GPU has one name; a device that is not
    there keeps the one it has."""
    try:
        gpu = resolve(device, machine)
    except Unavailable:
        return device
    if gpu is None or len(machine.gpus) > 1:
        return device if gpu is None else f"gpu:{gpu.index}"
    return "gpu"


def skip_reason(case: Case, machine: Inventory) -> str | None:
    """Why `case` cannot be measured here; None where it can."""
    if case.backend not in ("tensorflow", SKLEARN_LOOP):
        return f"no loop drives backend {case.backend!r} yet"
    try:
        gpu = resolve(case.device, machine)
        if case.precision == "tf32" and gpu is not None:
            refuse_tf32(gpu.name, gpu.compute_capability)
    except Unavailable as reason:
        return str(reason)
    if case.precision == "tf32" and gpu is None:
        return f"tf32 changes nothing on a CPU: GPUs of compute capability {TF32_SINCE} have it"
    return None


def child_environment(
    case: Case, machine: Inventory, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The whole environment of the process that measures `case`, set before it starts.

    A GPU is named by its UUID, for NVML and CUDA count differently; a CPU case sees no GPU,
    so that it trains the same program everywhere. What the user set passes through
    (TF_*, XLA_FLAGS, ...) unless it would make the case another one or break a launch: the
    table is `bench.variables.RULES`.

    OpenBLAS starts its threads when NumPy is imported, and a template must have none when
    it forks, so it gets one thread, whatever the user set; nothing that is timed uses it.
    OpenMP starts its own at first use, so there the user's number stands.

    `threads` limits TensorFlow's intra-op pool, whose size XLA's takes over: in TensorFlow
    2.21 `TF_NUM_INTRAOP_THREADS=1` leaves one thread `tf_XLAEigen` and a CPU time of 1.00
    times the wall time, plain and compiled; 4 gives four.

    Raises:
        Unavailable: the case's GPU is not there.
    """
    gpu = resolve(case.device, machine)
    child = variables.for_worker(environ)
    child["CUDA_VISIBLE_DEVICES"] = gpu.uuid if gpu else _NOTHING
    if case.threads is not None:
        child["TF_NUM_INTRAOP_THREADS"] = child["OMP_NUM_THREADS"] = str(case.threads)
    if gpu is None:
        child |= {"HIP_VISIBLE_DEVICES": _NOTHING, "ROCR_VISIBLE_DEVICES": _NOTHING}
        return child
    if machine.cuda_driver_version:
        child[CUDA_DRIVER_VARIABLE] = machine.cuda_driver_version
    return child


def _visible(found: Inventory, environ: Mapping[str, str]) -> Inventory:
    """`found` within CUDA_VISIBLE_DEVICES, read as CUDA reads it.

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
    """The GPUs as CUDA counts them; None where that is not known.

    Without CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA puts the fastest first, by a rule of its own,
    and of a card in MIG mode it counts one device only. Who names every number leaves none
    out, in whatever order.
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
