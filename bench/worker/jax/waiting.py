"""How long the steps of a stream wait for their batches, with JAX."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import jax
import keras
from keras.src.backend.jax.trainer import _distribute_data

from bench.worker.framework import Device
from bench.worker.waiting import epoch_batches, waits_of
from fmnist_models.loops.base import Snapshot, Work
from fmnist_models.loops.jax.state import state_of
from fmnist_models.stream import Stream


def waiting_of(work: Work, device: Device) -> dict[str, Any]:
    """The fields of `waits_of`; weights and other state are restored afterwards.

    Of several replicas, each trains its share of a batch, on which `Model.fit` puts it too.
    """
    if not isinstance(work.data, Stream):
        return {}
    model = work.model
    snapshot = Snapshot(model)
    one_step = model.train_step
    if model.jit_compile and not model.run_eagerly:
        one_step = jax.jit(one_step, donate_argnums=0)
    state = state_of(model)

    def step(batch: Any) -> None:
        """Train on a batch, and keep the state."""
        nonlocal state
        _, state = one_step(state, batch)

    try:
        spread = work.replicas.spread
        put = _distribute_data if spread else _put
        resident = put(work.batch.packed)
        step(resident)
        read = partial(map, put) if spread else iter
        with closing(epoch_batches(work.data, work, "get_jax_iterator", read)) as batches:
            return dict(waits_of(batches, step, resident, device))
    finally:
        snapshot.restore()


def _put(batch: Any) -> Any:
    """A batch on the device."""
    return keras.tree.map_structure(jax.numpy.asarray, batch)
