"""What `bench.worker.probe` needs of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import torch

from bench.worker.probe import Probed
from bench.worker.torch.device import TorchDevice


class TorchProbed(Probed):
    """PyTorch on one device.

    Args:
        device: the device, as a case spells it.
    """

    def __init__(self, device: str) -> None:
        self.device = TorchDevice(torch, device, "float32")

    def versions(self) -> Mapping[str, Any]:
        """The versions of PyTorch and Keras, and the CUDA that it is built for."""
        return {
            "torch": str(torch.__version__),
            "keras": keras.__version__,
            "cuda": torch.version.cuda,
            "others": _others(),
        }

    def placed(self) -> list[Any]:
        """A variable, and the result of a compiled product with it."""
        variable = keras.Variable(keras.ops.ones((8, 8)))
        product = torch.compile(lambda x: x @ x)
        return [variable, product(variable.value.detach())]

    def square(self, size: int) -> torch.Tensor:
        """A matrix with as many rows, whose powers neither grow nor vanish."""
        return torch.randn((size, size), device=self.device.name) / size**0.5

    def chain(self, factor: torch.Tensor, length: int) -> torch.Tensor:
        """Dispatch so many products, each of the one before, and their sum."""
        product = factor
        for _ in range(length):
            product = product @ factor
        return product.sum()

    def largest(self, size: int, value: float) -> Iterator[tuple[str, str, float]]:
        """(way, `off` or `on`, largest number) of a product of `value` with ones."""
        left = torch.full((size, size), value, device=self.device.name)
        right = torch.ones((size, size), device=self.device.name)
        for state, precision in (("off", "highest"), ("on", "high")):
            torch.set_float32_matmul_precision(precision)
            compiled = torch.compile(torch.matmul)
            for way, product in (("eager", torch.matmul), ("compiled", compiled)):
                yield way, state, float(product(left, right).max())
        torch.set_float32_matmul_precision("highest")

    def compute_capability(self) -> tuple[int, int] | None:
        """That of the GPU."""
        major, minor = torch.cuda.get_device_capability(0)
        return int(major), int(minor)

    def ones(self, numbers: int) -> torch.Tensor:
        """An array of so many float32 numbers."""
        return torch.ones((numbers,), device=self.device.name)


def _others() -> list[str]:
    """Accelerators that are no NVIDIA GPU, and builds for them."""
    found = ["ROCm"] if torch.version.hip else []
    found += ["Metal (mps)"] if torch.backends.mps.is_available() else []
    return found + (["Intel (xpu)"] if torch.xpu.is_available() else [])


PROBED = TorchProbed
