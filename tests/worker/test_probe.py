"""What doctor's child reads of a GPU, by fakes of what a framework reports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.worker import probe


class Allocator:
    """Memory of a GPU whose peak, as that of JAX, may be that of all the process's life.

    Args:
        peak: bytes that the steps before needed and gave back.
        resets: the framework can set the peak to what is in use.
        counts: the framework tells the peak.
    """

    def __init__(self, peak: int, *, resets: bool, counts: bool = True) -> None:
        self._used, self._peak = 0, peak
        self._resets, self._counts = resets, counts

    def synchronize(self) -> None:
        """Everything is computed at once."""

    def reset_peak_memory(self) -> None:
        self._peak = self._used if self._resets else self._peak

    def peak_memory_bytes(self) -> int | None:
        return self._peak if self._counts else None

    def ones(self, numbers: int) -> Any:
        self._used += 4 * numbers
        self._peak = max(self._peak, self._used)
        return Block(self, 4 * numbers)

    def free(self, size: int) -> None:
        self._used -= size


class Block:
    """Memory in use, until it is forgotten."""

    def __init__(self, allocator: Allocator, size: int) -> None:
        self._allocator, self._size = allocator, size

    def __del__(self) -> None:
        self._allocator.free(self._size)


def rise(allocator: Allocator) -> Any:
    probed: Any = SimpleNamespace(device=allocator, ones=allocator.ones)
    return probe._memory(probed, on_cpu=False)["rise_bytes"]


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("peak", [0, 100 * 2**20, 3 * 2**30])
def test_the_peak_of_the_steps_before_hides_no_allocation(peak: int, resets: bool) -> None:
    assert rise(Allocator(peak, resets=resets)) == probe.ALLOCATED_BYTES


def test_a_peak_that_is_not_told_is_not_known() -> None:
    assert rise(Allocator(0, resets=False, counts=False)) is None
