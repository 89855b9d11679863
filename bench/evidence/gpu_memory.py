"""Compares NVML's free memory, before which data are refused, with blocks of a known size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.evidence.gpu import child, the_gpu
from bench.machine.gpu_memory import free_bytes_of_gpu

BLOCKS_BYTES: tuple[int, ...] = (2**20, 2**30, 8 * 2**30, 32 * 2**30)


def memory_rows(
    frameworks: Sequence[str], device: str, blocks_bytes: Sequence[int] = BLOCKS_BYTES
) -> list[dict[str, Any]]:
    """One row for each framework and block: what NVML and the framework say is free then.

    `taken_bytes` is by how much NVML's free memory has fallen since the block before, beside the
    `block_bytes` that were allocated: a framework may reserve more than it is asked for.

    Args:
        frameworks: the frameworks that allocate.
        device: the device, as a case spells it.
        blocks_bytes: the blocks, which are kept; the first one pays for the framework's start.
    """
    machine, gpu = the_gpu()
    rows = []
    for framework in frameworks:
        with child(framework, device, machine) as holder:
            before: int | None = None
            for block_bytes in blocks_bytes:
                told = holder.ask(op="hold", byte_count=block_bytes)
                free = free_bytes_of_gpu(gpu.uuid)
                taken = None if free is None or before is None else before - free
                rows.append(
                    {
                        "framework": framework,
                        "gpu": gpu.name,
                        "block_bytes": block_bytes,
                        "nvml_free_bytes": free,
                        "framework_free_bytes": told["free_bytes"],
                        "taken_bytes": taken,
                    }
                )
                before = free
    return rows
