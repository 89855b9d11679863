"""The processes of several replicas: how they meet, wait for each other, and add up numbers.

PyTorch is an argument and never imported, so that tests can replace it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.schema.errors import Unavailable
from bench.worker.quoting import ends_of
from bench.worker.replicas import PATIENCE
from fmnist_models.errors import UserError
from fmnist_models.replicas import Replicas


class Meeting:
    """The processes of a case, one for each replica; nothing to do where there is one.

    Args:
        torch: the module torch.
        replicas: the replicas.
        device: PyTorch's name of the device of this process.
    """

    def __init__(self, torch: Any, replicas: Replicas, device: str) -> None:
        self._torch = torch
        self._replicas = replicas
        self._device = device
        self._is_gpu = device != "cpu"

    def join(self) -> None:
        """Return once all processes have come.

        Raises:
            Unavailable: this build of PyTorch cannot do it.
            UserError: the port is taken, or the processes cannot talk to each other.
        """
        replicas = self._replicas
        if not replicas.spread:
            return
        distributed = self._torch.distributed
        backend = "nccl" if self._is_gpu else "gloo"
        known = distributed.is_available() and (
            distributed.is_nccl_available() if self._is_gpu else distributed.is_gloo_available()
        )
        if not known:
            raise Unavailable(
                f"PyTorch {self._torch.__version__} is a build without {backend}, with which "
                "replicas add up their gradients: leave --replicas out"
            )
        try:
            distributed.init_process_group(
                backend,
                init_method=f"tcp://{replicas.meeting}",
                world_size=replicas.processes,
                rank=replicas.rank,
                timeout=PATIENCE,
            )
            # The first collective connects the processes.
            self.wait()
        except RuntimeError as error:
            # No case is left out for what may go well the next time.
            raise UserError(self._why_not(error)) from error

    def leave(self) -> None:
        """End what `join` began."""
        if self._replicas.spread:
            self._torch.distributed.destroy_process_group()

    def wait(self) -> None:
        """Return once every process has come here."""
        if self._replicas.spread:
            more = {"device_ids": [0]} if self._is_gpu else {}
            self._torch.distributed.barrier(**more)

    def of_first(self, value: float) -> float:
        """The value of the first process, in each of the processes; all must call it."""
        if not self._replicas.spread:
            return value
        torch = self._torch
        told = torch.tensor([value], dtype=torch.float64, device=self._device)
        torch.distributed.broadcast(told, 0)
        return float(told.item())

    def adding(
        self, synchronize: Callable[[], None], numbers: int, times: int
    ) -> Callable[[], None]:
        """A function that adds up numbers of each process some times, and waits for their sums.

        Args:
            synchronize: returns once the device is idle.
            numbers: float32 numbers of each process.
            times: how often, one after the other.
        """
        torch = self._torch
        tensor = torch.zeros(numbers, dtype=torch.float32, device=self._device)

        def add() -> None:
            """Add them up."""
            for _ in range(times):
                torch.distributed.all_reduce(tensor)
            synchronize()

        return add

    def _why_not(self, error: RuntimeError) -> str:
        count, meeting, told = self._replicas.count, self._replicas.meeting, ends_of(error)
        if "EADDRINUSE" in told or "already in use" in told:
            return f"{meeting}, where the {count} replicas meet, is taken: measure again"
        return f"the {count} replicas did not meet at {meeting}: {told}"
