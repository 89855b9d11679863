"""What several replicas have in common, whichever framework they train with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.worker.framework import Device

# The longest wait for another process: at the meeting, and in each collective. The parent's
# --timeout, which comes before, ends a launch and finds the process that was waited for. Patience
# that ends first would lay it on one that waits.
PATIENCE = timedelta(days=1)
# The most that is added up at once in a reading: a bucket of PyTorch's DistributedDataParallel.
PIECE_BYTES = 25 * 2**20
_BYTES_A_NUMBER = 4
# All-reduces of a small model, one after the other in one call. In a step they are within a program
# that runs already; a call from Python costs more than one of them takes between GPUs.
IN_A_CALL = 16
_WARM_UP, _READINGS = 3, 10


def reading_s(
    device: Device, size_bytes: int, adding: Callable[[int, int], Callable[[], None]]
) -> float:
    """Median seconds in which all replicas add up so many bytes of float32, and do nothing else.

    More than a piece is taken for pieces one after the other, of which one is read. So a reading
    needs little memory beside the model. Little is added up several times in one call, which is
    divided by their number.

    Args:
        device: the device of this process.
        size_bytes: bytes of each replica.
        adding: gives, for so many numbers and times, a function that adds them up over the
            replicas so many times, one after the other, and returns once that is done.
    """
    size_bytes = max(size_bytes, _BYTES_A_NUMBER)
    piece_bytes = min(size_bytes, PIECE_BYTES)
    times = max(1, min(IN_A_CALL, PIECE_BYTES // piece_bytes))
    add = adding(piece_bytes // _BYTES_A_NUMBER, times)
    seconds = []
    for _ in range(_WARM_UP + _READINGS):
        # Who comes late is not waited for within the reading.
        device.wait_for_others()
        device.synchronize()
        began = perf_counter()
        add()
        seconds.append(perf_counter() - began)
    return median(seconds[_WARM_UP:]) / times * size_bytes / piece_bytes
