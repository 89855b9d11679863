"""How a training is spread over devices: the same step on a share of each batch on each of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replicas:
    """The replicas of a data-parallel training, as one of its processes sees them.

    Attributes:
        count: replicas in all; each has a device, and trains the same share of each batch.
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


ONE = Replicas()
