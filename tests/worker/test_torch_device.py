"""PyTorch on one device, by fakes of what PyTorch reports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.schema.errors import Unavailable
from bench.schema.launch import Status
from bench.schema.plan import RunSettings
from bench.worker.replicas import IN_A_CALL, PATIENCE
from bench.worker.serve import _failure
from bench.worker.torch.device import TorchDevice
from fmnist_models.errors import UserError
from fmnist_models.replicas import Replicas


def segment(pool: tuple[int, int], total: int, allocated: int) -> dict[str, Any]:
    """A piece of the allocator's memory."""
    return {"segment_pool_id": pool, "total_size": total, "allocated_size": allocated}


class FakeTorch:
    """As much of PyTorch as the device asks for."""

    __version__ = "2.13.0"

    def __init__(
        self, gpus: int = 0, cuda: str | None = "13.0", capability: tuple[int, int] = (9, 0)
    ) -> None:
        self.log: list[str] = []
        self.segments = [segment((0, 0), 20, 4)]
        self.version = SimpleNamespace(cuda=cuda)
        self.precision = "as it was"
        cudnn = SimpleNamespace(allow_tf32=True, version=lambda: 91000)
        self.backends = SimpleNamespace(cudnn=cudnn)
        self.cuda = SimpleNamespace(
            is_available=lambda: gpus > 0,
            device_count=lambda: gpus,
            get_device_capability=lambda number: capability,
            get_device_name=lambda number: "NVIDIA H100",
            set_device=lambda number: self.log.append(f"set {number}"),
            synchronize=lambda: self.log.append("synchronize"),
            mem_get_info=lambda: (5, 9),
            reset_peak_memory_stats=lambda: self.log.append("reset"),
            max_memory_allocated=lambda: 7,
            memory_allocated=lambda: 4,
            memory_snapshot=lambda: self.segments,
        )

    def set_float32_matmul_precision(self, precision: str) -> None:
        self.precision = precision

    def get_float32_matmul_precision(self) -> str:
        return self.precision

    def get_num_threads(self) -> int:
        return 2

    def are_deterministic_algorithms_enabled(self) -> bool:
        return False


def tensor(device: str, *, path: str | None = None) -> Any:
    found = SimpleNamespace(device=device, shape=(2,))
    return SimpleNamespace(value=found, path=path) if path else found


def test_a_cpu_case_needs_no_gpu_and_waits_for_nothing() -> None:
    torch = FakeTorch()
    device = TorchDevice(torch, "cpu", "float32")
    device.configure()
    device.synchronize()
    device.reset_peak_memory()
    assert torch.log == []
    assert torch.precision == "highest"
    assert (device.name, device.device_name, device.peak_memory_bytes()) == ("cpu", None, None)


@pytest.mark.parametrize(
    ("precision", "products", "convolutions"),
    [("float32", "highest", False), ("tf32", "high", True), ("mixed_bfloat16", "highest", False)],
)
def test_tf32_is_on_only_where_the_case_says_so(
    precision: str, products: str, convolutions: bool
) -> None:
    """PyTorch itself lets convolutions use TF32."""
    torch = FakeTorch(gpus=1)
    TorchDevice(torch, "gpu:1", precision).configure()
    assert (torch.precision, torch.backends.cudnn.allow_tf32) == (products, convolutions)


def test_tf32_needs_a_gpu_that_has_it() -> None:
    with pytest.raises(Unavailable, match=r"tf32 needs compute capability 8.0 and later"):
        TorchDevice(FakeTorch(1, capability=(7, 5)), "gpu", "tf32").configure()


@pytest.mark.parametrize(
    ("cuda", "why"),
    [
        (None, r"^PyTorch 2.13.0 is a build without CUDA: pip install torch"),
        ("13.0", r"^PyTorch 2.13.0 sees no GPU: it is built for CUDA 13.0, and the driver"),
    ],
)
def test_a_missing_gpu_is_one_line_with_a_remedy(cuda: str | None, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        TorchDevice(FakeTorch(cuda=cuda), "gpu", "float32").configure()


def test_two_gpus_are_one_too_many() -> None:
    with pytest.raises(Unavailable, match="PyTorch sees 2 GPUs where CUDA_VISIBLE_DEVICES names"):
        TorchDevice(FakeTorch(2), "gpu", "float32").configure()


def test_a_gpu_is_waited_for_and_its_peak_is_that_of_the_allocator() -> None:
    torch = FakeTorch(1)
    device = TorchDevice(torch, "gpu", "float32")
    device.configure()
    device.reset_peak_memory()
    device.synchronize()
    assert torch.log == ["set 0", "reset", "synchronize"]
    assert device.peak_memory_bytes() == 7
    assert device.free_memory("compiled") == (5, "memory of NVIDIA H100")
    assert device.free_memory("fit")[1] == "memory"


def test_what_captured_graphs_keep_is_a_part_of_the_peak() -> None:
    """A replay computes in it, and the allocator counts none of it."""
    torch = FakeTorch(1)
    torch.segments += [segment((0, 1), 9, 1), segment((0, 2), 5, 0)]
    assert TorchDevice(torch, "gpu", "float32").peak_memory_bytes() == 4 + 8 + 5


def test_what_is_elsewhere_is_named() -> None:
    given = [tensor("cuda:0"), tensor("cpu", path="dense/kernel"), tensor("cuda:1")]
    assert TorchDevice(FakeTorch(1), "gpu", "float32").misplaced(given) == [
        "dense/kernel on cpu",
        "tensor of shape (2,) on cuda:1",
    ]


def test_the_software_is_told() -> None:
    told = TorchDevice(FakeTorch(), "cpu", "float32").software()
    assert (told["torch"], told["cuda"], told["tf32"]) == ("2.13.0", "13.0", False)
    gpu = TorchDevice(FakeTorch(1), "gpu", "tf32").software()
    assert (gpu["cudnn"], gpu["tf32"]) == (91000, True)


class FakeDistributed:
    """As much of `torch.distributed` as a meeting asks for."""

    def __init__(self, log: list[str], *, built: bool = True, told: str = "") -> None:
        self._log = log
        self._told = told
        self.is_available = lambda: built
        self.is_nccl_available = self.is_gloo_available = lambda: built

    def init_process_group(self, backend: str, **more: Any) -> None:
        self._log.append(f"{backend} {more['init_method']} {more['rank']} of {more['world_size']}")
        assert more["timeout"] == PATIENCE
        if self._told:
            raise RuntimeError(self._told)

    def destroy_process_group(self) -> None:
        self._log.append("leave")

    def barrier(self, device_ids: list[int] | None = None) -> None:
        self._log.append(f"barrier {device_ids}")

    def all_reduce(self, tensor: Any) -> None:
        self._log.append(f"add {tensor}")


def spread(gpus: int = 0, **more: Any) -> tuple[Any, TorchDevice]:
    """PyTorch and the device of the second of two replicas."""
    torch: Any = FakeTorch(gpus)
    torch.distributed = FakeDistributed(torch.log, **more)
    torch.float32 = "float32"
    torch.zeros = lambda size, dtype, device: f"{size} {dtype} {device}"
    replicas = Replicas(2, 2, 1, "127.0.0.1:4711")
    return torch, TorchDevice(torch, "gpu" if gpus else "cpu", "float32", replicas)


def test_replicas_on_cpus_meet_by_gloo_and_leave() -> None:
    torch, device = spread()
    device.configure()
    joined = ["gloo tcp://127.0.0.1:4711 1 of 2", "barrier None"]
    with device.replicated():
        assert torch.log == joined
    assert torch.log == [*joined, "leave"]


def test_an_error_is_told_before_anything_waits_for_the_others() -> None:
    """NCCL leaves once all do, and those that train on never will."""
    torch, device = spread(gpus=1)
    with pytest.raises(KeyError), device.replicated():
        raise KeyError
    assert torch.log == []


def test_the_others_are_waited_for_longer_than_a_launch_may_take() -> None:
    """The parent's limit ends a launch, and names the process that hangs."""
    assert PATIENCE.total_seconds() > 100 * RunSettings().timeout_s


def test_replicas_on_gpus_meet_by_nccl_on_the_one_that_each_sees() -> None:
    torch, device = spread(gpus=1)
    device.configure()
    device.wait_for_others()
    joined = ["nccl tcp://127.0.0.1:4711 1 of 2", "barrier [0]"]
    assert torch.log == ["set 0", *joined, "barrier [0]"]


def test_an_all_reduce_is_timed_without_the_wait_for_the_others() -> None:
    torch, device = spread(gpus=1)
    seconds = device.all_reduce_s(400)
    assert seconds is not None
    added = ["add 100 float32 cuda:0"] * IN_A_CALL
    turn = ["barrier [0]", "synchronize", *added, "synchronize"]
    assert torch.log[: 2 * len(turn)] == turn * 2
    assert len(torch.log) > 10 * len(turn)


def test_processes_share_the_memory_of_the_host_and_have_a_gpu_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.machine.hardware.memory_available_bytes", lambda: 8)
    assert [spread()[1].free_memory(loop)[0] for loop in ("compiled", "fit")] == [4, 4]
    assert [spread(1)[1].free_memory(loop)[0] for loop in ("compiled", "fit")] == [5, 4]


def test_one_replica_meets_nobody() -> None:
    """`FakeTorch` has no `distributed`."""
    device = TorchDevice(FakeTorch(), "cpu", "float32")
    device.configure()
    device.wait_for_others()
    with device.replicated():
        assert device.all_reduce_s(400) is None


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (
            "The server socket has failed to listen. port: 4711, name: EADDRINUSE",
            r"^127\.0\.0\.1:4711, where the 2 replicas meet, is taken: measure again$",
        ),
        (
            "\nNCCL error in: comm.cpp:94, invalid usage\nLast error:\nDuplicate GPU detected\n",
            r"^the 2 replicas did not meet at 127\.0\.0\.1:4711: NCCL error in: comm\.cpp:94, "
            r"invalid usage Duplicate GPU detected$",
        ),
    ],
)
def test_a_meeting_that_fails_is_one_line(told: str, why: str) -> None:
    """The launch has failed: a case that is skipped could not be measured at all."""
    _, device = spread(told=told)
    with pytest.raises(UserError, match=why) as raised:
        device.configure()
    assert _failure(raised.value)["status"] is Status.FAILED


def test_a_build_that_cannot_meet_is_named() -> None:
    _, device = spread(gpus=1, built=False)
    with pytest.raises(Unavailable, match=r"^PyTorch 2\.13\.0 is a build without nccl.*--replicas"):
        device.configure()
