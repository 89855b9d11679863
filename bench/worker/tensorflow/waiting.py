"""How long the steps of a stream wait for their batches, with TensorFlow."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import keras
import tensorflow as tf

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
    step = model.train_step
    if not model.run_eagerly:
        step = tf.function(step, jit_compile=model.jit_compile, reduce_retracing=True)
    try:
        resident = first_batch(work)
        step(resident)
        with closing(epoch_batches(work.data, work, "get_tf_dataset")) as batches:
            return dict(waits_of(batches, step, resident, device))
    finally:
        snapshot.restore()


def first_batch(work: Work) -> Any:
    """What a full step takes, as tensors on the device of `work`."""
    with tf.device(work.device):
        return keras.tree.map_structure(tf.constant, work.batch.packed)
