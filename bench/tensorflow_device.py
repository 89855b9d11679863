"""How TensorFlow is made to train on one device and nowhere else: the child's half of
`bench.devices`.

TensorFlow is handed in, never imported, so that fakes can stand in for it.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.schema.errors import Unavailable

# The newest CUDA that the driver knows, told by the parent: no TensorFlow API says it.
CUDA_DRIVER_VARIABLE = "FMNIST_CUDA_DRIVER"
SEE_DOCTOR = "run fmnist-bench doctor --device gpu"
TF32_SINCE = "8.0 and later"
_TF32_MAJOR = 8
_DEVICE = re.compile(r"(CPU|GPU):(\d+)$", re.IGNORECASE)
# What TensorFlow opens before it registers a GPU (tsl, dso_loader.cc and dlopen_checker.cc),
# in the versions that each CUDA ships: CUDA toolkit release notes, component versions.
_LIBRARIES: Mapping[int, tuple[str, ...]] = {
    12: (
        "libcudart.so.12",
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libcusolver.so.11",
        "libcusparse.so.12",
    ),
    13: (
        "libcudart.so.13",
        "libcublas.so.13",
        "libcublasLt.so.13",
        "libcufft.so.12",
        "libcusolver.so.12",
        "libcusparse.so.12",
    ),
}


def keras_policy(precision: str) -> str:
    """The Keras dtype policy of a precision; TF32 is float32 to Keras."""
    return "float32" if precision == "tf32" else precision


def refuse_tf32(name: str, compute_capability: tuple[int, int] | None) -> None:
    """Nothing, where a GPU has TF32 or may have it.

    Raises:
        Unavailable: it has none: only compute capability 8.0 and later do.
    """
    if compute_capability is not None and compute_capability[0] < _TF32_MAJOR:
        has = "{}.{}".format(*compute_capability)
        raise Unavailable(f"tf32 needs compute capability {TF32_SINCE}; {name} has {has}")


class TensorFlowDevice:
    """One device, as TensorFlow sees it inside the child.

    Args:
        tf: the module tensorflow.
        device: as the case names it; which GPU that is, `child_environment` has settled by
            leaving one visible.
        precision: of the case.
        cpu_name: what `device_name` says of a CPU, of which TensorFlow knows no name.

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
        """Settle placement, TF32 and memory; must come before any device is touched.

        With soft placement, TensorFlow's default, `tf.device("/GPU:0")` runs on the CPU
        without a word. TF32, on by default, is off for every precision but `tf32`: in the
        mixed ones the loss and the last layer stay in float32, and are meant to.

        Raises:
            Unavailable: the case wants a GPU and TensorFlow has none, with the reason.
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
        """The GPU's or CPU's model; None for a CPU of which nothing was handed in."""
        if not self._is_gpu:
            return self._cpu_name
        return str(self._details().get("device_name", "unknown GPU"))

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which operations are placed on this device."""
        context: AbstractContextManager[Any] = self._tf.device(self.name)
        return context

    def synchronize(self) -> None:
        """Return once everything that was dispatched has been computed.

        Where TensorFlow has no `sync_devices`, a number is computed on the device and read
        back: a GPU's stream works in order, so what was queued before it is done as well.
        """
        sync_devices = getattr(self._tf.test.experimental, "sync_devices", None)
        if sync_devices is not None:
            sync_devices()
            return
        with self.scope():
            (self._tf.constant(0.0) + 1.0).numpy()

    def reset_peak_memory(self) -> None:
        """Let the device allocator's peak start again from what is in use."""
        if self._is_gpu:
            self._tf.config.experimental.reset_memory_stats(self.name[1:])

    def peak_memory_bytes(self) -> int | None:
        """The device allocator's peak since the reset; None on a CPU, which has none."""
        if not self._is_gpu:
            return None
        return int(self._tf.config.experimental.get_memory_info(self.name[1:])["peak"])

    def misplaced(self, tensors: Iterable[Any]) -> list[str]:
        """Names of the floating-point variables, images and tensors that lie on another device.

        Other integers are left out: TensorFlow keeps int32 in host memory even when an
        operation of a GPU asks for it, and an iteration counter or a seed is no work of the
        device.
        """
        return [
            f"{_label(tensor)} on {place or 'no device'}"
            for tensor in tensors
            if _is_data(tensor) and not self._is_here(place := _place(tensor))
        ]

    def software(self) -> dict[str, Any]:
        """Versions and build flags that only an imported TensorFlow can tell."""
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


def driver_is_too_old(driver: str | None, built: str | None) -> bool:
    """Whether a driver that knows CUDA `driver` cannot run what is built for CUDA `built`.

    Within one major version an older driver will do: CUDA compatibility guide, "minor
    version compatibility". Unknown versions are no reason.
    """
    numbers = [re.match(r"\d+", version or "") for version in (driver, built)]
    majors = [int(number[0]) for number in numbers if number]
    return len(majors) == 2 and majors[0] < majors[1]


def missing_cuda_libraries(
    cuda: str | None, cudnn: str | None, load: Callable[[str], Any] = ctypes.CDLL
) -> list[str]:
    """Those libraries that TensorFlow needs and that do not load; empty where not known.

    They are looked for as TensorFlow does: where the linker looks, and in the wheels that
    `tensorflow[and-cuda]` installs. Linux only; CUDA wheels of TensorFlow exist nowhere else.

    Args:
        cuda: the version that TensorFlow was built for.
        cudnn: likewise.
        load: opens a library by name or path, or raises OSError.
    """
    major = re.match(r"\d+", cuda or "")
    if major is None or int(major[0]) not in _LIBRARIES or sys.platform != "linux":
        return []
    wanted = list(_LIBRARIES[int(major[0])])
    if version := re.match(r"\d+", cudnn or ""):
        wanted.append(f"libcudnn.so.{version[0]}")
    return [name for name in wanted if not _loads(name, load)]


def _loads(name: str, load: Callable[[str], Any]) -> bool:
    wheels = (found for folder in sys.path for found in Path(folder).glob(f"nvidia/*/lib/{name}"))
    for candidate in (name, *map(str, wheels)):
        try:
            load(candidate)
        except OSError:
            continue
        return True
    return False


def _keras_version() -> str | None:
    """Of the Keras that trains; None where none is loaded. `tf.keras` may be another one, or
    none, with TF_USE_LEGACY_KERAS."""
    return getattr(sys.modules.get("keras"), "__version__", None)


def _onednn() -> bool | None:
    """Whether oneDNN's kernels are in use; None where TensorFlow does not tell.

    TensorFlow has no public name for it; this module of its own is loaded with it.
    """
    ask = getattr(sys.modules.get("tensorflow.python.util._pywrap_util_port"), "IsMklEnabled", None)
    return None if ask is None else bool(ask())


def _value(tensor: Any) -> Any:
    """TensorFlow's own variable behind a Keras one (there `value` is a property)."""
    value = getattr(tensor, "value", None)
    return tensor if value is None or callable(value) else value


def _is_data(tensor: Any) -> bool:
    dtype = _value(tensor).dtype
    return bool(dtype.is_floating or dtype.name == "uint8")


def _place(tensor: Any) -> str:
    """Where the memory lies, which for a tensor may differ from where it was computed."""
    value = _value(tensor)
    return str(getattr(value, "backing_device", None) or value.device or "")


def _label(tensor: Any) -> str:
    """A variable's path; an eager tensor has no name and is told by its shape."""
    return str(getattr(tensor, "path", None) or f"tensor of shape {tuple(tensor.shape)}")
