"""JAX on one device, by fakes of what JAX reports."""

from __future__ import annotations

import os
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from bench.schema.errors import Unavailable
from bench.schema.launch import Status
from bench.worker.jax.device import JaxDevice
from bench.worker.jax.replicas import meet
from bench.worker.replicas import PATIENCE
from bench.worker.serve import _failure
from fmnist_models.errors import UserError
from fmnist_models.replicas import Replicas


class FakeArray:
    """An array on a device, which is computed once it is waited for."""

    def __init__(self, *devices: Any, shape: tuple[int, ...] = (2,), whole: bool = True) -> None:
        self.shape = shape
        self.is_fully_replicated = whole
        self._devices = set(devices)
        self.ready = False

    def devices(self) -> set[Any]:
        return self._devices

    def block_until_ready(self) -> None:
        self.ready = True


def device(platform: str, number: int = 0, **more: Any) -> SimpleNamespace:
    client = SimpleNamespace(platform_version="PJRT 1\nbuilt today")
    kind = "NVIDIA H100" if platform == "gpu" else "cpu"
    return FakeDevice(platform=platform, id=number, device_kind=kind, client=client, **more)


class FakeDevice(SimpleNamespace):
    """What JAX tells of a device; a set can hold it."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class FakeJax:
    """As much of JAX as the device asks for."""

    __version__ = "0.10.1"

    def __init__(self, *devices: Any) -> None:
        self._devices = devices
        self.arrays: list[FakeArray] = []
        self.settings: dict[str, Any] = {}
        self.config = SimpleNamespace(
            update=self.settings.__setitem__,
            jax_default_matmul_precision=None,
            jax_enable_x64=False,
        )
        self.default_device = lambda _: nullcontext()

    def devices(self, platform: str) -> list[Any]:
        found = [d for d in self._devices if d.platform == platform]
        if not found:
            raise RuntimeError(f"Unknown backend: '{platform}' requested\nmore lines")
        return found

    def live_arrays(self) -> list[FakeArray]:
        return self.arrays


CPU = device("cpu")
GPU = device("gpu", compute_capability="9.0")


def test_a_cpu_case_changes_no_precision() -> None:
    jax = FakeJax(CPU)
    target = JaxDevice(jax, "cpu", "float32")
    target.configure()
    assert jax.settings == {"jax_default_device": CPU}
    assert (target.name, target.device_name, target.peak_memory_bytes()) == ("cpu:0", None, None)


@pytest.mark.parametrize(
    ("precision", "products"),
    [("float32", "highest"), ("tf32", "tensorfloat32"), ("mixed_bfloat16", "highest")],
)
def test_tf32_is_on_only_where_the_case_says_so(precision: str, products: str) -> None:
    """JAX itself lets a GPU use TF32 for products of float32."""
    jax = FakeJax(GPU, CPU)
    JaxDevice(jax, "gpu:1", precision).configure()
    assert jax.settings["jax_default_matmul_precision"] == products


def test_tf32_needs_a_gpu_that_has_it() -> None:
    old = device("gpu", compute_capability="7.5")
    with pytest.raises(Unavailable, match=r"tf32 needs compute capability 8.0 and later"):
        JaxDevice(FakeJax(old), "gpu", "tf32").configure()


def test_a_missing_gpu_is_one_line_with_a_remedy() -> None:
    with pytest.raises(Unavailable, match=r"^JAX 0.10.1 sees no GPU \(Unknown backend: .*pip inst"):
        JaxDevice(FakeJax(CPU), "gpu", "float32").configure()


def test_two_gpus_are_one_too_many() -> None:
    with pytest.raises(Unavailable, match="JAX sees 2 GPUs where CUDA_VISIBLE_DEVICES names one"):
        JaxDevice(FakeJax(GPU, device("gpu", 1)), "gpu", "float32").configure()


def test_each_replica_has_a_gpu() -> None:
    gpus = [device("gpu", number, process_index=0) for number in range(2)]
    target = JaxDevice(FakeJax(*gpus), "gpu", "float32", replicas=Replicas(2))
    target.configure()
    assert target.misplaced([FakeArray(*gpus)]) == []
    assert target.misplaced([FakeArray(gpus[1]), FakeArray(*gpus, whole=False)]) == [
        "array of shape (2,) on gpu:1",
        "array of shape (2,) in parts on gpu:0, gpu:1",
    ]


@pytest.mark.parametrize("there", [1, 3])
def test_fewer_or_more_gpus_than_replicas_are_one_line(there: int) -> None:
    gpus = [device("gpu", number, process_index=0) for number in range(there)]
    with pytest.raises(Unavailable, match=rf"^JAX sees {there} GPUs?, and 2 replicas need one ea"):
        JaxDevice(FakeJax(*gpus), "gpu", "float32", replicas=Replicas(2)).configure()


def test_the_peak_of_replicas_is_that_of_the_fullest_gpu() -> None:
    gpus = [
        device(
            "gpu", number, process_index=0, memory_stats=lambda n=number: {"peak_bytes_in_use": n}
        )
        for number in range(2)
    ]
    target = JaxDevice(FakeJax(*gpus), "gpu", "float32", replicas=Replicas(2))
    assert target.peak_memory_bytes() == 1


def test_the_data_of_replicas_must_fit_the_fullest_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual CPUs have one memory, which holds a copy for each."""
    free = {"GPU-a": 7, "GPU-b": 5}
    monkeypatch.setattr("bench.worker.jax.device.free_bytes_of_gpu", free.get)
    seen = {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}
    gpus = JaxDevice(FakeJax(GPU), "gpu", "float32", seen, Replicas(2))
    assert gpus.free_memory("compiled") == (5, "memory of NVIDIA H100")
    monkeypatch.setattr("bench.machine.hardware.memory_available_bytes", lambda: 8)
    cpus = JaxDevice(FakeJax(CPU), "cpu", "float32", replicas=Replicas(2))
    assert [cpus.free_memory(loop)[0] for loop in ("compiled", "fit")] == [4, 8]
    apart = JaxDevice(FakeJax(CPU), "cpu", "float32", replicas=Replicas(2, 2))
    assert [apart.free_memory(loop)[0] for loop in ("compiled", "fit")] == [4, 4]


def test_everything_that_was_dispatched_is_waited_for() -> None:
    jax = FakeJax(CPU)
    jax.arrays = [FakeArray(CPU), FakeArray(CPU)]
    JaxDevice(jax, "cpu", "float32").synchronize()
    assert all(array.ready for array in jax.arrays)


def test_what_is_elsewhere_is_named() -> None:
    jax = FakeJax(GPU, CPU)
    variable = SimpleNamespace(value=FakeArray(CPU), path="dense/kernel")
    arrays = [FakeArray(GPU), variable, FakeArray(CPU, GPU, shape=(3, 4)), FakeArray()]
    assert JaxDevice(jax, "gpu", "float32").misplaced(arrays) == [
        "dense/kernel on cpu:0",
        "array of shape (3, 4) on cpu:0, gpu:0",
        "array of shape (2,) on no device",
    ]


def test_the_peak_is_that_of_the_allocator() -> None:
    gpu = device("gpu", memory_stats=lambda: {"peak_bytes_in_use": 7})
    assert JaxDevice(FakeJax(gpu), "gpu", "float32").peak_memory_bytes() == 7


def test_the_software_is_told() -> None:
    told = JaxDevice(FakeJax(CPU), "cpu", "float32").software()
    assert (told["jax"], told["platform"], told["tf32"]) == ("0.10.1", "PJRT 1", False)


@pytest.mark.parametrize(("count", "asked", "threads"), [(4, "3", 35), (1, "3", 3)])
def test_virtual_cpus_have_threads_enough_to_wait_for_each_other(
    count: int, asked: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many as there are cores, XLA ended the process after 40 s of waiting."""
    monkeypatch.setenv("NPROC", asked)
    config = SimpleNamespace(jax_num_cpu_devices=1, update=lambda *_: None)
    meet(SimpleNamespace(config=config), Replicas(count), is_gpu=False)
    assert os.environ["NPROC"] == str(threads)


class FakeMeeting:
    """As much of JAX as processes need to meet."""

    def __init__(self, told: str = "") -> None:
        self.config = SimpleNamespace(jax_num_cpu_devices=1, update=lambda *_: None)
        self.distributed = SimpleNamespace(initialize=self._initialize)
        self.asked: dict[str, Any] = {}
        self._told = told

    def _initialize(self, *where: Any, **more: Any) -> None:
        self.asked = {"where": where, **more}
        if self._told:
            raise RuntimeError(self._told)


def test_processes_wait_for_each_other_longer_than_a_launch_may_take() -> None:
    """At its own limit of 300 s, JAX ends the one that waits."""
    jax = FakeMeeting()
    meet(jax, Replicas(2, 2, 1, "127.0.0.1:4711"), is_gpu=False)
    assert jax.asked.pop("where") == ("127.0.0.1:4711", 2, 1)
    assert jax.asked.pop("coordinator_bind_address") == "127.0.0.1:4711"
    assert set(jax.asked.values()) == {PATIENCE.total_seconds()}
    assert len(jax.asked) == 3


def test_processes_that_do_not_meet_have_failed() -> None:
    """A case that is skipped could not be measured at all."""
    jax = FakeMeeting("INTERNAL: no reply\nmore\nThe coordinator is gone\n")
    told = (
        r"^process 1 of 2 did not meet the others at 127\.0\.0\.1:4711: INTERNAL: no reply The "
        r"coordinator is gone$"
    )
    with pytest.raises(UserError, match=told) as raised:
        meet(jax, Replicas(2, 2, 1, "127.0.0.1:4711"), is_gpu=False)
    assert _failure(raised.value)["status"] is Status.FAILED
