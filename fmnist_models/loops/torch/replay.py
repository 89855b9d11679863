"""A call on a GPU whose kernels are captured once, and then started together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Calls before the capture: libraries choose their kernels and take their memory then.
_BEFORE = 3


def replayed(
    call: Callable[[], Any],
    begin: Callable[[], Any],
    torch: Any = torch,
    errors: str = "global",
) -> Any:
    """A function that does what `call` does, with one launch of a CUDA graph.

    Args:
        call: it may read and write the same tensors each time only, and not wait for the device.
            What it returns is in the same memory after each replay.
        begin: makes the tensors ready for a call.
        torch: the module torch, for tests.
        errors: `thread_local` where another thread of the process may use the GPU meanwhile.
    """
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_BEFORE):
            begin()
            call()
    torch.cuda.current_stream().wait_stream(aside)
    begin()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode=errors):
        told = call()

    def replay() -> Any:
        """Start the captured kernels."""
        graph.replay()
        return told

    # The kernels read the memory of what `call` holds, such as the constants of a compiled graph.
    # Without it, that memory would be given to other tensors.
    replay.call = call  # type: ignore[attr-defined]
    return replay
