"""The memory of a GPU that is free."""

from __future__ import annotations

from typing import Any

from bench.machine.nvml import NoNvmlError, ask, session


def free_bytes_of_gpu(uuid: str, nvml: Any = None) -> int | None:
    """Free bytes of the memory of a GPU; None where NVML does not tell.

    Args:
        uuid: NVML's name of the GPU.
        nvml: the module pynvml, or a fake of it.
    """
    try:
        with session(nvml) as api:
            handle = ask(api, "nvmlDeviceGetHandleByUUID", uuid)
            memory = None if handle is None else ask(api, "nvmlDeviceGetMemoryInfo", handle)
    except NoNvmlError:
        return None
    return None if memory is None else int(memory.free)
