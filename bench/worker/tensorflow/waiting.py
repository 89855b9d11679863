"""Measures how long the steps of a stream wait for their batches, inside the worker's process.

The timed rounds cannot tell: Keras fetches the batch inside its compiled function. So a few steps
are run once more after them, one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import fmean
from typing import Any

import tensorflow as tf
from keras.src.trainers.data_adapters import get_data_adapter

from bench.worker.counting import first_batch
from bench.worker.tensorflow.device import TensorFlowDevice
from fmnist_models.loops.base import Snapshot, Work
from fmnist_models.stream import Stream

# Most steps and seconds of the reading.
_MOST_STEPS, _MOST_S = 100, 10.0
# The share of the first steps that is left out: the batches that were fetched ahead while nothing
# was trained are used up there.
_LEFT_OUT = 0.2


def waiting_of(work: Work, device: TensorFlowDevice) -> dict[str, Any]:
    """`waiting_share` and `resident_step_s` of a `LaunchRecord`; empty for data in memory.

    Each step is: fetch the next batch, then train on it until the device is idle. The share is the
    time of the fetches over the time of both. Batches are prepared while a step trains, as in
    `Model.fit`, so a pipeline that is fast enough has a share near 0. `resident_step_s` is the mean
    step on one batch that stays on the device: what a step takes if input is free. Weights and
    other state are restored afterwards.
    """
    if not isinstance(work.data, Stream):
        return {}
    snapshot = Snapshot(work.model)
    step = tf.function(
        work.model.train_step, jit_compile=work.model.jit_compile, reduce_retracing=True
    )
    try:
        resident = first_batch(work)
        step(resident)
        waits, steps = _streamed(work, step, device)
        kept = slice(int(_LEFT_OUT * len(waits)), None)
        waiting_s, training_s = sum(waits[kept]), sum(steps[kept])
        return {
            "waiting_share": waiting_s / (waiting_s + training_s),
            "resident_step_s": _resident_step_s(step, resident, len(waits), device),
        }
    finally:
        snapshot.restore()


def _streamed(
    work: Work, step: Callable[[Any], Any], device: TensorFlowDevice
) -> tuple[list[float], list[float]]:
    """Seconds of each wait for a batch, and of each step after it."""
    assert isinstance(work.data, Stream)
    adapter = get_data_adapter(work.data.open(), class_weight=work.class_weight)
    adapter.on_epoch_begin()
    waits: list[float] = []
    steps: list[float] = []
    began = time.perf_counter()
    batches = iter(adapter.get_tf_dataset())
    while len(waits) < _MOST_STEPS and time.perf_counter() - began < _MOST_S:
        asked = time.perf_counter()
        batch = next(batches, None)
        got = time.perf_counter()
        if batch is None:
            break
        step(batch)
        device.synchronize()
        waits.append(got - asked)
        steps.append(time.perf_counter() - got)
    adapter.on_epoch_end()
    return waits, steps


def _resident_step_s(
    step: Callable[[Any], Any], batch: Any, times: int, device: TensorFlowDevice
) -> float:
    """Mean seconds of `times` steps on one batch."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        step(batch)
        device.synchronize()
        taken.append(time.perf_counter() - began)
    return fmean(taken)
