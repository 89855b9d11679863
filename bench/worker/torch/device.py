"""Makes PyTorch train on one device only: the worker's part of `bench.machine.devices`.

Of several replicas, each has a process with a device of its own, which is the first that it sees.

PyTorch is an argument and never imported, so that tests can replace it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from bench.machine import hardware
from bench.machine.cuda import SEE_DOCTOR, refuse_tf32
from bench.schema.errors import Unavailable
from bench.worker.framework import Device
from bench.worker.replicas import reading_s
from bench.worker.torch.meeting import Meeting
from fmnist_models.replicas import ONE, Replicas

# The pool of memory that belongs to no CUDA graph.
_NO_GRAPH = (0, 0)


class TorchDevice(Device):
    """The device of this process, as PyTorch sees it inside the worker.

    Args:
        torch: the module torch.
        device: the device, as the case spells it; `child_environment` leaves only that GPU
            visible, and names it to Keras.
        precision: precision of the case.
        replicas: the replicas of the case, each in a process.

    Attributes:
        name: PyTorch's name, `cpu` or `cuda:0`.
    """

    def __init__(self, torch: Any, device: str, precision: str, replicas: Replicas = ONE) -> None:
        self._torch = torch
        self._is_gpu = device != "cpu"
        self._precision = precision
        self._replicas = replicas
        self.name = "cuda:0" if self._is_gpu else "cpu"
        self._meeting = Meeting(torch, replicas, self.name)

    def configure(self) -> None:
        """Set the GPU, and the precision of float32 products and convolutions; meet the others.

        Raises:
            Unavailable: the case needs a GPU that PyTorch does not have, or PyTorch cannot join
                processes; the message has the reason.
            UserError: the processes did not meet.
        """
        cuda = self._torch.cuda
        if self._is_gpu:
            if not cuda.is_available():
                raise Unavailable(self._why_no_gpu())
            if cuda.device_count() > 1:
                raise Unavailable(
                    f"PyTorch sees {cuda.device_count()} GPUs where CUDA_VISIBLE_DEVICES names "
                    "one: which of them would train is not known"
                )
            if self._precision == "tf32":
                refuse_tf32(str(self.device_name), cuda.get_device_capability(0))
            cuda.set_device(0)
        self._torch.set_float32_matmul_precision(self.products)
        # PyTorch's own default lets convolutions use TF32.
        self._torch.backends.cudnn.allow_tf32 = self._precision == "tf32"
        self._meeting.join()

    @property
    def products(self) -> str:
        """The precision of float32 products: `high` is TF32 on a GPU."""
        return "high" if self._precision == "tf32" else "highest"

    @property
    def device_name(self) -> str | None:
        """The model of the GPU; None for a CPU, whose model PyTorch does not know."""
        return str(self._torch.cuda.get_device_name(0)) if self._is_gpu else None

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which tensors are made on this device."""
        context: AbstractContextManager[Any] = self._torch.device(self.name)
        return context

    @contextmanager
    def replicated(self) -> Iterator[None]:
        """The context in which a model trains; the processes leave their meeting at its end.

        After an error they do not: NCCL would wait there for processes that never leave, and the
        error would not be told.
        """
        yield
        self._meeting.leave()

    def wait_for_others(self) -> None:
        """Return once every process of the replicas has come here."""
        self._meeting.wait()

    def of_first(self, value: float) -> float:
        """The value of the first process, in each of the processes; all must call it."""
        return self._meeting.of_first(value)

    def all_reduce_s(self, size_bytes: int) -> float | None:
        """Seconds in which the replicas add up so many bytes of float32; None for one replica."""
        if not self._replicas.spread:
            return None
        return reading_s(self, size_bytes, partial(self._meeting.adding, self.synchronize))

    def synchronize(self) -> None:
        """Return once everything that was dispatched has been computed; a CPU's call waits."""
        if self._is_gpu:
            self._torch.cuda.synchronize()

    def free_memory(self, loop: str) -> tuple[int | None, str]:
        """(free bytes, name) of the memory to which a loop copies its data.

        `compiled` keeps them on the device, the other loops in the host's memory. Each process has
        a GPU of its own, and a part of the host's memory.
        """
        if not self._is_gpu or loop != "compiled":
            return self._replicas.part_of(hardware.memory_available_bytes()), "memory"
        return int(self._torch.cuda.mem_get_info()[0]), f"memory of {self.device_name}"

    def reset_peak_memory(self) -> None:
        """Reset the peak of the allocator to the memory in use."""
        if self._is_gpu:
            self._torch.cuda.reset_peak_memory_stats()

    def peak_memory_bytes(self) -> int | None:
        """Peak bytes of the allocator since the reset; None on a CPU, which has none.

        A captured CUDA graph keeps the memory of its intermediate results, in whole segments. The
        allocator counts them only while the graph is captured, not when it is replayed.
        """
        if not self._is_gpu:
            return None
        cuda = self._torch.cuda
        kept = sum(
            segment["total_size"] - segment["allocated_size"]
            for segment in cuda.memory_snapshot()
            if tuple(segment["segment_pool_id"]) != _NO_GRAPH
        )
        return int(max(cuda.max_memory_allocated(), cuda.memory_allocated() + kept))

    def misplaced(self, tensors: Iterable[Any]) -> list[str]:
        """Tensors and variables on another device, with that device."""
        found = []
        for tensor in tensors:
            value = getattr(tensor, "value", tensor)
            if str(value.device) != self.name:
                what = getattr(tensor, "path", None) or f"tensor of shape {tuple(value.shape)}"
                found.append(f"{what} on {value.device}")
        return found

    def software(self) -> dict[str, Any]:
        """Versions and flags that are known only after PyTorch is imported."""
        torch = self._torch
        return {
            "torch": str(torch.__version__),
            "keras": getattr(sys.modules.get("keras"), "__version__", None),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if self._is_gpu else None,
            "tf32": self._is_gpu and self._precision == "tf32",
            "matmul_precision": torch.get_float32_matmul_precision(),
            "threads": torch.get_num_threads(),
            "deterministic": bool(torch.are_deterministic_algorithms_enabled()),
        }

    def _why_no_gpu(self) -> str:
        version, built = self._torch.__version__, self._torch.version.cuda
        if built is None:
            return (
                f"PyTorch {version} is a build without CUDA: pip install torch brings one with it"
            )
        return (
            f"PyTorch {version} sees no GPU: it is built for CUDA {built}, and the driver may be "
            f"missing or older; {SEE_DOCTOR}"
        )
