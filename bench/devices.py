"""The one place that knows about devices: which there are, how a child is held to one,
and how TensorFlow is made to train there and nowhere else.

The first half is the parent's and speaks to NVIDIA's management library; the second,
`TensorFlowDevice`, is the child's and is handed TensorFlow, so that neither half imports
it and fakes can stand in for both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.case import Case
from bench.errors import Unavailable

CUDA_DRIVER_VARIABLE = "FMNIST_CUDA_DRIVER"
_HIDDEN = "-1"
_TF32_SINCE = (8, 0)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that a case can name, as NVML tells it.

    Attributes:
        index: the N of `gpu:N`, in NVML's order, which is `nvidia-smi`'s.
        uuid: `GPU-...`, or `MIG-...` for a slice of a partitioned card.
        compute_capability: major and minor; None where unknown.
    """

    index: int
    name: str
    uuid: str
    memory_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    is_mig: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """The GPUs that this process may use, and why there are none where there are none."""

    gpus: tuple[Gpu, ...] = ()
    driver_version: str | None = None
    cuda_driver_version: str | None = None
    problem: str = ""


def inventory(environ: Mapping[str, str] = os.environ, nvml: Any = None) -> Inventory:
    """Ask NVML for the GPUs, within what the user's CUDA_VISIBLE_DEVICES allows.

    Args:
        nvml: stands in for the module `pynvml` in tests.
    """
    if nvml is None:
        import pynvml as nvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Inventory(problem=f"no NVIDIA driver answers ({error})")
    try:
        found = Inventory(
            tuple(_gpus(nvml)),
            _ask(nvml.nvmlSystemGetDriverVersion),
            _cuda_version(_ask(nvml.nvmlSystemGetCudaDriverVersion_v2)),
        )
    except nvml.NVMLError as error:
        return Inventory(problem=f"NVML cannot list the GPUs ({error})")
    finally:
        nvml.nvmlShutdown()
    return _allowed(found, environ)


def gpu_state(gpu: Gpu, nvml: Any = None) -> dict[str, Any]:
    """What environment.json keeps of a GPU; None for each fact that NVML does not tell."""
    if nvml is None:
        import pynvml as nvml
    state: dict[str, Any] = {
        "index": gpu.index,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "memory_bytes": gpu.memory_bytes,
        "compute_capability": gpu.compute_capability,
        "is_mig": gpu.is_mig,
    }
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return state
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        if gpu.is_mig:
            # Power, clocks and temperature are the whole card's.
            handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        state |= _card_state(nvml, handle)
    except nvml.NVMLError:
        return state
    finally:
        nvml.nvmlShutdown()
    return state


def present(found: Inventory) -> list[str]:
    """The devices that a matrix takes where the user names none: the CPU and each GPU."""
    if len(found.gpus) == 1:
        return ["cpu", "gpu"]
    return ["cpu", *(f"gpu:{gpu.index}" for gpu in found.gpus)]


def resolve(device: str, found: Inventory) -> Gpu | None:
    """The GPU that a device of the matrix means; None for the CPU.

    Raises:
        Unavailable: there is no such GPU; the message is the row's reason.
    """
    if device == "cpu":
        return None
    if not found.gpus:
        raise Unavailable(f"no GPU: {found.problem or 'NVML lists none'}")
    if device == "gpu":
        return found.gpus[0]
    index = int(device.partition(":")[2])
    for gpu in found.gpus:
        if gpu.index == index:
            return gpu
    there = ", ".join(f"gpu:{gpu.index}" for gpu in found.gpus)
    raise Unavailable(f"no {device}: this machine has {there}")


def skip_reason(case: Case, found: Inventory) -> str | None:
    """Why `case` cannot be measured here; None where it can."""
    if case.backend not in ("tensorflow", "sklearn"):
        return f"no loop drives backend {case.backend!r} yet"
    try:
        gpu = resolve(case.device, found)
    except Unavailable as missing:
        return str(missing)
    if case.precision == "tf32":
        if gpu is None:
            return "TF32 changes nothing on a CPU"
        if gpu.compute_capability is not None and gpu.compute_capability < _TF32_SINCE:
            major, minor = gpu.compute_capability
            return f"TF32 needs an Ampere GPU or later; {gpu.name} is of {major}.{minor}"
    return None


def child_environment(
    case: Case, found: Inventory, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The whole environment of the process that measures `case`, set before it starts.

    A GPU is named by its UUID, because NVML and CUDA count differently; a CPU case sees
    none, so that Keras resolves the same program everywhere. OpenBLAS and OpenMP are held
    to one thread: their pools would exist before a fork and not after it, and no case
    computes with them.

    Raises:
        Unavailable: the case's GPU is not there.
    """
    gpu = resolve(case.device, found)
    visible = gpu.uuid if gpu else _HIDDEN
    child = {"TF_CPP_MIN_LOG_LEVEL": "2", **environ}
    child |= {
        "CUDA_VISIBLE_DEVICES": visible,
        "KERAS_BACKEND": "tensorflow",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    if gpu is None:
        child |= {"HIP_VISIBLE_DEVICES": _HIDDEN, "ROCR_VISIBLE_DEVICES": _HIDDEN}
    if found.cuda_driver_version:
        child[CUDA_DRIVER_VARIABLE] = found.cuda_driver_version
    if case.threads is not None:
        child["TF_NUM_INTRAOP_THREADS"] = str(case.threads)
    return child


def keras_policy(precision: str) -> str:
    """The Keras dtype policy of a precision; TF32 is float32 to Keras."""
    return "float32" if precision == "tf32" else precision


class TensorFlowDevice:
    """One device, as TensorFlow sees it inside the child.

    Args:
        tf: the module tensorflow.
        device: as the case names it; which GPU it is, the environment has settled.
        precision: of the case.
    """

    def __init__(self, tf: Any, device: str, precision: str) -> None:
        self._tf = tf
        self._is_gpu = device != "cpu"
        self._precision = precision
        self.name = "/GPU:0" if self._is_gpu else "/CPU:0"

    def configure(self) -> None:
        """Settle placement, TF32 and memory before any device is touched.

        Raises:
            Unavailable: the case wants a GPU and TensorFlow sees none, with the reason.
        """
        config = self._tf.config
        config.set_soft_device_placement(False)
        # Mixed precision computes in 16 bits; what stays in float32 stays exact there too.
        config.experimental.enable_tensor_float_32_execution(self._precision == "tf32")
        if not self._is_gpu:
            config.set_visible_devices([], "GPU")
            return
        gpus = config.list_physical_devices("GPU")
        if not gpus:
            raise Unavailable(self._why_no_gpu())
        config.experimental.set_memory_growth(gpus[0], True)

    @property
    def device_name(self) -> str | None:
        """The GPU's model; None on a CPU, whose model the parent knows."""
        if not self._is_gpu:
            return None
        gpu = self._tf.config.list_physical_devices("GPU")[0]
        details = self._tf.config.experimental.get_device_details(gpu)
        return str(details.get("device_name", "unknown GPU"))

    def synchronize(self) -> None:
        """Return once everything dispatched has been computed."""
        self._tf.test.experimental.sync_devices()

    def reset_peak_memory(self) -> None:
        """Let the device allocator's peak start again from what is in use."""
        if self._is_gpu:
            self._tf.config.experimental.reset_memory_stats(self.name[1:])

    def peak_memory_bytes(self) -> int | None:
        """The device allocator's peak since the reset; None on a CPU."""
        if not self._is_gpu:
            return None
        return int(self._tf.config.experimental.get_memory_info(self.name[1:])["peak"])

    def misplaced(self, tensors: Iterable[Any]) -> list[str]:
        """Names of the floating-point tensors and variables that lie elsewhere.

        Counters and seeds are integers, which TensorFlow keeps in host memory on purpose.
        """
        wrong = []
        for tensor in tensors:
            value = getattr(tensor, "value", tensor)
            if "float" in str(tensor.dtype) and not str(value.device).endswith(self.name[1:]):
                wrong.append(f"{getattr(tensor, 'path', 'data')} on {value.device}")
        return wrong

    def software(self) -> dict[str, Any]:
        """Versions and build flags that only an imported TensorFlow can tell."""
        build = dict(self._tf.sysconfig.get_build_info())
        return {
            "tensorflow": self._tf.__version__,
            "keras": self._tf.keras.__version__,
            "built_with_cuda": bool(self._tf.test.is_built_with_cuda()),
            "built_with_xla": bool(self._tf.test.is_built_with_xla()),
            "cuda_version": build.get("cuda_version"),
            "cudnn_version": build.get("cudnn_version"),
            "onednn": self._onednn(),
        }

    def _onednn(self) -> bool:
        """oneDNN is on by default in x86 builds since TensorFlow 2.9, off by the variable."""
        asked = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
        if asked is not None:
            return asked not in ("0", "false", "False")
        import platform

        return platform.machine().lower() in ("x86_64", "amd64")

    def _why_no_gpu(self) -> str:
        tf = self._tf
        if not tf.test.is_built_with_cuda():
            return (
                "this TensorFlow is built for CPUs only: pip install "
                '"tensorflow[and-cuda]"'
            )
        built = dict(tf.sysconfig.get_build_info()).get("cuda_version")
        driver = os.environ.get(CUDA_DRIVER_VARIABLE)
        if built and driver and _numbers(driver)[:1] < _numbers(built)[:1]:
            return (
                f"the driver knows CUDA {driver}, this TensorFlow is built for {built}: "
                "update the driver"
            )
        return (
            "TensorFlow sees no GPU though NVML does: fmnist-bench doctor --device gpu says "
            "which library is missing"
        )


def _gpus(nvml: Any) -> list[Gpu]:
    gpus: list[Gpu] = []
    for number in range(nvml.nvmlDeviceGetCount()):
        card = nvml.nvmlDeviceGetHandleByIndex(number)
        slices = _mig_slices(nvml, card)
        # A card in MIG mode cannot be used as a whole.
        for handle in slices if slices is not None else [card]:
            gpus.append(
                Gpu(
                    index=len(gpus),
                    name=_text(nvml.nvmlDeviceGetName(handle)),
                    uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                    memory_bytes=_memory(nvml, handle),
                    compute_capability=_ask(nvml.nvmlDeviceGetCudaComputeCapability, card),
                    is_mig=slices is not None,
                )
            )
    return gpus


def _mig_slices(nvml: Any, card: Any) -> list[Any] | None:
    """The slices of a card in MIG mode; None where it is not."""
    mode = _ask(nvml.nvmlDeviceGetMigMode, card)
    if not mode or mode[0] != 1:
        return None
    slices = []
    for number in range(_ask(nvml.nvmlDeviceGetMaxMigDeviceCount, card) or 0):
        handle = _ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, card, number)
        if handle is not None:
            slices.append(handle)
    return slices


def _allowed(found: Inventory, environ: Mapping[str, str]) -> Inventory:
    """`found`, within the CUDA_VISIBLE_DEVICES that the user set."""
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or not found.gpus:
        return found
    words = [word.strip() for word in wanted.split(",")]
    if wanted.strip() == "" or words[0] == _HIDDEN:
        return _without(found, f"CUDA_VISIBLE_DEVICES={wanted!r} hides every GPU")
    chosen: list[Gpu] = []
    by_number = len(found.gpus) == 1 or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    for word in words:
        if word.isdigit():
            if not by_number:
                return _without(
                    found,
                    f"CUDA_VISIBLE_DEVICES={wanted} counts in CUDA's order, which NVML does not "
                    "know: name UUIDs (nvidia-smi -L) or set CUDA_DEVICE_ORDER=PCI_BUS_ID",
                )
            matches = [gpu for gpu in found.gpus if gpu.index == int(word)]
        else:
            matches = [gpu for gpu in found.gpus if gpu.uuid.startswith(word)]
        if len(matches) != 1:
            # CUDA ignores what follows an entry that names no device.
            break
        chosen += matches
    if not chosen:
        return _without(found, f"CUDA_VISIBLE_DEVICES={wanted} names none of this machine's GPUs")
    return Inventory(tuple(chosen), found.driver_version, found.cuda_driver_version)


def _without(found: Inventory, problem: str) -> Inventory:
    return Inventory((), found.driver_version, found.cuda_driver_version, problem)


def _card_state(nvml: Any, handle: Any) -> dict[str, Any]:
    reasons = _ask(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    milliwatts = _ask(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    mig = _ask(nvml.nvmlDeviceGetMigMode, handle)
    return {
        "power_limit_w": None if milliwatts is None else milliwatts / 1000,
        "sm_clock_hz": _hertz(nvml, nvml.nvmlDeviceGetClockInfo, handle, "SM"),
        "memory_clock_hz": _hertz(nvml, nvml.nvmlDeviceGetClockInfo, handle, "MEM"),
        "max_sm_clock_hz": _hertz(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, "SM"),
        "throttle_reasons": None if reasons is None else _reason_names(nvml, reasons),
        "temperature_c": _ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        "mig_mode": None if mig is None else bool(mig[0]),
    }


def _reason_names(nvml: Any, bits: int) -> list[str]:
    prefix = "nvmlClocksEventReason"
    names = {
        name.removeprefix(prefix): value
        for name, value in vars(nvml).items()
        if name.startswith(prefix) and isinstance(value, int)
    }
    single = {name: bit for name, bit in names.items() if bit and bit & (bit - 1) == 0}
    return sorted(name for name, bit in single.items() if bits & bit)


def _hertz(nvml: Any, ask: Any, handle: Any, which: str) -> float | None:
    megahertz = _ask(ask, handle, getattr(nvml, f"NVML_CLOCK_{which}"))
    return None if megahertz is None else megahertz * 1e6


def _memory(nvml: Any, handle: Any) -> int | None:
    info = _ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    return None if info is None else int(info.total)


def _ask(function: Any, *arguments: Any) -> Any:
    """The answer, or None where this driver or card does not give it."""
    try:
        answer = function(*arguments)
    except Exception as error:
        # Every class of NVML's errors derives from one that only the module knows.
        if type(error).__name__.startswith("NVMLError"):
            return None
        raise
    return _text(answer) if isinstance(answer, bytes) else answer


def _cuda_version(number: int | None) -> str | None:
    """NVML writes 12.4 as 12040."""
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
