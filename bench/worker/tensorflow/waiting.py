"""Measures how long the steps of a stream wait for their batches, inside the worker's process.

The timed rounds cannot tell: Keras fetches the batch inside its compiled function. So a few steps
are run once more after them, one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from statistics import fmean
from time import perf_counter
from typing import Any

import keras
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
    other state are restored afterwards. Empty too where the stream ends before a step is timed.
    """
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
            waits, steps = _streamed(batches, step, device)
        if not waits:
            return {}
        kept = slice(int(_LEFT_OUT * len(waits)), None)
        waiting_s, training_s = sum(waits[kept]), sum(steps[kept])
        return {
            "waiting_share": waiting_s / (waiting_s + training_s),
            "resident_step_s": _resident_step_s(step, resident, len(waits), device),
        }
    finally:
        snapshot.restore()


def _batches(stream: Stream, work: Work) -> Generator[Any]:
    """The batches of an epoch, as `Model.fit` reads them."""
    adapter = get_data_adapter(stream.open(), class_weight=work.class_weight)
    adapter.on_epoch_begin()
    try:
        yield from adapter.get_tf_dataset()
    finally:
        adapter.on_epoch_end()


def _streamed(
    batches: Iterator[Any], step: Callable[[Any], Any], device: TensorFlowDevice
) -> tuple[list[float], list[float]]:
    """Seconds of each wait for a batch, and of each step after it.

    A batch of a new form, such as the first one or the smaller one at an epoch's end, is trained
    on but not timed: its step may be traced and compiled, and the first wait opens the stream.
    """
    waits: list[float] = []
    steps: list[float] = []
    known: set[Any] = set()
    until = math.inf
    while len(waits) < _MOST_STEPS and (asked := perf_counter()) < until:
        batch = next(batches, None)
        got = perf_counter()
        if batch is None:
            break
        step(batch)
        device.synchronize()
        if (form := _form(batch)) in known:
            waits.append(got - asked)
            steps.append(perf_counter() - got)
        elif not known:
            until = perf_counter() + _MOST_S
        known.add(form)
    return waits, steps


def _form(batch: Any) -> tuple[Any, ...]:
    """The shapes of the arrays of a batch."""
    return tuple(tuple(leaf.shape) for leaf in keras.tree.flatten(batch))


def _resident_step_s(
    step: Callable[[Any], Any], batch: Any, times: int, device: TensorFlowDevice
) -> float:
    """Mean seconds of `times` steps on one batch."""
    taken = []
    for _ in range(times):
        began = perf_counter()
        step(batch)
        device.synchronize()
        taken.append(perf_counter() - began)
    return fmean(taken)
