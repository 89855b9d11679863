"""Stand-ins for NVML, CUDA and TensorFlow that replay what those print or document.

NVML's error classes and constants are those of the real binding (nvidia-ml-py), so that a
renamed one breaks the tests; only its calls are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml


@dataclass(frozen=True)
class Card:
    """One card as NVML lists it; `speed` is what CUDA's FASTEST_FIRST sorts by."""

    name: str
    uuid: str
    bus_id: str
    memory_mib: int
    capability: tuple[int, int] = (8, 0)
    speed: int = 1
    mig_mode: int | None = 0  # None: nvmlDeviceGetMigMode is NOT_SUPPORTED, as before Ampere
    mig: tuple[Card | None, ...] = ()  # None: a place without a MIG device
    lost: bool = False
    answers: Mapping[str, Any] = field(default_factory=dict)


# A slow card in the first slot, a fast one in the second: NVML counts by PCI bus, CUDA puts
# the fastest first (CUDA C++ programming guide, CUDA_DEVICE_ORDER=FASTEST_FIRST, the default).
# Names, memory and capabilities: NVIDIA's data sheets. The UUID of the first is the example
# of that guide.
SLOW = Card(
    "NVIDIA GeForce GTX 1050",
    "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "00000000:01:00.0",
    2048,
    capability=(6, 1),
    mig_mode=None,
)
FAST = Card(
    "NVIDIA A100-SXM4-40GB",
    "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f",
    "00000000:41:00.0",
    40960,
    speed=9,
)
# `nvidia-smi -L` of NVIDIA's MIG user guide, "Running CUDA applications on bare-metal". The
# name of a MIG device is what TensorFlow's XLA service logs for one ("NVIDIA A100-PCIE-40GB
# MIG 1g.5gb, Compute Capability 8.0"). The guide's table of profiles gives 3g.20gb 19.62 GiB,
# and an A100 at most 7 MIG devices.
PARTITIONED = Card(
    "NVIDIA A100-SXM4-40GB",
    "GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0",
    "00000000:07:00.0",
    40960,
    mig_mode=1,
    mig=(
        Card(
            "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
            "MIG-c7384736-a75d-5afc-978f-d2f1294409fd",
            "",
            20096,
        ),
        None,
        Card(
            "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
            "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d",
            "",
            20096,
        ),
        *[None] * 4,
    ),
)


class FakeNvml:
    """The module pynvml over made-up cards.

    Args:
        init_error: code that nvmlInit raises.
        cuda: as nvmlSystemGetCudaDriverVersion_v2 gives it, 1000 x major + 10 x minor.
        missing: calls that this driver (FUNCTION_NOT_FOUND) does not know.
    """

    def __init__(
        self,
        *cards: Card,
        init_error: int | None = None,
        driver: str = "550.54.15",
        cuda: int = 12040,
        missing: Sequence[str] = (),
    ) -> None:
        self._cards = cards
        self._init_error = init_error
        self._driver = driver
        self._cuda = cuda
        self._missing = missing
        self.open_sessions = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._missing:
            return object.__getattribute__(self, name)

        def unknown(*_: Any) -> None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

        return unknown

    def __getattr__(self, name: str) -> Any:
        """Constants and errors are the real ones; a call not made up here is not supported."""
        if name.startswith("nvmlDevice"):
            return lambda card, *_: self._answer(card, name)
        return getattr(pynvml, name)

    def _answer(self, card: Card, call: str) -> Any:
        if call not in card.answers:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return card.answers[call]

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name, as all below
        if self._init_error is not None:
            raise pynvml.NVMLError(self._init_error)
        self.open_sessions += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open_sessions -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self._driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return self._cuda

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        if self._cards[index].lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self._cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:  # noqa: N802
        for card in self._cards:
            for one in (card, *card.mig):
                if one is not None and one.uuid == uuid:
                    return one
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:  # noqa: N802
        if card.mig_mode is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [card.mig_mode, card.mig_mode]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:  # noqa: N802
        return len(card.mig)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, place: int) -> Card:  # noqa: N802
        device = card.mig[place]
        if device is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return device

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, device: Card) -> Card:  # noqa: N802
        return next(card for card in self._cards if device in card.mig)

    def nvmlDeviceGetName(self, card: Card) -> bytes:  # noqa: N802
        return card.name.encode()  # bytes: what bindings before 11.5 return

    def nvmlDeviceGetUUID(self, card: Card) -> str:  # noqa: N802
        return card.uuid

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> Any:  # noqa: N802
        """A quarter is free."""
        return SimpleNamespace(total=card.memory_mib * 2**20, free=card.memory_mib * 2**18)

    def nvmlDeviceGetCudaComputeCapability(self, card: Card) -> tuple[int, int]:  # noqa: N802
        return card.capability

    def nvmlDeviceGetPciInfo(self, card: Card) -> Any:  # noqa: N802
        return SimpleNamespace(busId=card.bus_id.encode())


def seen_by_cuda(cards: Sequence[Card], environ: Mapping[str, str]) -> list[str]:
    """Names of the cards that a CUDA program with this environment sees, in its order.

    CUDA C++ programming guide, "CUDA environment variables": CUDA_VISIBLE_DEVICES holds
    numbers or UUIDs (or their beginnings), an invalid one ends the list, and numbers count
    the fastest first unless CUDA_DEVICE_ORDER is PCI_BUS_ID.
    """
    if environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        ordered = sorted(cards, key=lambda card: card.bus_id)
    else:
        ordered = sorted(cards, key=lambda card: -card.speed)
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return [card.name for card in ordered]
    seen = []
    for word in setting.split(","):
        if word.isdecimal():
            matches = ordered[int(word) : int(word) + 1]
        else:
            matches = [card for card in ordered if word and card.uuid.startswith(word)]
        if len(matches) != 1:
            break
        seen.append(matches[0].name)
    return seen


class FakeTensorFlow:
    """What of the module tensorflow a device touches; `calls` holds what was set.

    Answers are those of TensorFlow 2.21: get_build_info() of its Linux wheels
    (`tensorflow`: CUDA 12.5.1, cuDNN 9; `tensorflow-cpu`: no CUDA keys), and
    get_device_details() as the API page of tf.config.experimental.get_device_details
    shows it.
    """

    __version__ = "2.21.0"

    def __init__(
        self,
        gpus: Sequence[Mapping[str, Any]] = (),
        *,
        cuda_build: bool = True,
        sync_devices: bool = True,
    ) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._gpus = list(gpus)
        build: dict[str, Any] = {"is_cuda_build": cuda_build}
        if cuda_build:
            build |= {"cuda_version": "12.5.1", "cudnn_version": "9"}
        experimental: dict[str, Any] = {}
        if sync_devices:
            experimental["sync_devices"] = self._call("sync_devices")
        self.sysconfig = SimpleNamespace(get_build_info=lambda: build)
        self.test = SimpleNamespace(
            is_built_with_cuda=lambda: cuda_build,
            experimental=SimpleNamespace(**experimental),
        )
        self.config = SimpleNamespace(
            set_soft_device_placement=self._call("soft_placement"),
            set_visible_devices=self._call("visible"),
            LogicalDeviceConfiguration=lambda: "logical",
            set_logical_device_configuration=self._call("logical"),
            list_physical_devices=lambda kind: self._gpus if kind == "GPU" else ["CPU"],
            experimental=SimpleNamespace(
                enable_tensor_float_32_execution=self._call("tf32"),
                set_memory_growth=self._call("growth"),
                get_device_details=dict,
                reset_memory_stats=self._call("reset"),
                get_memory_info=self._memory_of,
            ),
        )

    def _memory_of(self, name: str) -> dict[str, Any]:
        """Each GPU has used more than the one before."""
        return {"current": 1024, "peak": 4096 * (1 + int(name[-1])), "of": name}

    def _call(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


# As tf.config.experimental.get_device_details documents its keys.
A100 = {"device_name": "NVIDIA A100-SXM4-40GB", "compute_capability": (8, 0)}
T4 = {"device_name": "Tesla T4", "compute_capability": (7, 5)}


class Replay:
    """What stands in for pynvml: the answers that `bench.evidence.gpu` recorded of one card."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("nvmlDevice", "nvmlSystem")):
            return getattr(pynvml, name)

        def call(*arguments: Any) -> Any:
            """As it was answered."""
            told = [str(value) for value in arguments if isinstance(value, int | str)]
            answer = self._answers[" ".join([name, *told])]
            if isinstance(answer, dict) and answer.keys() == {"error"}:
                raise pynvml.NVMLError(answer["error"])
            return _object(answer)

        return call

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        """Nothing is started."""

    def nvmlShutdown(self) -> None:  # noqa: N802 - NVML's name
        """Nothing was started."""


def _object(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_object(one) for one in answer]
    return SimpleNamespace(**answer) if isinstance(answer, dict) else answer
