"""The child of `bench.evidence.gpu`: measures with the worker's own classes on one device.

`python -m bench.evidence.gpu.child BACKEND DEVICE` reads JSON objects, one per line of its standard
input, with `op`, `fault` and the operation's arguments. It prints one JSON object for each. With
`fault` the operation does what the check of its values must find.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, cast

import keras

from bench.evidence.gpu.products import Products
from bench.evidence.gpu.traces import PAUSE_S, device_work, events_of
from bench.worker.framework import Device, framework
from bench.worker.memory import PeakMemory
from bench.worker.probe import Probed

_CALLS = 5
_LONG_ENOUGH_S, _MOST_PRODUCTS = 0.2, 4096
# TF32 has 10 bits after the binary point, so 1 + 2^-12 becomes 1.
_TF32_SIZE, _TF32_VALUE = 1024, 1 + 2.0**-12


class Child:
    """Operations on one device.

    Args:
        backend: the framework, which KERAS_BACKEND names too.
        device: the device, as a case spells it.
    """

    def __init__(self, backend: str, device: str) -> None:
        self._backend, self._device_word = backend, device
        self._on_cpu = device == "cpu"
        if backend == "tensorflow" and self._on_cpu:
            _make_virtual()
        module = import_module(f"bench.worker.{backend}.probe")
        self._probed = cast("Probed", module.PROBED(device))
        self._probed.device.configure()
        self._size = 1024 if self._on_cpu else 4096
        self._held: list[Any] = []

    def placement(self, fault: bool) -> dict[str, Any]:
        """Where a variable and a result are; with the fault, also an array on another device."""
        tensors = self._probed.placed()
        if fault:
            tensors.append(self._elsewhere())
        return {"name": self._probed.device.name, "misplaced": self._device.misplaced(tensors)}

    def hold(self, fault: bool, block_bytes: int) -> dict[str, Any]:
        """Allocate a block that stays; the UUIDs of the GPUs that the framework sees."""
        self._held.append(self._probed.ones(block_bytes // 4))
        self._device.synchronize()
        return {"framework_uuids": _uuids(self._backend), "pid": os.getpid()}

    def release(self, fault: bool) -> dict[str, Any]:
        """Forget the blocks."""
        self._held.clear()
        return {}

    def memory(self, fault: bool, allocated_bytes: int) -> dict[str, Any]:
        """The rise of the peak by an allocation; with the fault, by one of half the size."""
        host = PeakMemory() if self._on_cpu else None
        self._device.reset_peak_memory()
        before = self._device.peak_memory_bytes() or 0
        # It stays, so that the peak is what is in use when the next one is allocated: JAX cannot
        # reset it.
        self._held.append(self._probed.ones(allocated_bytes // (8 if fault else 4)))
        self._device.synchronize()
        after = host.rise_bytes() if host else self._device.peak_memory_bytes()
        rise = None if after is None else after - before
        return {"allocated_bytes": allocated_bytes, "rise_bytes": rise}

    def synchronisation(self, fault: bool) -> dict[str, Any]:
        """Seconds of a chain of products; with the fault, nothing is waited for."""
        factor = self._probed.square(self._size)

        def seconds(length: int, finish: Callable[[Any], object]) -> float:
            """Seconds until `finish` has returned for the chain's result."""
            self._device.synchronize()
            started = time.perf_counter()
            result = self._probed.chain(factor, length)
            finish(result)
            took = time.perf_counter() - started
            # What was not waited for must not lie in the next reading.
            float(result)
            return took

        length = 4
        seconds(length, float)
        while length < _MOST_PRODUCTS and seconds(length, float) < _LONG_ENOUGH_S:
            length *= 2

        def waits(result: Any) -> None:
            """Wait for the device, or forget it."""
            if not fault:
                self._device.synchronize()

        found: dict[str, Any] = {"products": length, "size": self._size}
        for name, many, end in (
            ("dispatch_s", length, lambda result: None),
            ("synced_s", length, waits),
            ("synced_twice_s", 2 * length, waits),
            ("read_s", length, float),
        ):
            found[name] = min(seconds(many, end) for _ in range(3))
        return found

    def tf32(self, fault: bool) -> dict[str, Any]:
        """Relative error and FLOP/s without and with TF32; with the fault it is never off."""
        found: dict[str, Any] = {}
        numbers = self._probed.square(self._size)
        ones = keras.ops.ones((_TF32_SIZE, _TF32_SIZE))
        value = keras.ops.full((_TF32_SIZE, _TF32_SIZE), _TF32_VALUE)
        for state, precision in (("off", "tf32" if fault else "float32"), ("on", "tf32")):
            device = framework().device(self._device_word, precision)
            device.configure()
            with device.scope():
                largest = float(keras.ops.max(keras.ops.matmul(value, ones)))
                took = self._product_s(numbers)
            found[state] = {
                "relative_error": abs(largest / (_TF32_SIZE * _TF32_VALUE) - 1),
                "flops_per_s": 2 * self._size**3 / took,
            }
        framework().device(self._device_word, "float32").configure()
        capability = None if self._on_cpu else self._probed.compute_capability()
        return {"compute_capability": capability, **found}

    def products(self, fault: bool, turns: int, size: int) -> dict[str, Any]:
        """Seconds that `turns` products of `size` rows add to a call of the layer, on its own.

        In that layer, since a compiler may choose another product there than alone.
        """
        image = keras.ops.ones((1, 28, 28))
        took = []
        for number in (0, turns):
            layer = Products()
            layer.turns, layer.size = number, size
            call = self._compiled(layer)
            # The first one compiles.
            seconds = [self._call_s(call, image) for _ in range(16)][1:]
            took.append(median(seconds))
        return {"added_s": took[1] - took[0]}

    def load(self, fault: bool, seconds: float) -> dict[str, Any]:
        """Compute products for `seconds`."""
        factor, calls = self._probed.square(self._size), 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            float(self._probed.chain(factor, 8))
            calls += 1
        return {"calls": calls}

    def trace(self, fault: bool) -> dict[str, Any]:
        """Kernels and gaps of calls with a rest between them; with the fault, without a rest."""
        factor = self._probed.square(self._size)
        float(self._probed.chain(factor, 8))
        with tempfile.TemporaryDirectory() as folder:
            with framework().tracing(Path(folder)):
                for number in range(_CALLS):
                    if number and not fault:
                        time.sleep(PAUSE_S)
                    float(self._probed.chain(factor, 8))
                self._device.synchronize()
            events = events_of(Path(folder))
        return {"pauses": _CALLS - 1, "pause_s": PAUSE_S, **device_work(events)}

    @property
    def _device(self) -> Device:
        return cast("Device", self._probed.device)

    def _product_s(self, factor: Any) -> float:
        """Median seconds of a product in a chain, where a chain takes long enough."""
        length = 4
        while length < _MOST_PRODUCTS and self._chain_s(factor, length) < _LONG_ENOUGH_S / 4:
            length *= 2
        return median(self._chain_s(factor, length) for _ in range(5)) / length

    def _call_s(self, call: Callable[[Any], Any], image: Any) -> float:
        self._device.synchronize()
        started = time.perf_counter()
        float(keras.ops.max(call(image)))
        return time.perf_counter() - started

    def _compiled(self, layer: Any) -> Callable[[Any], Any]:
        """A layer as `compiled` has it."""
        found: Callable[[Any], Any]
        if self._backend == "jax":
            import jax

            found = jax.jit(layer)
        elif self._backend == "torch":
            import torch

            found = torch.compile(layer)
        else:
            import tensorflow as tf

            found = tf.function(layer, jit_compile=True)
        return found

    def _chain_s(self, factor: Any, length: int) -> float:
        self._device.synchronize()
        started = time.perf_counter()
        float(self._probed.chain(factor, length))
        return time.perf_counter() - started

    def _elsewhere(self) -> Any:
        """An array on another device than the case's: the host's, or a virtual one."""
        if self._backend == "jax":
            import jax

            place = jax.devices("cpu")[-1]
            return jax.device_put(1.0, place)
        if self._backend == "torch":
            import torch

            return torch.ones(1, device="meta" if self._on_cpu else "cpu")
        import tensorflow as tf

        with tf.device("/CPU:1" if self._on_cpu else "/CPU:0"):
            return tf.ones(())


def _make_virtual() -> None:
    """Give TensorFlow two virtual CPUs, so that something can be on the wrong one."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)


def _uuids(backend: str) -> list[str]:
    """The UUIDs of the GPUs that the framework sees; only PyTorch tells them."""
    if backend != "torch":
        return []
    import torch

    places = range(torch.cuda.device_count())
    return [f"GPU-{torch.cuda.get_device_properties(place).uuid}" for place in places]


def main() -> None:
    """Answer each line of stdin until it ends; output of libraries goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        child = Child(*sys.argv[1:])
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = getattr(child, request.pop("op"))(**request)
            except Exception as error:  # noqa: BLE001 - the parent records it, and goes on
                answer = {"error": f"{type(error).__name__}: {error}"}
            channel.write(json.dumps(answer) + "\n")
            channel.flush()


if __name__ == "__main__":
    main()
