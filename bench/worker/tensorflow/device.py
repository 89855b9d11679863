"""Makes TensorFlow train on one device only: the worker's part of `bench.machine.devices`.

TensorFlow is an argument and never imported, so that tests can replace it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from bench.backends.tensorflow import CUDA_DRIVER_VARIABLE
from bench.machine import hardware
from bench.machine.cuda import SEE_DOCTOR, driver_is_too_old, missing_cuda_libraries, refuse_tf32
from bench.machine.gpu_memory import free_bytes_of_gpu
from bench.schema.errors import Unavailable

_DEVICE = re.compile(r"(CPU|GPU):(\d+)$", re.IGNORECASE)


class TensorFlowDevice:
    """One device, as TensorFlow sees it inside the worker.

    Args:
        tf: the module tensorflow.
        device: the device, as the case spells it; `child_environment` leaves only that GPU
            visible.
        precision: precision of the case.
        cpu_name: `device_name` of a CPU, because TensorFlow does not know the model of a CPU.
        environ: the environment, with the driver's CUDA version.

    Attributes:
        name: TensorFlow's logical name, `/CPU:0` or `/GPU:0`.
    """

    def __init__(
        self,
        tf: Any,
        device: str,
        precision: str,
        cpu_name: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._tf = tf
        self._is_gpu = device != "cpu"
        self._precision = precision
        self._cpu_name = cpu_name
        self._environ = environ
        self.name = "/GPU:0" if self._is_gpu else "/CPU:0"

    def configure(self) -> None:
        """Set placement, TF32 and memory; must be called before any device is used.

        With soft placement, TensorFlow's default, operations of `tf.device("/GPU:0")` may run on
        the CPU without an error. TF32, on by default, is on only for the precision `tf32`: in the
        mixed precisions, loss and last layer are to stay in float32.

        Raises:
            Unavailable: the case needs a GPU that TensorFlow does not have; the message has the
                reason.
        """
        config = self._tf.config
        config.set_soft_device_placement(False)
        config.experimental.enable_tensor_float_32_execution(self._precision == "tf32")
        if not self._is_gpu:
            config.set_visible_devices([], "GPU")
            return
        gpus = config.list_physical_devices("GPU")
        if not gpus:
            raise Unavailable(self._why_no_gpu())
        if len(gpus) > 1:
            raise Unavailable(
                f"TensorFlow sees {len(gpus)} GPUs where CUDA_VISIBLE_DEVICES names one: which "
                "of them would train is not known"
            )
        if self._precision == "tf32":
            details = self._details()
            refuse_tf32(str(self.device_name), details.get("compute_capability"))
        config.experimental.set_memory_growth(gpus[0], True)

    @property
    def device_name(self) -> str | None:
        """The model of the GPU or CPU; None for a CPU without `cpu_name`."""
        if not self._is_gpu:
            return self._cpu_name
        return str(self._details().get("device_name", "unknown GPU"))

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which operations are placed on this device."""
        context: AbstractContextManager[Any] = self._tf.device(self.name)
        return context

    def replicated(self) -> AbstractContextManager[Any]:
        """The context in which a model is built, compiled and trained on the replicas."""
        return nullcontext()

    def wait_for_others(self) -> None:
        """Return once every process of the replicas has come here."""

    def all_reduce_s(self, size_bytes: int) -> float | None:
        """Seconds in which the replicas add up so many bytes of float32; None for one replica."""
        return None

    def synchronize(self) -> None:
        """Return once everything that was dispatched has been computed.

        Where TensorFlow has no `sync_devices`, a number is computed on the device and read back.
        A GPU's stream works in order, so all earlier work is done then.
        """
        sync_devices = getattr(self._tf.test.experimental, "sync_devices", None)
        if sync_devices is not None:
            sync_devices()
            return
        with self.scope():
            (self._tf.constant(0.0) + 1.0).numpy()

    def free_memory(self, loop: str) -> tuple[int | None, str]:
        """(free bytes, name) of the memory to which a loop copies its data.

        `compiled` keeps them on the device, the other loops in the host's memory. None where the
        GPU's free memory is not known.
        """
        if not self._is_gpu or loop != "compiled":
            return hardware.memory_available_bytes(), "memory"
        free = free_bytes_of_gpu(self._environ.get("CUDA_VISIBLE_DEVICES", ""))
        return free, f"memory of {self.device_name}"

    def reset_peak_memory(self) -> None:
        """Reset the peak of the device's allocator to the memory in use."""
        if self._is_gpu:
            self._tf.config.experimental.reset_memory_stats(self.name[1:])

    def peak_memory_bytes(self) -> int | None:
        """Peak bytes of the device's allocator since the reset; None on a CPU, which has none."""
        if not self._is_gpu:
            return None
        return int(self._tf.config.experimental.get_memory_info(self.name[1:])["peak"])

    def misplaced(self, tensors: Iterable[Any]) -> list[str]:
        """Floating-point variables, images and tensors on another device, with that device.

        Other integers are left out: TensorFlow keeps int32 in host memory even for operations of
        a GPU, and an iteration counter or a seed is no work of the device.
        """
        return [
            f"{_label(tensor)} on {place or 'no device'}"
            for tensor in tensors
            if _is_data(tensor) and not self._is_here(place := _place(tensor))
        ]

    def software(self) -> dict[str, Any]:
        """Versions and build flags that are known only after TensorFlow is imported."""
        tf = self._tf
        build = dict(tf.sysconfig.get_build_info())
        return {
            "tensorflow": tf.__version__,
            "keras": _keras_version(),
            "compiler": getattr(tf, "__compiler_version__", None),
            "built_with_cuda": bool(tf.test.is_built_with_cuda()),
            "built_with_xla": bool(tf.test.is_built_with_xla()),
            "cuda_version": build.get("cuda_version"),
            "cudnn_version": build.get("cudnn_version"),
            "cuda_compute_capabilities": build.get("cuda_compute_capabilities"),
            "onednn": _onednn(),
            "tf32": bool(tf.config.experimental.tensor_float_32_execution_enabled()),
            "xla_auto_jit": tf.config.optimizer.get_jit() or None,
        }

    def _details(self) -> dict[str, Any]:
        gpu = self._tf.config.list_physical_devices("GPU")[0]
        return dict(self._tf.config.experimental.get_device_details(gpu))

    def _is_here(self, place: str) -> bool:
        found = _DEVICE.search(place)
        return found is not None and f"/{found[1].upper()}:{found[2]}" == self.name

    def _why_no_gpu(self) -> str:
        tf = self._tf
        if not tf.test.is_built_with_cuda():
            return (
                f"TensorFlow {tf.__version__} is built for CPUs only: "
                'pip install "tensorflow[and-cuda]" (on Windows, inside WSL2)'
            )
        build = dict(tf.sysconfig.get_build_info())
        built, driver = build.get("cuda_version"), self._environ.get(CUDA_DRIVER_VARIABLE)
        if driver_is_too_old(driver, built):
            return (
                f"the NVIDIA driver knows CUDA {driver} at most, TensorFlow {tf.__version__} is "
                f"built for CUDA {built}: update the driver"
            )
        if missing := missing_cuda_libraries(built, build.get("cudnn_version")):
            return (
                f"CUDA libraries cannot be loaded: {', '.join(missing)}; "
                'pip install "tensorflow[and-cuda]" brings them'
            )
        return f"TensorFlow sees no GPU: {SEE_DOCTOR}"


def _keras_version() -> str | None:
    """Version of the Keras that trains; None where none is loaded.

    With TF_USE_LEGACY_KERAS, `tf.keras` may be another Keras, or missing.
    """
    return getattr(sys.modules.get("keras"), "__version__", None)


def _onednn() -> bool | None:
    """Whether oneDNN's kernels are in use; None where not known.

    TensorFlow has no public function for it, so its private module is used.
    """
    ask = getattr(sys.modules.get("tensorflow.python.util._pywrap_util_port"), "IsMklEnabled", None)
    return None if ask is None else bool(ask())


def _value(tensor: Any) -> Any:
    """TensorFlow's variable of a Keras variable, whose `value` is a property; else `tensor`."""
    value = getattr(tensor, "value", None)
    return tensor if value is None or callable(value) else value


def _is_data(tensor: Any) -> bool:
    dtype = _value(tensor).dtype
    return bool(dtype.is_floating or dtype.name == "uint8")


def _place(tensor: Any) -> str:
    """The device that holds the memory, which may not be the device that computed it."""
    value = _value(tensor)
    return str(getattr(value, "backing_device", None) or value.device or "")


def _label(tensor: Any) -> str:
    """A variable's path; for an eager tensor, which has no name, its shape."""
    return str(getattr(tensor, "path", None) or f"tensor of shape {tuple(tensor.shape)}")
