"""How long the steps of a stream wait for their batches, with TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    step = replica_step(model.train_step) if work.replicas.spread else model.train_step
    if not model.run_eagerly:
        step = tf.function(step, jit_compile=model.jit_compile, reduce_retracing=True)
    spread = distributed if work.replicas.spread else iter
    try:
        resident = resident_shares(work) if work.replicas.spread else first_batch(work)
        step(resident)
        with closing(epoch_batches(work.data, work, "get_tf_dataset", spread)) as batches:
            return dict(waits_of(batches, step, resident, device))
    finally:
        snapshot.restore()


def first_batch(work: Work) -> Any:
    """What a full step of one replica takes, as tensors on the device of `work`."""
    with tf.device(work.device):
        batch = work.batch.first(work.batch_size // work.replicas.count)
        return keras.tree.map_structure(tf.constant, batch.packed)


def resident_shares(work: Work) -> list[Any]:
    """What a full step takes, as tensors: a share of the first batch on the device of each replica.

    The shares have the same rows, as many as each replica trains.
    """
    batch = work.batch.first(work.batch_size // work.replicas.count).packed
    shares = []
    for device in tf.distribute.get_strategy().extended.worker_devices:
        with tf.device(device):
            shares.append(keras.tree.map_structure(tf.constant, batch))
    return shares


def distributed(dataset: tf.data.Dataset) -> Iterator[list[Any]]:
    """The batches of a dataset as `Model.fit` reads them: a share for each replica."""
    strategy = tf.distribute.get_strategy()
    for batch in strategy.experimental_distribute_dataset(dataset):
        leaves = [strategy.experimental_local_results(leaf) for leaf in tf.nest.flatten(batch)]
        shares = zip(*leaves, strict=True)
        yield [tf.nest.pack_sequence_as(batch, share) for share in shares]


def replica_step(step: Callable[[Any], Any]) -> Callable[[Sequence[Any]], Any]:
    """A step of all replicas, each on its own share."""
    strategy = tf.distribute.get_strategy()

    def of_one(shares: Sequence[Any]) -> Any:
        """The step of a replica."""
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        return step(shares[int(tf.get_static_value(number))])

    return lambda shares: strategy.run(of_one, args=(shares,))
