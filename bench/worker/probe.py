"""The child process of `doctor`: tests the framework behind Keras on one device.

`python -m bench.worker.probe DEVICE` prints one JSON object per line on stdout, one for each step:
`step` and its facts, or `unavailable`, or `error`. With the device `none` it prints only versions.
Output of libraries goes to stderr. The variable KERAS_BACKEND names the framework.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from bench.schema.errors import Unavailable
from bench.worker.memory import PeakMemory
from bench.worker.protocol import Emit

ALLOCATED_BYTES = 64 * 2**20
_LONG_ENOUGH_S = 0.2
_MOST_PRODUCTS = 4096
# The side of the matrices of the wait, on a CPU and on a GPU.
_SMALL, _LARGE = 1024, 4096
# TF32 has 10 bits after the binary point, so 1 + 2^-12 becomes 1. float32 represents it, and the
# sum of so many of them, of 22 bits, exactly.
_TF32_SIZE, _TF32_VALUE = 1024, 1 + 2.0**-12


class Target(Protocol):
    """The device of a probe, as `bench.worker.framework.Device` has it."""

    name: str

    def configure(self) -> None:
        """Set placement, precision of products and memory."""

    @property
    def device_name(self) -> str | None:
        """The model of the GPU or CPU; None where it is not known."""

    def synchronize(self) -> None:
        """Return once everything that was dispatched has been computed."""

    def misplaced(self, tensors: Any) -> list[str]:
        """Data on another device, with that device."""

    def reset_peak_memory(self) -> None:
        """Reset the peak of the device's allocator to the memory in use."""

    def peak_memory_bytes(self) -> int | None:
        """Peak bytes of the device's allocator since the reset."""


class Probed(Protocol):
    """What the `PROBED` of a framework's package `probe` is; making it imports the framework.

    Attributes:
        device: the device, for float32.
    """

    device: Target

    def versions(self) -> Mapping[str, Any]:
        """Its version by its package, that of `keras`, the CUDA it is built for, and `others`.

        `others` names accelerators that it sees and this suite has never been run on.
        """

    def placed(self) -> list[Any]:
        """A variable, and the result of a compiled product with it."""

    def square(self, size: int) -> Any:
        """A matrix with as many rows, whose powers neither grow nor vanish."""

    def chain(self, factor: Any, length: int) -> Any:
        """Dispatch so many products, each of the one before, and their sum, which `float` reads."""

    def largest(self, size: int, value: float) -> Iterator[tuple[str, str, float]]:
        """(way, `off` or `on`, largest number) of a product of `value` with ones, by TF32's state.

        TF32 is off afterwards.
        """

    def compute_capability(self) -> tuple[int, int] | None:
        """That of the GPU; None where it is not known."""

    def ones(self, numbers: int) -> Any:
        """An array of so many float32 numbers."""


def main() -> None:
    """Run every step; only the findings are written to the stdout that the parent reads."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)

        def emit(message: dict[str, Any]) -> None:
            """Write one step's finding on a line."""
            channel.write(json.dumps(message) + "\n")
            channel.flush()

        probe(sys.argv[1], emit)


def probe(device: str, emit: Emit) -> None:
    """Emit the facts of each step; ends early where the framework or the device cannot be used."""
    try:
        import keras

        module = import_module(f"bench.worker.{keras.backend.backend()}.probe")
        target = cast("Probed", module.PROBED("cpu" if device == "none" else device))
        facts = target.versions()
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        emit({"step": "versions", "error": _line(error)})
        return
    emit({"step": "versions", "python": platform.python_version(), **facts})
    if device == "none":
        return
    for step in (_device, _placement, _waiting, _tf32, _memory):
        name = step.__name__.lstrip("_")
        try:
            emit({"step": name, **step(target, device == "cpu")})
        except Unavailable as reason:
            emit({"step": name, "unavailable": str(reason)})
            return
        except Exception as error:  # noqa: BLE001 - the finding of this step
            emit({"step": name, "error": _line(error)})


def _device(probed: Probed, on_cpu: bool) -> dict[str, Any]:
    probed.device.configure()
    return {"device_name": probed.device.device_name}


def _placement(probed: Probed, on_cpu: bool) -> dict[str, Any]:
    device = probed.device
    return {"name": device.name, "misplaced": device.misplaced(probed.placed())}


def _waiting(probed: Probed, on_cpu: bool) -> dict[str, Any]:
    """Seconds to dispatch a chain of products, to synchronize after it, and to read its result."""
    factor = probed.square(_SMALL if on_cpu else _LARGE)

    def seconds(length: int, finish: Callable[[Any], object]) -> float:
        """Seconds until `finish` has returned for the chain's result."""
        probed.device.synchronize()
        started = time.perf_counter()
        finish(probed.chain(factor, length))
        return time.perf_counter() - started

    length = 4
    seconds(length, float)
    while length < _MOST_PRODUCTS and seconds(length, float) < _LONG_ENOUGH_S:
        length *= 2
    ends: dict[str, Callable[[Any], object]] = {
        "dispatch_s": lambda result: None,
        # The result is kept: some frameworks wait for the arrays that there are.
        "synced_s": lambda result: probed.device.synchronize(),
        "read_s": float,
    }
    rounds = [{name: seconds(length, end) for name, end in ends.items()} for _ in range(3)]
    return {name: min(times[name] for times in rounds) for name in ends}


def _tf32(probed: Probed, on_cpu: bool) -> dict[str, Any]:
    """Relative errors of a product whose factors TF32 cannot represent."""
    if on_cpu:
        return {}
    errors: dict[str, dict[str, float]] = {}
    for way, state, result in probed.largest(_TF32_SIZE, _TF32_VALUE):
        errors.setdefault(way, {})[state] = abs(result / (_TF32_SIZE * _TF32_VALUE) - 1)
    return {"errors": errors, "compute_capability": probed.compute_capability()}


def _memory(probed: Probed, on_cpu: bool) -> dict[str, Any]:
    """The rise of the memory peak by an allocation of known size, measured as launches do."""
    numbers, device = ALLOCATED_BYTES // 4, probed.device
    if on_cpu:
        host = PeakMemory()
        block = probed.ones(numbers)
        device.synchronize()
        rise = host.rise_bytes()
    else:
        device.reset_peak_memory()
        # JAX cannot reset the peak, which is that of the steps before. With as much in use, each
        # byte more raises it.
        filler = probed.ones((device.peak_memory_bytes() or 0) // 4 + 1)
        device.synchronize()
        before = device.peak_memory_bytes()
        block = probed.ones(numbers)
        device.synchronize()
        after = device.peak_memory_bytes()
        rise = None if before is None or after is None else after - before
        del filler
    del block
    return {"allocated_bytes": ALLOCATED_BYTES, "rise_bytes": rise}


def _line(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"


if __name__ == "__main__":
    main()
