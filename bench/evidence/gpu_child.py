"""The child of `bench.evidence.gpu`: runs a framework on the one device that its process sees.

`python -m bench.evidence.gpu_child FRAMEWORK` reads JSON objects, one per line of its standard
input, with `op` and the operation's arguments. It prints one JSON object for each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol

ALLOCATED_BYTES = 64 * 2**20
# Seconds of the gap after each traced call, which a reader of the trace must find.
REST_S = 0.01
_TF32_SIZE, _TF32_VALUE = 1024, 1 + 2.0**-12
_PRODUCT_SIZE = 8192
_READINGS = 15
# Blocks that `hold` has allocated.
_HELD: list[Any] = []


class Framework(Protocol):
    """The operations of a framework; arrays are its own."""

    def about(self) -> dict[str, Any]:
        """Version, devices that it sees, and their UUIDs where it reports them."""

    def full(self, size: int, value: float) -> Any:
        """A square matrix of one value, in float32."""

    def random(self, size: int) -> Any:
        """A square matrix of normal numbers divided by the root of its size, in float32."""

    def product(self, tf32: bool) -> Callable[[Any, Any], Any]:
        """A function for the product of two matrices, with or without TF32."""

    def wait(self, result: Any) -> None:
        """Wait until `result` is computed."""

    def memory_rise(self, byte_count: int) -> dict[str, int | None]:
        """The rise of the framework's memory peak by an allocation of `byte_count` bytes."""

    def block(self, byte_count: int) -> Any:
        """An array of `byte_count` bytes on the device."""

    def free_bytes(self) -> int | None:
        """Free bytes of the device's memory; None where the framework does not tell."""


class Jax:
    """JAX, compiled."""

    def __init__(self) -> None:
        import jax

        self._jax = jax

    def about(self) -> dict[str, Any]:
        """As `Framework.about`; JAX reports no UUIDs."""
        devices = self._jax.devices()
        names = [device.device_kind for device in devices]
        return {"version": self._jax.__version__, "devices": names, "uuids": []}

    def full(self, size: int, value: float) -> Any:
        """As `Framework.full`."""
        return self._jax.numpy.full((size, size), value, "float32")

    def random(self, size: int) -> Any:
        """As `Framework.random`."""
        return self._jax.random.normal(self._jax.random.key(0), (size, size)) / size**0.5

    def product(self, tf32: bool) -> Callable[[Any, Any], Any]:
        """As `Framework.product`."""
        precision = "tensorfloat32" if tf32 else "float32"
        multiply: Callable[[Any, Any], Any] = self._jax.jit(
            lambda x, y: self._jax.numpy.matmul(x, y, precision=precision)
        )
        return multiply

    def wait(self, result: Any) -> None:
        """As `Framework.wait`."""
        result.block_until_ready()

    def memory_rise(self, byte_count: int) -> dict[str, int | None]:
        """As `Framework.memory_rise`."""
        device = self._jax.devices()[0]
        before = device.memory_stats()
        block = self.block(byte_count)
        self.wait(block)
        after = device.memory_stats()
        rise = None if after is None else after["peak_bytes_in_use"] - before["peak_bytes_in_use"]
        return {"allocated_bytes": byte_count, "rise_bytes": rise}

    def block(self, byte_count: int) -> Any:
        """As `Framework.block`."""
        return self._jax.numpy.ones((byte_count // 4,), "float32")

    def free_bytes(self) -> int | None:
        """As `Framework.free_bytes`; JAX tells of its own allocator only."""
        return None


class Torch:
    """PyTorch, eager."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"

    def about(self) -> dict[str, Any]:
        """As `Framework.about`."""
        cuda = self._torch.cuda
        cards = [cuda.get_device_properties(place) for place in range(cuda.device_count())]
        return {
            "version": self._torch.__version__,
            "devices": [card.name for card in cards] or ["cpu"],
            "uuids": [f"GPU-{card.uuid}" for card in cards],
        }

    def full(self, size: int, value: float) -> Any:
        """As `Framework.full`."""
        return self._torch.full((size, size), value, device=self._device)

    def random(self, size: int) -> Any:
        """As `Framework.random`."""
        return self._torch.randn((size, size), device=self._device) / size**0.5

    def product(self, tf32: bool) -> Callable[[Any, Any], Any]:
        """As `Framework.product`."""

        def multiply(x: Any, y: Any) -> Any:
            """The product."""
            self._torch.backends.cuda.matmul.allow_tf32 = tf32
            return self._torch.matmul(x, y)

        return multiply

    def wait(self, result: Any) -> None:
        """As `Framework.wait`."""
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def memory_rise(self, byte_count: int) -> dict[str, int | None]:
        """As `Framework.memory_rise`."""
        if self._device == "cpu":
            return {"allocated_bytes": byte_count, "rise_bytes": None}
        self._torch.cuda.reset_peak_memory_stats()
        before = self._torch.cuda.max_memory_allocated()
        block = self.block(byte_count)
        rise = self._torch.cuda.max_memory_allocated() - before
        del block
        return {"allocated_bytes": byte_count, "rise_bytes": rise}

    def block(self, byte_count: int) -> Any:
        """As `Framework.block`."""
        return self._torch.ones(byte_count // 4, device=self._device)

    def free_bytes(self) -> int | None:
        """As `Framework.free_bytes`."""
        return None if self._device == "cpu" else int(self._torch.cuda.mem_get_info()[0])


FRAMEWORKS: dict[str, Callable[[], Framework]] = {"jax": Jax, "torch": Torch}


def main() -> None:
    """Answer each line of stdin until it ends; output of libraries goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        framework = FRAMEWORKS[sys.argv[1]]()
        for line in sys.stdin:
            request = json.loads(line)
            answer = _OPERATIONS[request.pop("op")](framework, **request)
            channel.write(json.dumps(answer) + "\n")
            channel.flush()


def _probe(framework: Framework, size: int = _PRODUCT_SIZE) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        **framework.about(),
        "memory": framework.memory_rise(ALLOCATED_BYTES),
        "waiting": _waiting(framework, size),
        "tf32": _tf32(framework, size),
    }


def _waiting(framework: Framework, size: int) -> dict[str, float]:
    """Seconds to dispatch a chain of products, and until the device has computed it."""
    multiply, factor = framework.product(tf32=False), framework.random(size)
    framework.wait(multiply(factor, factor))
    readings: list[tuple[float, float]] = []
    for _ in range(3):
        started, result = time.perf_counter(), factor
        for _ in range(8):
            result = multiply(result, factor)
        handed_over = time.perf_counter() - started
        framework.wait(result)
        readings.append((handed_over, time.perf_counter() - started))
    handed_over, synced = min(readings, key=lambda reading: reading[1])
    return {"dispatch_s": handed_over, "synced_s": synced}


def _tf32(framework: Framework, size: int) -> dict[str, dict[str, float]]:
    """The relative error of a product that TF32 rounds, and FLOP/s of a large product.

    TF32 has 10 bits after the binary point, so the factor 1 + 2^-12 becomes 1.
    """
    left, right = framework.full(_TF32_SIZE, _TF32_VALUE), framework.full(_TF32_SIZE, 1.0)
    factor = framework.random(size)
    ways = {"off": framework.product(tf32=False), "on": framework.product(tf32=True)}
    seconds: dict[str, list[float]] = {state: [] for state in ways}
    for number in range(_READINGS + 1):
        for state, multiply in ways.items():
            started = time.perf_counter()
            framework.wait(multiply(factor, factor))
            # The first one compiles.
            seconds[state] += [time.perf_counter() - started] * bool(number)
    return {
        state: {
            "relative_error": abs(
                float(multiply(left, right)[0, 0]) / (_TF32_SIZE * _TF32_VALUE) - 1
            ),
            "flops_per_s": 2 * size**3 / median(seconds[state]),
        }
        for state, multiply in ways.items()
    }


def _load(
    framework: Framework, seconds: float, rest_s: float = 0.0, size: int = _PRODUCT_SIZE
) -> dict[str, float]:
    """Compute products for `seconds`, with a rest of `rest_s` after each."""
    multiply, factor = framework.product(tf32=True), framework.random(size)
    framework.wait(multiply(factor, factor))
    end, products = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        framework.wait(multiply(factor, factor))
        products += 1
        time.sleep(rest_s)
    return {"products": products}


def _hold(framework: Framework, byte_count: int) -> dict[str, int | None]:
    """Allocate a block that stays until this process ends."""
    _HELD.append(framework.block(byte_count))
    framework.wait(_HELD[-1])
    return {"free_bytes": framework.free_bytes()}


def _trace(
    framework: Framework, folder: str, calls: int, scanned: int = 8, batch: int = 128
) -> dict[str, Any]:
    """Trace `calls` calls of the peer `jax_scan` after a warm-up, with a rest after each call."""
    import jax
    import numpy as np

    from bench.peers.jax_scan import build
    from bench.peers.training import Training
    from fmnist_models.dataset import load, split

    data = split(load()).flat()
    order = np.arange(scanned * batch, dtype=np.int32)
    few = replace(data, train_x=data.train_x[: order.size], train_y=data.train_y[: order.size])
    epoch = build(few, Training(batch, seed=1)).epoch
    for _ in range(2):
        epoch(order)
    with jax.profiler.trace(folder):
        for _ in range(calls):
            epoch(order)
            time.sleep(REST_S)
    (file,) = Path(folder).rglob("*.xplane.pb")
    return {"file": str(file)}


_OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "probe": _probe,
    "load": _load,
    "hold": _hold,
    "trace": _trace,
}

if __name__ == "__main__":
    main()
