"""Makes TensorFlow train on its devices only: the worker's part of `bench.machine.devices`.

TensorFlow is an argument and never imported, so that tests can replace it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from bench.backends.tensorflow import CUDA_DRIVER_VARIABLE
from bench.machine import hardware
from bench.machine.cuda import SEE_DOCTOR, driver_is_too_old, missing_cuda_libraries, refuse_tf32
from bench.machine.gpu_memory import free_bytes_of_gpu
from bench.schema.cells import counted
from bench.schema.errors import Unavailable
from bench.worker.replicas import reading_s
from bench.worker.tensorflow.replicas import adding, make_virtual_cpus, strategy_over
from fmnist_models.replicas import ONE, Replicas

_DEVICE = re.compile(r"(CPU|GPU):(\d+)$", re.IGNORECASE)


class TensorFlowDevice:
    """One device, or that of each replica, as TensorFlow sees it inside the worker.

    Args:
        tf: the module tensorflow.
        device: the device, as the case spells it; `child_environment` leaves only that GPU, or
            those of the replicas, visible.
        precision: precision of the case.
        cpu_name: `device_name` of a CPU, because TensorFlow does not know the model of a CPU.
        environ: the environment, with the driver's CUDA version.
        replicas: several are devices of this process.

    Attributes:
        name: TensorFlow's logical name, `/CPU:0` or `/GPU:0`; of several, that of the first one.
        names: those of all replicas.
    """

    def __init__(
        self,
        tf: Any,
        device: str,
        precision: str,
        cpu_name: str | None = None,
        environ: Mapping[str, str] = os.environ,
        replicas: Replicas = ONE,
    ) -> None:
        self._tf = tf
        self._is_gpu = device != "cpu"
        self._precision = precision
        self._cpu_name = cpu_name
        self._environ = environ
        kind = "GPU" if self._is_gpu else "CPU"
        self.names = [f"/{kind}:{number}" for number in range(replicas.here)]
        self.name = self.names[0]
        self._strategy: Any = None

    def configure(self) -> None:
        """Set placement, TF32 and memory; must be called before any device is used.

        With soft placement, TensorFlow's default, operations of `tf.device("/GPU:0")` may run on
        the CPU without an error. TF32, on by default, is on only for the precision `tf32`: in the
        mixed precisions, loss and last layer are to stay in float32.

        Of several replicas on the CPU, each is a virtual device of it.

        Raises:
            Unavailable: the case needs GPUs that TensorFlow does not have; the message has the
                reason.
        """
        config = self._tf.config
        config.set_soft_device_placement(False)
        config.experimental.enable_tensor_float_32_execution(self._precision == "tf32")
        if not self._is_gpu:
            config.set_visible_devices([], "GPU")
            if self._spread:
                make_virtual_cpus(self._tf, len(self.names))
            return
        gpus = config.list_physical_devices("GPU")
        if not gpus:
            raise Unavailable(self._why_no_gpu())
        if len(gpus) != len(self.names):
            raise Unavailable(self._why_other_gpus(len(gpus)))
        for gpu in gpus:
            if self._precision == "tf32":
                details = self._details(gpu)
                refuse_tf32(_name_in(details), details.get("compute_capability"))
            config.experimental.set_memory_growth(gpu, True)

    @property
    def device_name(self) -> str | None:
        """The models of the GPUs, or that of the CPU; None for a CPU without `cpu_name`."""
        if not self._is_gpu:
            return self._cpu_name
        gpus = self._tf.config.list_physical_devices("GPU")
        return ", ".join(dict.fromkeys(_name_in(self._details(gpu)) for gpu in gpus))

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which operations are placed on this device."""
        context: AbstractContextManager[Any] = self._tf.device(self.name)
        return context

    def replicated(self) -> AbstractContextManager[Any]:
        """The context in which a model is built, compiled and trained on the replicas.

        It is that of a `MirroredStrategy`. One replica has none, so that it trains as users do.
        """
        if not self._spread:
            return nullcontext()
        self._strategy = strategy_over(self._tf, self.names)
        context: AbstractContextManager[Any] = self._strategy.scope()
        return context

    def wait_for_others(self) -> None:
        """Return at once: one process drives all replicas."""

    def of_first(self, value: float) -> float:
        """The value: there is one process."""
        return value

    def all_reduce_s(self, size_bytes: int) -> float | None:
        """Seconds in which the replicas add up so many bytes of float32; None for one replica.

        Call it within `replicated`.
        """
        if not self._spread:
            return None
        add = partial(adding, self._tf, self._strategy, self.synchronize)
        return reading_s(self, size_bytes, add)

    def synchronize(self) -> None:
        """Return once everything that was dispatched has been computed.

        Where TensorFlow has no `sync_devices`, a number is computed on the device and read back.
        A GPU's stream works in order, so all earlier work is done then.
        """
        sync_devices = getattr(self._tf.test.experimental, "sync_devices", None)
        if sync_devices is not None:
            sync_devices()
            return
        for name in self.names:
            with self._tf.device(name):
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
        """Reset the peak of each device's allocator to the memory in use."""
        for name in self.names if self._is_gpu else ():
            self._tf.config.experimental.reset_memory_stats(name[1:])

    def peak_memory_bytes(self) -> int | None:
        """Peak bytes of the fullest device's allocator since the reset; None on a CPU."""
        if not self._is_gpu:
            return None
        read = self._tf.config.experimental.get_memory_info
        return max(int(read(name[1:])["peak"]) for name in self.names)

    def misplaced(self, tensors: Iterable[Any]) -> list[str]:
        """Floating-point variables, images and tensors on another device, with that device.

        Of several replicas, each has its own copy of a variable. Other integers are left out:
        TensorFlow keeps int32 in host memory even for operations of a GPU, and an iteration
        counter or a seed is no work of the device.
        """
        return [
            f"{_label(tensor)} on {' and '.join(places) or 'no device'}"
            for tensor in tensors
            if _is_data(tensor) and not self._are_here(places := _places(tensor))
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

    @property
    def _spread(self) -> bool:
        return len(self.names) > 1

    def _details(self, gpu: Any) -> dict[str, Any]:
        return dict(self._tf.config.experimental.get_device_details(gpu))

    def _are_here(self, places: Iterable[str]) -> bool:
        """Whether these are the devices, each once."""
        found = [_DEVICE.search(place) for place in places]
        return sorted(f"/{f[1].upper()}:{f[2]}" for f in found if f) == sorted(self.names)

    def _why_other_gpus(self, seen: int) -> str:
        """Why another number of GPUs than that of the replicas cannot train."""
        wanted = len(self.names)
        if seen < wanted:
            return (
                f"{wanted} replicas need as many GPUs, and TensorFlow sees {counted(seen, 'GPU')}: "
                f"name --replicas {seen}"
            )
        named = "one" if wanted == 1 else wanted
        return (
            f"TensorFlow sees {seen} GPUs where CUDA_VISIBLE_DEVICES names {named}: which of them "
            "would train is not known"
        )

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


def _places(tensor: Any) -> list[str]:
    """The devices that hold the memory, which may not be those that computed it."""
    value = _value(tensor)
    held = [
        str(getattr(copy, "backing_device", None) or copy.device or "")
        for copy in getattr(value, "values", (value,))
    ]
    return [place for place in held if place]


def _name_in(details: Mapping[str, Any]) -> str:
    return str(details.get("device_name", "unknown GPU"))


def _label(tensor: Any) -> str:
    """A variable's path; for an eager tensor, which has no name, its shape."""
    return str(getattr(tensor, "path", None) or f"tensor of shape {tuple(tensor.shape)}")
