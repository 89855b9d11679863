"""Where one launch runs, and its time limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.machine.nvml import Gpu


@dataclass(frozen=True, slots=True)
class LaunchPlace:
    """Where and how a launch runs.

    Attributes:
        environment: the worker's whole environment; where it runs on another machine, what the
            case sets in it, and the rest is that machine's.
        fork: fork from a template with this environment; otherwise a fresh process.
        log: the file that everything the launch prints is written to.
        timeout_s: limit in seconds, from the request to the end.
        gpus: the GPUs that the launch uses, each with the number of launches of this suite that
            use it at once; empty on a CPU.
        others: the environments of further processes, by rank from 1, where replicas have a
            process each.
        folder: the launch's own working folder; None for that of its process.
    """

    environment: Mapping[str, str]
    fork: bool
    log: Path
    timeout_s: float
    gpus: Mapping[Gpu, int] = field(default_factory=dict)
    others: tuple[Mapping[str, str], ...] = ()
    folder: Path | None = None

    @property
    def processes(self) -> int:
        """The number of processes."""
        return 1 + len(self.others)

    def of_rank(self, rank: int) -> LaunchPlace:
        """The place of one process, with a log of its own."""
        if not rank:
            return replace(self, others=())
        log = self.log.with_name(f"{self.log.stem}-rank{rank}{self.log.suffix}")
        return replace(self, environment=self.others[rank - 1], log=log, others=())

    def forget_logs(self) -> None:
        """Delete the logs of a launch that ended ok."""
        for rank in range(self.processes):
            self.of_rank(rank).log.unlink(missing_ok=True)
