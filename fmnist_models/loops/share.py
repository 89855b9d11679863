"""The rows of one of several processes that train together, for `Model.fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

from fmnist_models.arrays import Arrays
from fmnist_models.loops.base import Work


class Share(ArrayDataAdapter):
    """The share of this process of each batch of an epoch, which all processes train together.

    The batches are those that one process would train. A shuffled epoch has the order that Keras
    draws for one process: all processes have the same random numbers, as their seeds are the same.
    Keras takes it for its own adapter of data.

    Args:
        work: the work, with several processes; each batch must divide by their number.
        arrays: the rows of an epoch, of all processes.
        shuffle: a new order in each epoch.
    """

    def __init__(self, work: Work, arrays: Arrays, *, shuffle: bool) -> None:
        weights = work.class_weight
        super().__init__(
            arrays.x,
            arrays.y,
            sample_weight=arrays.sample_weight,
            batch_size=work.batch_size,
            shuffle=shuffle,
            class_weight=None if weights is None else dict(weights),
        )
        self._replicas = work.replicas

    def _get_iterator(self, slice_and_convert_fn: Callable[..., Any], inputs: Any) -> Iterator[Any]:
        """The part of each batch that is of this process."""
        rows, size = self._num_samples, self._batch_size
        # The generator is the one of Keras's own adapter.
        order = np.random.permutation(rows) if self._shuffle else None  # noqa: NPY002
        for first in range(0, rows, size):
            share = min(size, rows - first) // self._replicas.processes
            begin = first + self._replicas.rank * share
            own = slice(begin, begin + share)
            indices = own if order is None else order[own]
            taken = partial(slice_and_convert_fn, indices=indices)
            yield keras.tree.map_structure(taken, inputs, none_is_leaf=False)
