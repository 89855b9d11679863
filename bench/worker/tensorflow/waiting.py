"""How long the steps of a stream wait for their batches, with TensorFlow."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

import keras
import tensorflow as tf
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
    step = model.train_step
    if not model.run_eagerly:
        step = tf.function(step, jit_compile=model.jit_compile, reduce_retracing=True)
    try:
        resident = first_batch(work)
        step(resident)
        with closing(_batches(work.data, work)) as batches:
            return dict(waits_of(batches, step, resident, device))
    finally:
        snapshot.restore()


def first_batch(work: Work) -> Any:
    """What a full step takes, as tensors on the device of `work`."""
    with tf.device(work.device):
        return keras.tree.map_structure(tf.constant, work.batch.packed)


def _batches(stream: Stream, work: Work) -> Generator[Any]:
    """The batches of an epoch, as `Model.fit` reads them."""
    adapter = get_data_adapter(stream.open(), class_weight=work.class_weight)
    adapter.on_epoch_begin()
    try:
        yield from adapter.get_tf_dataset()
    finally:
        adapter.on_epoch_end()
