"""The child process of `doctor`: tests TensorFlow on one device.

`python -m bench.worker.tensorflow.probe DEVICE` prints one JSON object per line on stdout, one for
each step: `step` and its facts, or `unavailable`, or `error`. With the device `none` it prints
only versions. Output of libraries goes to stderr.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.schema.errors import Unavailable
from bench.worker.memory import PeakMemory
from bench.worker.protocol import Emit
from bench.worker.tensorflow.device import TensorFlowDevice

ALLOCATED_BYTES = 64 * 2**20
_LONG_ENOUGH_S = 0.2
_MOST_PRODUCTS = 4096


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
    """Emit the facts of each step; ends early where TensorFlow or the device cannot be used."""
    try:
        import keras
        import tensorflow as tf
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        emit({"step": "versions", "error": _line(error)})
        return
    build = dict(tf.sysconfig.get_build_info())
    emit(
        {
            "step": "versions",
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "cuda": build.get("cuda_version"),
        }
    )
    if device == "none":
        return
    target = TensorFlowDevice(tf, device, "float32")
    for step in (_device, _placement, _waiting, _tf32, _memory):
        name = step.__name__.lstrip("_")
        try:
            emit({"step": name, **step(tf, target)})
        except Unavailable as reason:
            emit({"step": name, "unavailable": str(reason)})
            return
        except Exception as error:  # noqa: BLE001 - the finding of this step
            emit({"step": name, "error": _line(error)})


def _device(tf: Any, device: TensorFlowDevice) -> dict[str, Any]:
    device.configure()
    return {"device_name": device.device_name}


def _placement(tf: Any, device: TensorFlowDevice) -> dict[str, Any]:
    product = tf.function(lambda x: tf.linalg.matmul(x, x), jit_compile=True)
    with device.scope():
        variable = tf.Variable(tf.ones((8, 8)))
        result = product(variable)
    return {"name": device.name, "misplaced": device.misplaced([variable, result])}


def _waiting(tf: Any, device: TensorFlowDevice) -> dict[str, Any]:
    """Seconds to dispatch a chain of products, to synchronize after it, and to read its result."""
    size = 1024 if device.name == "/CPU:0" else 4096
    with device.scope():
        factor = tf.random.normal((size, size)) / size**0.5

        def chain(length: int) -> Any:
            """The sum of the result of `length` products, each of the one before."""
            product = factor
            for _ in range(length):
                product = tf.linalg.matmul(product, factor)
            return tf.reduce_sum(product)

        def seconds(length: int, finish: Callable[[Any], object]) -> float:
            """Seconds until `finish` has returned for the chain's result."""
            device.synchronize()
            started = time.perf_counter()
            finish(chain(length))
            return time.perf_counter() - started

        length = 4
        seconds(length, float)
        while length < _MOST_PRODUCTS and seconds(length, float) < _LONG_ENOUGH_S:
            length *= 2
        ends: dict[str, Callable[[Any], object]] = {
            "dispatch_s": lambda result: None,
            "synced_s": lambda result: device.synchronize(),
            "read_s": float,
        }
        rounds = [{name: seconds(length, end) for name, end in ends.items()} for _ in range(3)]
    return {name: min(times[name] for times in rounds) for name in ends}


def _tf32(tf: Any, device: TensorFlowDevice) -> dict[str, Any]:
    """Relative errors of a product whose factors TF32 cannot represent, eager and compiled.

    TF32 has 10 bits after the binary point, so 1 + 2^-12 becomes 1. float32 represents the
    factors, and their sum of 22 bits, exactly.
    """
    if device.name == "/CPU:0":
        return {}
    gpu = tf.config.list_physical_devices("GPU")[0]
    capability = tf.config.experimental.get_device_details(gpu).get("compute_capability")
    size, value = 1024, 1 + 2.0**-12
    errors: dict[str, dict[str, float]] = {"eager": {}, "compiled": {}}
    with device.scope():
        left, right = tf.fill((size, size), value), tf.ones((size, size))
        for state in ("off", "on"):
            tf.config.experimental.enable_tensor_float_32_execution(state == "on")
            # A new function each time, because the switch is read when it is compiled.
            compiled = tf.function(lambda x, y: tf.linalg.matmul(x, y), jit_compile=True)
            for way, product in (("eager", tf.linalg.matmul), ("compiled", compiled)):
                result = float(tf.reduce_max(product(left, right)))
                errors[way][state] = abs(result / (size * value) - 1)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return {"errors": errors, "compute_capability": capability}


def _memory(tf: Any, device: TensorFlowDevice) -> dict[str, Any]:
    """The rise of the memory peak by an allocation of known size, measured as launches do."""
    numbers = ALLOCATED_BYTES // 4
    if device.name == "/CPU:0":
        host = PeakMemory()
        with device.scope():
            block = tf.ones((numbers,))
        rise = host.rise_bytes()
    else:
        device.reset_peak_memory()
        before = device.peak_memory_bytes() or 0
        with device.scope():
            block = tf.ones((numbers,))
        device.synchronize()
        rise = (device.peak_memory_bytes() or 0) - before
    del block
    return {"allocated_bytes": ALLOCATED_BYTES, "rise_bytes": rise}


def _line(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"


if __name__ == "__main__":
    main()
