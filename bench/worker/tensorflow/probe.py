"""What `bench.worker.probe` needs of TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from bench.worker.probe import Probed
from bench.worker.tensorflow.device import TensorFlowDevice


class TensorFlowProbed(Probed):
    """TensorFlow on one device.

    Args:
        device: the device, as a case spells it.
    """

    def __init__(self, device: str) -> None:
        self.device = TensorFlowDevice(tf, device, "float32")

    def versions(self) -> Mapping[str, Any]:
        """The versions of TensorFlow and Keras, and the CUDA that it is built for."""
        build = dict(tf.sysconfig.get_build_info())
        return {
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "cuda": build.get("cuda_version"),
            "others": _others(build),
        }

    def placed(self) -> list[Any]:
        """A variable, and the result of a compiled product with it."""
        product = tf.function(lambda x: tf.linalg.matmul(x, x), jit_compile=True)
        with self.device.scope():
            variable = tf.Variable(tf.ones((8, 8)))
            return [variable, product(variable)]

    def square(self, size: int) -> tf.Tensor:
        """A matrix with as many rows, whose powers neither grow nor vanish."""
        with self.device.scope():
            return tf.random.normal((size, size)) / size**0.5

    def chain(self, factor: tf.Tensor, length: int) -> tf.Tensor:
        """Dispatch so many products, each of the one before, and their sum."""
        with self.device.scope():
            product = factor
            for _ in range(length):
                product = tf.linalg.matmul(product, factor)
            return tf.reduce_sum(product)

    def largest(self, size: int, value: float) -> Iterator[tuple[str, str, float]]:
        """(way, `off` or `on`, largest number) of a product of `value` with ones."""
        with self.device.scope():
            left, right = tf.fill((size, size), value), tf.ones((size, size))
            for state in ("off", "on"):
                tf.config.experimental.enable_tensor_float_32_execution(state == "on")
                # A new function each time, because the switch is read when it is compiled.
                compiled = tf.function(lambda x, y: tf.linalg.matmul(x, y), jit_compile=True)
                for way, product in (("eager", tf.linalg.matmul), ("compiled", compiled)):
                    yield way, state, float(tf.reduce_max(product(left, right)))
        tf.config.experimental.enable_tensor_float_32_execution(False)

    def compute_capability(self) -> tuple[int, int] | None:
        """That of the GPU; None where it is not known."""
        gpu = tf.config.list_physical_devices("GPU")[0]
        found = tf.config.experimental.get_device_details(gpu).get("compute_capability")
        return None if found is None else tuple(found)

    def ones(self, numbers: int) -> tf.Tensor:
        """An array of so many float32 numbers."""
        with self.device.scope():
            return tf.ones((numbers,))


def _others(build: Mapping[str, Any]) -> list[str]:
    """Accelerators that are no NVIDIA GPU, and builds for them."""
    kinds = {device.device_type for device in tf.config.list_physical_devices()}
    found = sorted(kinds - {"CPU", "GPU"})
    return [*found, "ROCm"] if build.get("is_rocm_build") else found


PROBED = TensorFlowProbed
