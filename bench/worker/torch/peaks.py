"""The products and passes whose best rates are measured, with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.worker.ceilings import Call, Layers, Peaks, kernels_of, step_products
from fmnist_models.loops.torch.replay import replayed


class TorchPeaks(Peaks):
    """What is timed, on PyTorch's default device.

    Each operation is one kernel already. On a GPU the products of an epoch are replayed as a CUDA
    graph, as the steps of `compiled` are.

    Args:
        images: the training images, one flat row each.
        dtype: of the products.
    """

    paths: Sequence[str] = ("plain",)

    def __init__(self, images: NDArray[Any], dtype: str) -> None:
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._device = torch.get_default_device()
        self._images = self._tensor(images, self._dtype)

    def product(self, size: int, path: str) -> Call:
        """A product of two square matrices of `size` rows."""
        a = self._uniform((size, size), self._dtype)
        return partial(torch.matmul, a, a)

    def triad(self, numbers: int, passes: int, path: str) -> Call:
        """So many passes of b = b + s c over two float32 arrays of so many numbers."""
        b = self._uniform((numbers,), torch.float32)
        c = b + 1.0

        def triad() -> torch.Tensor:
            """All passes of one call; each is one kernel, which writes in place."""
            for _ in range(passes):
                b.add_(c, alpha=1e-9)
            return b

        return triad

    def epoch(self, layers: Layers, batch_size: int, path: str) -> Call:
        """Every matrix product of the steps of an epoch over the images, and nothing else."""
        kernels = [self._tensor(kernel, self._dtype) for kernel in kernels_of(layers)]
        batches = self._images.split(batch_size)

        def epoch() -> list[torch.Tensor]:
            """All products of an epoch; returns the last step's weight gradients."""
            gradients: list[torch.Tensor] = []
            for batch in batches:
                gradients = step_products(batch, kernels)
            return gradients

        call: Call = epoch
        return replayed(epoch, lambda: None) if self._device.type == "cuda" else call

    def _uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return self._tensor(np.random.default_rng(0).random(shape, np.float32), dtype)

    def _tensor(self, array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(array, dtype=dtype, device=self._device)
