"""How long the steps of a stream wait for their batches, with PyTorch."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import keras

from bench.worker.framework import Device
from bench.worker.waiting import epoch_batches, waits_of
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
        with closing(epoch_batches(work.data, work, "get_torch_dataloader")) as batches:
            return dict(waits_of(batches, step, resident, device))
    finally:
        model.eval()
        snapshot.restore()
