"""Makes JAX train on the devices of a case only: the worker's part of `bench.machine.devices`.

JAX is an argument and never imported, so that tests can replace it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from bench.machine import hardware
from bench.machine.cuda import SEE_DOCTOR, refuse_tf32
from bench.machine.gpu_memory import free_bytes_of_gpu
from bench.schema.errors import Unavailable
from bench.worker.framework import Device
from bench.worker.jax import replicas as several
from bench.worker.replicas import reading_s
from fmnist_models.own import one_line
from fmnist_models.replicas import ONE, Replicas

# The precision of float32 products: JAX's own default lets a GPU use TF32.
_PRODUCTS = {"tf32": "tensorfloat32"}
_FULL = "highest"


class JaxDevice(Device):
    """One device, or that of each replica, as JAX sees it inside the worker.

    Args:
        jax: the module jax.
        device: the device, as the case spells it; `child_environment` leaves only that GPU
            visible.
        precision: precision of the case.
        environ: the environment, which names the GPU.
        replicas: those of the case, as this process sees them.

    Attributes:
        name: JAX's platform and number, `cpu:0` or `gpu:0`.
    """

    def __init__(
        self,
        jax: Any,
        device: str,
        precision: str,
        environ: Mapping[str, str] = os.environ,
        replicas: Replicas = ONE,
    ) -> None:
        self._jax = jax
        self._is_gpu = device != "cpu"
        self._precision = precision
        self._environ = environ
        self._replicas = replicas
        self.name = "gpu:0" if self._is_gpu else "cpu:0"

    def configure(self) -> None:
        """Set the default device and the precision of float32 products.

        Raises:
            Unavailable: the case needs a GPU that JAX does not have; the message has the reason.
            UserError: the processes do not meet.
        """
        replicas = self._replicas
        if replicas.spread:
            several.meet(self._jax, replicas, is_gpu=self._is_gpu)
        found = self._devices()
        if replicas.spread:
            several.refuse_other_devices(found, replicas, "GPU" if self._is_gpu else "CPU")
        elif self._is_gpu and len(found) > 1:
            raise Unavailable(
                f"JAX sees {len(found)} GPUs where CUDA_VISIBLE_DEVICES names one: which of them "
                "would train is not known"
            )
        self._jax.config.update("jax_default_device", self._own()[0])
        if not self._is_gpu:
            return
        if self._precision == "tf32":
            refuse_tf32(str(self.device_name), self.compute_capability)
        self._jax.config.update("jax_default_matmul_precision", self.products)

    @property
    def products(self) -> str | None:
        """The precision of float32 products on this device; None for JAX's own, on a CPU."""
        return _PRODUCTS.get(self._precision, _FULL) if self._is_gpu else None

    @property
    def device_name(self) -> str | None:
        """The model of the GPU; None for a CPU, whose model JAX does not know."""
        return str(self._own()[0].device_kind) if self._is_gpu else None

    @property
    def compute_capability(self) -> tuple[int, int] | None:
        """That of the GPU; None where it is not known."""
        return _capability(self._own()[0])

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which operations are placed on this device."""
        context: AbstractContextManager[Any] = self._jax.default_device(self._own()[0])
        return context

    def replicated(self) -> AbstractContextManager[Any]:
        """The context in which a model is built, compiled and trained on the replicas."""
        if not self._replicas.spread:
            return nullcontext()
        return several.data_parallel(self._jax, self._devices(), self._replicas)

    def wait_for_others(self) -> None:
        """Return once every process of the replicas has come here."""
        if self._replicas.processes > 1:
            several.wait_for_all()

    def of_first(self, value: float) -> float:
        """The value of the first process, in each of the processes; all must call it."""
        return several.of_first(value) if self._replicas.processes > 1 else value

    def all_reduce_s(self, size_bytes: int) -> float | None:
        """Seconds in which the replicas add up so many bytes of float32; None for one replica."""
        if not self._replicas.spread:
            return None
        return reading_s(self, size_bytes, partial(several.adding, self._jax, self._devices()))

    def synchronize(self) -> None:
        """Return once everything that was dispatched has been computed.

        JAX has no such call, so each array that there is is waited for: the result of whatever
        was dispatched last is among them.
        """
        for array in self._jax.live_arrays():
            array.block_until_ready()

    def free_memory(self, loop: str) -> tuple[int | None, str]:
        """(free bytes, name) of the memory to which a loop copies its data.

        `compiled` keeps them on the device, the other loops in the host's memory. None where the
        GPU's free memory is not known. Each replica has a copy, and virtual CPUs share a memory.
        """
        if not self._is_gpu or loop != "compiled":
            free = self._replicas.part_of(hardware.memory_available_bytes())
            copies = self._replicas.here if loop == "compiled" else 1
            return None if free is None else free // copies, "memory"
        uuids = self._environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        known = [each for uuid in uuids if (each := free_bytes_of_gpu(uuid)) is not None]
        return min(known, default=None), f"memory of {self.device_name}"

    def reset_peak_memory(self) -> None:
        """Nothing: JAX cannot reset the peak, which is that of the whole launch."""

    def peak_memory_bytes(self) -> int | None:
        """Peak bytes of the device's allocator since the start; None on a CPU, which has none."""
        if not self._is_gpu:
            return None
        peaks = [(each.memory_stats() or {}).get("peak_bytes_in_use") for each in self._own()]
        return max((peak for peak in peaks if peak is not None), default=None)

    def misplaced(self, tensors: Iterable[Any]) -> list[str]:
        """Arrays and variables on other devices, with these, or in parts on those of the case."""
        names = [self.name]
        if self._replicas.spread:
            names = sorted(map(_name, self._devices()))
        found = []
        for tensor in tensors:
            value = getattr(tensor, "value", tensor)
            places = sorted(map(_name, value.devices()))
            # Of one device, nothing can be in parts.
            if places == names and (len(names) == 1 or value.is_fully_replicated):
                continue
            what = getattr(tensor, "path", None) or f"array of shape {tuple(value.shape)}"
            parts = "in parts " if places == names else ""
            found.append(f"{what} {parts}on {', '.join(places) or 'no device'}")
        return found

    def software(self) -> dict[str, Any]:
        """Versions and flags that are known only after JAX is imported."""
        config = self._jax.config
        return {
            "jax": self._jax.__version__,
            "jaxlib": getattr(sys.modules.get("jaxlib"), "__version__", None),
            "keras": getattr(sys.modules.get("keras"), "__version__", None),
            "platform": str(self._own()[0].client.platform_version).splitlines()[0],
            "tf32": self._is_gpu and self._precision == "tf32",
            "matmul_precision": config.jax_default_matmul_precision,
            "x64": bool(config.jax_enable_x64),
        }

    def _own(self) -> list[Any]:
        """The devices of this process."""
        found = self._devices()
        if self._replicas.processes == 1:
            return found
        return [each for each in found if each.process_index == self._replicas.rank]

    def _devices(self) -> list[Any]:
        """The devices of all processes."""
        try:
            return list(self._jax.devices("gpu" if self._is_gpu else "cpu"))
        except RuntimeError as error:
            raise Unavailable(
                f"JAX {self._jax.__version__} sees no GPU ({one_line(error)}): "
                f'pip install "jax[cuda12]" brings its CUDA libraries; {SEE_DOCTOR}'
            ) from error


def _name(device: Any) -> str:
    """Platform and number; `gpu` for what JAX may call `cuda` or `rocm`."""
    return f"{'cpu' if device.platform == 'cpu' else 'gpu'}:{device.id}"


def _capability(device: Any) -> tuple[int, int] | None:
    """The compute capability of a GPU, which JAX tells as text."""
    major, _, minor = str(getattr(device, "compute_capability", "")).partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
