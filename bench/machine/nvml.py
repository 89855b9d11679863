"""The GPUs of this machine and their state, from NVIDIA's management library (NVML).

NVML is loaded when it is first needed. A call that is missing, refused or fails gives None.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

_MIG_ENABLED = 1
# Bits of nvmlDeviceGetCurrentClocksEventReasons: nvml.h, nvmlClocksEventReasons.
_CLOCK_EVENTS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
_STATE = (
    "power_limit_w",
    "power_limit_default_w",
    "sm_clock_hz",
    "sm_clock_max_hz",
    "memory_clock_hz",
    "memory_clock_max_hz",
    "throttle_reasons",
    "temperature_c",
    "mig_mode",
    "persistence_mode",
    "compute_processes",
    "driver_version",
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that a case can name; each MIG device of a card is a GPU.

    Attributes:
        index: the N of `gpu:N`, in the order of NVML and nvidia-smi, which is not CUDA's.
        uuid: `GPU-...` or `MIG-...`, the only name that NVML and CUDA share.
        compute_capability: (major, minor); None where unknown.
        pci_bus_id: the card's bus id, such as `00000000:07:00.0`; empty where unknown.
    """

    index: int
    name: str
    uuid: str
    memory_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    is_mig: bool = False
    pci_bus_id: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The GPUs that this process may use, and why some or all are missing.

    Attributes:
        cuda_driver_version: the newest CUDA that the driver supports, such as "12.4".
        problem: why GPUs are missing, in one line; empty where none are.
        hidden: GPUs of this machine that CUDA_VISIBLE_DEVICES hides.
    """

    gpus: tuple[Gpu, ...] = ()
    driver_version: str | None = None
    cuda_driver_version: str | None = None
    problem: str = ""
    hidden: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuUse:
    """Clock and processes of a GPU at one moment; None for each fact that NVML does not report.

    Attributes:
        clock_hz: clock of the streaming multiprocessors.
        throttle_reasons: why the clock is held down, by `clock_event_names`.
        compute_pids: the host's ids of the processes that compute on it. Processes that also draw
            are left out: on Windows each window of a desktop would count.
    """

    clock_hz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    compute_pids: frozenset[int] | None = None


class NoNvmlError(Exception):
    """NVML cannot be used; the message says why in one line."""


def installed(nvml: Any = None) -> Inventory:
    """Every GPU that the driver lists; never raises where a driver or GPU is missing or broken.

    Args:
        nvml: the module pynvml, or a replacement for tests; None imports it.
    """
    try:
        with session(nvml) as api:
            gpus, problems = _gpus(api)
            found = Inventory(
                gpus,
                ask(api, "nvmlSystemGetDriverVersion"),
                _cuda_version(ask(api, "nvmlSystemGetCudaDriverVersion_v2")),
                "; ".join(problems),
            )
    except NoNvmlError as reason:
        return Inventory(problem=str(reason))
    return found if gpus or problems else replace(found, problem="the NVIDIA driver lists no GPU")


def gpu_state(gpu: Gpu, nvml: Any = None) -> dict[str, Any]:
    """The facts of a GPU in environment.json; None for each fact that NVML does not report.

    For a MIG device, power, clocks and temperature are those of its card.
    """
    capability = gpu.compute_capability
    state: dict[str, Any] = {
        "index": gpu.index,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "memory_bytes": gpu.memory_bytes,
        "compute_capability": None if capability is None else "{}.{}".format(*capability),
        "is_mig": gpu.is_mig,
        **dict.fromkeys(_STATE),
    }
    with contextlib.suppress(NoNvmlError), session(nvml) as api:
        handle, card = _handle_and_card(api, gpu)
        if card is not None:
            processes = ask(api, "nvmlDeviceGetComputeRunningProcesses", handle)
            state |= _card_state(api, card)
            state["compute_processes"] = None if processes is None else len(processes)
    return state


def gpu_use(gpu: Gpu, nvml: Any = None) -> GpuUse:
    """The processes that compute on a GPU, and its clock; for a MIG device, its card's clock."""
    with contextlib.suppress(NoNvmlError), session(nvml) as api:
        handle, card = _handle_and_card(api, gpu)
        if card is not None:
            events = _clock_events(api, card)
            computing = ask(api, "nvmlDeviceGetComputeRunningProcesses", handle)
            drawing = ask(api, "nvmlDeviceGetGraphicsRunningProcesses", handle) or ()
            pids = {process.pid for process in computing or ()}
            return GpuUse(
                _clock(api, "nvmlDeviceGetClockInfo", card, api.NVML_CLOCK_SM),
                None if events is None else tuple(clock_event_names(events)),
                None
                if computing is None
                else frozenset(pids - {process.pid for process in drawing}),
            )
    return GpuUse()


def energy_counter(uuid: str, nvml: Any = None) -> Callable[[], float | None] | None:
    """A function that reads the joules that a GPU's board has used since its driver was loaded.

    None where there is no such counter: GPUs before Volta, MIG devices, no driver. NVML stays
    initialized, because that takes much longer than a reading.
    """
    if not uuid.startswith("GPU-"):
        return None
    try:
        api = _started(nvml)
    except NoNvmlError:
        return None
    card = ask(api, "nvmlDeviceGetHandleByUUID", uuid)

    def read() -> float | None:
        """Joules so far: NVML API reference, nvmlDeviceGetTotalEnergyConsumption."""
        millijoules = ask(api, "nvmlDeviceGetTotalEnergyConsumption", card)
        return None if millijoules is None else millijoules / 1e3

    return None if card is None or read() is None else read


def _handle_and_card(nvml: Any, gpu: Gpu) -> tuple[Any, Any]:
    """NVML's handles of a GPU and of its card; the two differ for a MIG device."""
    card = handle = ask(nvml, "nvmlDeviceGetHandleByUUID", gpu.uuid)
    if gpu.is_mig and handle is not None:
        card = ask(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
    return handle, card


@contextlib.contextmanager
def session(nvml: Any) -> Iterator[Any]:
    """Initialize NVML, yield pynvml, and shut NVML down."""
    api = _started(nvml)
    try:
        yield api
    finally:
        ask(api, "nvmlShutdown")


def _started(nvml: Any) -> Any:
    """Initialize NVML and return pynvml; raises `NoNvmlError` where that is not possible."""
    try:
        api = importlib.import_module("pynvml") if nvml is None else nvml
    except ImportError:
        raise NoNvmlError(
            "the GPUs cannot be listed without NVML's Python binding: pip install nvidia-ml-py"
        ) from None
    try:
        api.nvmlInit()
    except api.NVMLError as error:
        raise NoNvmlError(_why_not(api, error)) from None
    return api


def _why_not(nvml: Any, error: Any) -> str:
    """One line for an error of nvmlInit: NVML API reference, nvmlReturn_t."""
    reasons = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed (NVML is not found)",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "the NVIDIA driver is installed but not loaded: load it, or restart the machine"
        ),
        nvml.NVML_ERROR_NO_PERMISSION: (
            "no permission to use the NVIDIA driver: give this user access to /dev/nvidia*"
        ),
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "the NVIDIA driver was updated under the running one (library and kernel module "
            "differ): restart the machine"
        ),
    }
    return reasons.get(error.value, f"the NVIDIA driver does not answer ({error})")


def ask(nvml: Any, call: str, *arguments: Any) -> Any:
    """NVML's answer; None where this binding, driver or card has none."""
    function = getattr(nvml, call, None)
    if function is None:
        return None
    # Raised where driver and binding disagree on a function's version; it is no NVMLError.
    mismatch = getattr(nvml, "NVMLLibraryMismatchError", nvml.NVMLError)
    try:
        answer = function(*arguments)
    except (nvml.NVMLError, mismatch):
        return None
    return answer.decode() if isinstance(answer, bytes) else answer


def _gpus(nvml: Any) -> tuple[tuple[Gpu, ...], list[str]]:
    """Every usable GPU, and a line for each card that cannot be used."""
    gpus: list[Gpu] = []
    problems = []
    index = 0
    for number in range(ask(nvml, "nvmlDeviceGetCount") or 0):
        try:
            card = nvml.nvmlDeviceGetHandleByIndex(number)
        except nvml.NVMLError as error:
            problems.append(f"GPU {number} does not answer ({error})")
            index += 1  # So that a card that fails does not rename the others.
            continue
        mode = ask(nvml, "nvmlDeviceGetMigMode", card)
        is_mig = bool(mode) and mode[0] == _MIG_ENABLED
        handles = _mig_handles(nvml, card) if is_mig else [card]
        if not handles:
            problems.append(
                f"GPU {number} is in MIG mode without a MIG device: make one with "
                "nvidia-smi mig, or turn MIG off"
            )
        for handle in handles:
            gpus.append(_gpu(nvml, index, handle, card, is_mig))
            index += 1
    return tuple(gpus), problems


def _mig_handles(nvml: Any, card: Any) -> list[Any]:
    """Handles of the card's MIG devices; an index without one gives NVML_ERROR_NOT_FOUND."""
    places = range(ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", card) or 0)
    handles = (ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", card, place) for place in places)
    return [handle for handle in handles if handle is not None]


def _gpu(nvml: Any, index: int, handle: Any, card: Any, is_mig: bool) -> Gpu:
    memory = ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    capability = ask(nvml, "nvmlDeviceGetCudaComputeCapability", card)
    bus = getattr(ask(nvml, "nvmlDeviceGetPciInfo", card), "busId", b"")
    return Gpu(
        index=index,
        name=ask(nvml, "nvmlDeviceGetName", handle) or "unknown GPU",
        uuid=ask(nvml, "nvmlDeviceGetUUID", handle) or "",
        memory_bytes=None if memory is None else int(memory.total),
        compute_capability=None if capability is None else tuple(capability),
        is_mig=is_mig,
        pci_bus_id=bus.decode() if isinstance(bus, bytes) else bus,
    )


def _card_state(nvml: Any, card: Any) -> dict[str, Any]:
    mig = ask(nvml, "nvmlDeviceGetMigMode", card)
    persistence = ask(nvml, "nvmlDeviceGetPersistenceMode", card)
    # The second call of each pair is the older name; older drivers know no other.
    temperature = _first(
        ask(nvml, "nvmlDeviceGetTemperatureV", card, nvml.NVML_TEMPERATURE_GPU),
        ask(nvml, "nvmlDeviceGetTemperature", card, nvml.NVML_TEMPERATURE_GPU),
    )
    events = _clock_events(nvml, card)
    limit = ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", card)
    default = ask(nvml, "nvmlDeviceGetPowerManagementDefaultLimit", card)
    return {
        "power_limit_w": None if limit is None else limit / 1e3,
        "power_limit_default_w": None if default is None else default / 1e3,
        "sm_clock_hz": _clock(nvml, "nvmlDeviceGetClockInfo", card, nvml.NVML_CLOCK_SM),
        "sm_clock_max_hz": _clock(nvml, "nvmlDeviceGetMaxClockInfo", card, nvml.NVML_CLOCK_SM),
        "memory_clock_hz": _clock(nvml, "nvmlDeviceGetClockInfo", card, nvml.NVML_CLOCK_MEM),
        "memory_clock_max_hz": _clock(nvml, "nvmlDeviceGetMaxClockInfo", card, nvml.NVML_CLOCK_MEM),
        "throttle_reasons": None if events is None else clock_event_names(events),
        "temperature_c": temperature,
        "mig_mode": None if mig is None else mig[0] == _MIG_ENABLED,
        "persistence_mode": None if persistence is None else bool(persistence),
        "driver_version": ask(nvml, "nvmlSystemGetDriverVersion"),
    }


def _clock_events(nvml: Any, card: Any) -> int | None:
    bits: int | None = _first(
        ask(nvml, "nvmlDeviceGetCurrentClocksEventReasons", card),
        ask(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", card),
    )
    return bits


def clock_event_names(bits: int) -> list[str]:
    """Names of the set bits, lowest first; a bit unknown here as a hexadecimal number."""
    single = (1 << place for place in range(bits.bit_length()))
    return [_CLOCK_EVENTS.get(bit, hex(bit)) for bit in single if bits & bit]


def _clock(nvml: Any, call: str, card: Any, which: int) -> float | None:
    megahertz = ask(nvml, call, card, which)
    return None if megahertz is None else megahertz * 1e6


def _first(*answers: Any) -> Any:
    return next((answer for answer in answers if answer is not None), None)


def _cuda_version(number: int | None) -> str | None:
    """12040 becomes 12.4: NVML API reference, nvmlSystemGetCudaDriverVersion_v2."""
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"
