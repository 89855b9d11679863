"""What the worker needs of the framework behind Keras: one package of this folder for each.

The frameworks know nothing of each other. Which one a process has is chosen before it starts, by
the variable KERAS_BACKEND.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import keras
from numpy.typing import NDArray

from bench.schema.profile import Variant
from bench.worker.counting import Counted
from bench.worker.precision import Product
from fmnist_models.loops.base import Loop, Work
from fmnist_models.replicas import ONE, Replicas

if TYPE_CHECKING:
    from bench.worker.ceilings import Peaks
    from fmnist_models.loops.watch import StepWatch


class Device(Protocol):
    """One device, or that of each replica, as the framework sees it inside the worker.

    Attributes:
        name: the framework's name of it; of several, that of the first one.
    """

    name: str

    def configure(self) -> None:
        """Set placement, precision of products and memory; call it before a device is used.

        Of several replicas, their devices are made or found, and their processes meet.

        Raises:
            Unavailable: the case needs a device that the framework does not have.
            UserError: the processes do not meet.
        """

    @property
    def device_name(self) -> str | None:
        """The model of the GPU or CPU; None where it is not known."""

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which operations are placed on this device."""

    def replicated(self) -> AbstractContextManager[Any]:
        """The context in which a model is built, compiled and trained on the replicas."""

    def synchronize(self) -> None:
        """Return once everything that was dispatched has been computed."""

    def wait_for_others(self) -> None:
        """Return once every process of the replicas has come here."""

    def of_first(self, value: float) -> float:
        """The value of the first process, in each of the processes; all must call it."""

    def all_reduce_s(self, size_bytes: int) -> float | None:
        """Seconds in which the replicas add up so many bytes of float32; None for one replica."""

    def free_memory(self, loop: str) -> tuple[int | None, str]:
        """(free bytes, name) of the memory to which a loop copies its data; None if not known."""

    def reset_peak_memory(self) -> None:
        """Reset the peak of the device's allocator to the memory in use."""

    def peak_memory_bytes(self) -> int | None:
        """Peak bytes of the device's allocator since the reset; None where it has none."""

    def misplaced(self, tensors: Iterable[Any]) -> list[str]:
        """Data on another device, with that device."""

    def software(self) -> dict[str, Any]:
        """Versions and build flags that are known only after the framework is imported."""


class Parts(Protocol):
    """The variants of one case that leave parts of its step out, ready to be read in any order."""

    names: Sequence[Variant]

    def warm_up(self) -> None:
        """Trace, compile and run every variant once."""

    def read(self, variant: Variant) -> tuple[float, float]:
        """(seconds, CPU seconds) of a step of one variant; the model is restored afterwards."""


class Framework(Protocol):
    """What the `FRAMEWORK` of a package is."""

    def device(self, device: str, precision: str, replicas: Replicas = ONE) -> Device:
        """A device, as a case spells it, for the precision of a case; or that of each replica."""

    def refuse_settings(self, precision: str) -> None:
        """Refuse settings of the framework that change the precision of the case.

        Raises:
            Invalid: the model's code changed them.
        """

    def apart(self, work: Work) -> list[str]:
        """What Keras computes otherwise with this framework than with the others, as warnings."""

    def per_replica(self, work: Work) -> list[str]:
        """What is computed for each replica alone, and not for the whole batch, as warnings."""

    def products(self, watch: StepWatch) -> list[Product]:
        """The matrix products and convolutions of every trace of a watched step."""

    def step_flops(self, work: Work, loop: Loop) -> Counted:
        """The FLOPs of a step of `work`, which is lowered once more; nothing is run."""

    def waiting_of(self, work: Work, device: Device) -> dict[str, Any]:
        """`waiting_share` and `resident_step_s` of a record; empty for data in memory."""

    def peaks(self, images: NDArray[Any], dtype: str) -> Peaks:
        """What ceilings are measured with, over flat images, for products of a dtype."""

    def parts(self, work: Work, loop: str, device: Device) -> Parts:
        """The variants of a case's step."""

    def naming(self, model: keras.Model) -> AbstractContextManager[None]:
        """The context in which a trace names the parts of a step, as far as it does not by itself.

        A step must be traced and compiled within it.
        """

    def tracing(self, folder: Path) -> AbstractContextManager[None]:
        """The context in which the framework's profiler runs, and writes its files to `folder`."""

    def named_in_trace(self, name: str) -> AbstractContextManager[Any]:
        """The context whose work has a name in the profiler's trace."""


def framework() -> Framework:
    """That of this process; its package is imported at the first call."""
    found = import_module(f"bench.worker.{keras.backend.backend()}.framework")
    return cast("Framework", found.FRAMEWORK)
