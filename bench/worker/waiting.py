"""Measures how long the steps of a stream wait for their batches, inside the worker's process.

The timed rounds cannot tell: Keras may fetch the batch inside its compiled function. So a few
steps are run once more after them, one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from statistics import fmean
from time import perf_counter
from typing import Any

import keras
from keras.src.trainers.data_adapters import get_data_adapter

from bench.worker.framework import Device
from fmnist_models.loops.base import Work
from fmnist_models.stream import Stream

# Most steps and seconds of the reading.
_MOST_STEPS, _MOST_S = 100, 10.0
# The share of the first steps that is left out: the batches that were fetched ahead while nothing
# was trained are used up there.
_LEFT_OUT = 0.2

Step = Callable[[Any], Any]


def waits_of(batches: Iterator[Any], step: Step, resident: Any, device: Device) -> dict[str, float]:
    """`waiting_share` and `resident_step_s` of a `LaunchRecord`.

    Each step is: fetch the next batch, then train on it until the device is idle. The share is the
    time of the fetches over the time of both. Batches are prepared while a step trains, as in
    `Model.fit`, so a pipeline that is fast enough has a share near 0. `resident_step_s` is the mean
    step on one batch that stays on the device: what a step takes if input is free. Empty where the
    stream ends before a step is timed.

    Args:
        batches: the batches of an epoch, as `Model.fit` reads them.
        step: trains on one.
        resident: a batch on the device, which was trained on once.
        device: the device of the case.
    """
    waits, steps = _streamed(batches, step, device)
    if not waits:
        return {}
    kept = slice(int(_LEFT_OUT * len(waits)), None)
    waiting_s, training_s = sum(waits[kept]), sum(steps[kept])
    return {
        "waiting_share": waiting_s / (waiting_s + training_s),
        "resident_step_s": _resident_step_s(step, resident, len(waits), device),
    }


def epoch_batches(
    stream: Stream, work: Work, reader: str, spread: Callable[[Any], Iterator[Any]] = iter
) -> Generator[Any]:
    """The batches of an epoch, as `Model.fit` reads them.

    Args:
        stream: the data.
        work: what trains on it.
        reader: the method of Keras's data adapters for the framework.
        spread: how what that method returns is read.
    """
    adapter = get_data_adapter(stream.open(), class_weight=work.class_weight)
    adapter.on_epoch_begin()
    try:
        yield from spread(getattr(adapter, reader)())
    finally:
        adapter.on_epoch_end()


def _streamed(
    batches: Iterator[Any], step: Step, device: Device
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


def _resident_step_s(step: Step, batch: Any, times: int, device: Device) -> float:
    """Mean seconds of `times` steps on one batch."""
    taken = []
    for _ in range(times):
        began = perf_counter()
        step(batch)
        device.synchronize()
        taken.append(perf_counter() - began)
    return fmean(taken)
