"""How long the steps of a stream wait for their batches, with PyTorch."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

import keras
from keras.src.trainers.data_adapters import get_data_adapter

from bench.worker.framework import Device
from bench.worker.waiting import waits_of
from fmnist_models.loops.base import Snapshot, Work
from fmnist_models.stream import Stream


def waiting_of(work: Work, device: Device) -> dict[str, Any]:
    """The fields of `waits_of`; weights and other state are restored afterwards."""
    if not isinstance(work.data, Stream):
        return {}
    model = work.model
    snapshot = Snapshot(model)
    model.make_train_function()

    def step(batch: Any) -> None:
        """Train on a batch, as a call of `Model.fit` does."""
        model.train_function([batch])

    try:
        model.train()
        resident = keras.tree.map_structure(keras.ops.convert_to_tensor, work.batch.packed)
        step(resident)
        with closing(_batches(work.data, work)) as batches:
            return dict(waits_of(batches, step, resident, device))
    finally:
        model.eval()
        snapshot.restore()


def _batches(stream: Stream, work: Work) -> Generator[Any]:
    """The batches of an epoch, as `Model.fit` reads them."""
    adapter = get_data_adapter(stream.open(), class_weight=work.class_weight)
    adapter.on_epoch_begin()
    try:
        yield from adapter.get_torch_dataloader()
    finally:
        adapter.on_epoch_end()
