"""Modules with the names by which Keras knows PyTorch's `DataLoader`, over NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Tensor(np.ndarray):
    """An array with the one method of a tensor that Keras's adapter calls."""

    def cpu(self) -> Tensor:
        return self


def from_numpy(array: NDArray[Any]) -> Tensor:
    return array.view(Tensor)


class TensorDataset:
    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])


class DataLoader:
    def __init__(self, dataset: TensorDataset, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[list[Tensor]]:
        for first in range(0, len(self.dataset), self.batch_size):
            rows = slice(first, first + self.batch_size)
            yield [from_numpy(part[rows]) for part in self.dataset.tensors]


def torch_modules() -> dict[str, ModuleType]:
    """The modules, by name."""
    torch, utils, data = map(ModuleType, ("torch", "torch.utils", "torch.utils.data"))
    DataLoader.__module__ = data.__name__
    vars(data).update(DataLoader=DataLoader, TensorDataset=TensorDataset)
    vars(utils).update(data=data)
    vars(torch).update(utils=utils, Tensor=Tensor, from_numpy=from_numpy)
    return {module.__name__: module for module in (torch, utils, data)}
