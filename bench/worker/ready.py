"""Batches that are on the device before `Model.fit` asks for them, with JAX and PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import keras
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from bench.worker.variants import batches_of, packed_batch
from fmnist_models.loops.base import Work


class Ready(DataAdapter):
    """One batch of an epoch, again and again, and a smaller one where the last one is smaller.

    Keras takes it for its own adapter of data: nothing is sliced, converted or copied.

    Args:
        work: the work with that epoch.
    """

    def __init__(self, work: Work) -> None:
        self._full, rest = batches_of(work)
        self._batch = _on_device(work, work.batch_size) if self._full else None
        self._last = [_on_device(work, rest)] if rest else []

    def get_jax_iterator(self) -> Iterator[Any]:
        """The batches."""
        return chain(repeat(self._batch, self._full), self._last)

    def get_torch_dataloader(self) -> Iterator[Any]:
        """The batches."""
        return self.get_jax_iterator()

    @property
    def num_batches(self) -> int:
        """All of them."""
        return self._full + len(self._last)


def _on_device(work: Work, rows: int) -> Any:
    return keras.tree.map_structure(keras.ops.convert_to_tensor, packed_batch(work, rows))
