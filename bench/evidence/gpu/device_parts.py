"""The parts that a child with the worker's own classes measures; no verb shows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.evidence.gpu import checks
from bench.evidence.gpu.part import Context, Part
from bench.evidence.gpu.power import NO_UUID, energy_row, power_now, samples
from bench.evidence.gpu.records import Outcome
from bench.machine import counters
from bench.machine.cuda import refuse_tf32
from bench.machine.gpu_memory import free_bytes_of_gpu
from bench.machine.nvml import energy_counter
from bench.schema.errors import Unavailable

_BLOCK_BYTES, _ON_A_CPU_BYTES = 2**30, 64 * 2**20
_LOAD_S = 4.0


def _asked(op: str, context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """The child's own answer."""
    return dict(context.child(backend).ask(op, fault))


def _uuid(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """The UUID that the child was given, beside what NVML says of the GPU with that UUID."""
    child, gpu = context.child(backend), context.box.gpu
    if gpu is None:
        return {"asked": "0" if fault else child.uuid}
    compared = NO_UUID if fault else gpu.uuid
    # The first block pays for the framework's start.
    child.ask("hold", block_bytes=2**20)
    before = free_bytes_of_gpu(compared)
    told = child.ask("hold", block_bytes=_BLOCK_BYTES)
    after = free_bytes_of_gpu(compared)
    return {
        "asked": child.uuid,
        "compared_with": compared,
        "framework_uuids": told["framework_uuids"],
        "block_bytes": _BLOCK_BYTES,
        "taken_bytes": None if before is None or after is None else before - after,
    }


def _memory(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """The peak's rise by an allocation of known size."""
    size = _ON_A_CPU_BYTES if context.box.gpu is None else _BLOCK_BYTES
    return dict(context.child(backend).ask("memory", fault, allocated_bytes=size))


def _tf32(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """Errors and FLOP/s without and with TF32, where the GPU has it."""
    if (gpu := context.box.gpu) is not None:
        try:
            refuse_tf32(gpu.name, gpu.compute_capability)
        except Unavailable as reason:
            return {"why_not": str(reason)}
    return dict(context.child(backend).ask("tf32", fault))


def _energy(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """Joules of NVML's counter and of its power samples, while the child computes."""
    gpu = context.box.gpu
    if gpu is None or energy_counter(gpu.uuid) is None:
        return {"why_not": "there is no energy counter that NVML can read"}
    child = context.child(backend)
    child.ask("release")
    time.sleep(1.0)
    at_rest_w = power_now(gpu)
    child.begin("load", seconds=_LOAD_S + 2)
    # The power needs about a second to become constant.
    time.sleep(1.0)
    watched = samples(gpu, _LOAD_S, at_rest_w if fault else None)
    child.answer()
    return energy_row(watched)


def _company(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """What a launch's readings say of other processes; with the fault, another one computes."""
    gpu = context.box.gpu
    if gpu is None:
        return {}
    # As of a launch, the readings begin before the child is on the GPU: in a container NVML may
    # tell another process id, which would count as somebody else's.
    context.close_child()
    other = context.another(backend) if fault else None
    try:
        if other is not None:
            other.ask("load", seconds=0.1)
            other.begin("load", seconds=3.0)
        child = context.child(backend)
        close = counters.watch(child.pid, {gpu: 1}, forks=False)
        child.ask("load", seconds=1.0)
        noise = close(None)
    finally:
        if other is not None:
            other.close()
    reasons = list(noise.gpu_throttle_reasons or ())
    return {
        "gpu_other_processes": noise.gpu_other_processes,
        "gpu_clock_hz": noise.gpu_clock_hz,
        "gpu_throttle_reasons": reasons,
    }


def _part(
    name: str,
    measure: Callable[[Context, str, bool], dict[str, Any]],
    check: Callable[[Any], Outcome],
    fault: str,
    seconds: float,
) -> Part:
    return Part(name, measure, check, fault, seconds, 120.0, in_child=True)


# In this order: the blocks of one part lie in the memory of those after it.
DEVICE_PARTS = (
    _part(
        "placement",
        partial(_asked, "placement"),
        checks.placement,
        "an array on another device",
        15,
    ),
    _part("uuid", _uuid, checks.uuid, "another UUID than the framework's", 2),
    _part("memory", _memory, checks.memory, "an allocation of half the size", 2),
    _part(
        "synchronisation",
        partial(_asked, "synchronisation"),
        checks.synchronisation,
        "nothing is waited for",
        10,
    ),
    _part("tf32", _tf32, checks.tf32, "TF32 is on where off is said", 5),
    _part("energy", _energy, checks.energy, "power samples that stopped before the work", 16),
    _part("trace", partial(_asked, "trace"), checks.trace, "no pauses between the calls", 8),
    _part("company", _company, checks.company, "another process that computes", 15),
)
