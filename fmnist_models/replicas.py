"""How a training is spread over devices: the same step on a share of each batch on each of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replicas:
    """The replicas of a data-parallel training, as one of its processes sees them.

    Attributes:
        count: replicas in all; each has a device, and trains a share of each batch. Of a last batch
            that does not divide, the shares differ, or each trains all of it.
        processes: 1, where one process drives all devices, or a process for each replica.
        rank: the number of this process, from 0.
        meeting: `HOST:PORT` at which the processes find each other; empty for one process.
    """

    count: int = 1
    processes: int = 1
    rank: int = 0
    meeting: str = ""

    @property
    def here(self) -> int:
        """Replicas of this process."""
        return self.count // self.processes

    @property
    def spread(self) -> bool:
        """Whether there are several."""
        return self.count > 1

    def part_of(self, free_bytes: int | None) -> int | None:
        """The part of the machine's free memory that is for this process; None if not known."""
        return None if free_bytes is None else free_bytes // self.processes


ONE = Replicas()
