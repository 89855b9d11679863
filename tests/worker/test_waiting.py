"""How long a step waits: known waits give known shares, and no launch fails by the reading."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.worker import told
from bench.worker import waiting as shared
from bench.worker.tensorflow import waiting
from fmnist_models.arrays import Arrays
from fmnist_models.loops.base import Work
from fmnist_models.stream import Stream

# Of the fake clock: a fetch, a step on the device, a trace of the step.
FETCH_S, STEP_S, TRACE_S = 3.0, 1.0, 100.0


def rows_of(rows: int) -> Arrays:
    draw = np.random.default_rng(rows)
    return Arrays(draw.random((rows, 4), np.float32), np.arange(rows, dtype=np.int32) % 2)


class Clock:
    """Goes on only where the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def synchronize(self) -> None:
        """As a device: the step is done."""
        self.now_s += STEP_S


def work_of(clock: Clock, *, eagerly: bool = False) -> Work:
    import keras

    class Traced(keras.Model):
        def train_step(self, data: Any) -> Any:
            clock.now_s += 0 if eagerly else TRACE_S
            logs = super().train_step(data)
            if eagerly:
                float(logs["loss"].numpy())
            return logs

    inputs = keras.Input((4,))
    model = Traced(inputs, keras.layers.Dense(2, activation="softmax")(inputs))
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=eagerly)
    head = rows_of(8)

    def stream() -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(head.packed).batch(8).repeat(5)

    return Work(model, Stream("mine:f", stream, 8, head, None, False), 8, seed=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(shared, "perf_counter", found)
    return found


def stream_of(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, sizes: Sequence[int], first_s: float = FETCH_S
) -> None:
    """Let a stream have batches of these sizes, and take `first_s` until its first one."""
    import tensorflow as tf

    def batches(*_: Any) -> Generator[Any]:
        for number, rows in enumerate(sizes):
            clock.now_s += FETCH_S if number else first_s
            yield tuple(map(tf.constant, rows_of(rows).packed))

    monkeypatch.setattr(waiting, "epoch_batches", batches)


@pytest.mark.parametrize("sizes", [[8] * 6, [8, 8, 8, 5], [8, 8, 8, 5, 8, 8, 8, 5]])
def test_a_smaller_batch_is_not_timed_with_the_trace_of_its_step(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    work = work_of(clock)
    stream_of(clock, monkeypatch, sizes)
    before = [w.numpy() for w in work.model.weights]
    told = waiting.waiting_of(work, clock)  # type: ignore[arg-type]
    assert told == {"waiting_share": FETCH_S / (FETCH_S + STEP_S), "resident_step_s": STEP_S}
    assert all(np.array_equal(*pair) for pair in zip(before, work.model.weights, strict=True))


def test_the_time_that_opens_a_stream_is_no_wait_of_a_step(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_of(clock)
    stream_of(clock, monkeypatch, [8] * 4, first_s=1000.0)
    told = waiting.waiting_of(work, clock)  # type: ignore[arg-type]
    assert told["waiting_share"] == FETCH_S / (FETCH_S + STEP_S)


def test_a_stream_without_a_second_batch_tells_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_of(clock)
    stream_of(clock, monkeypatch, [8, 5])
    assert waiting.waiting_of(work, clock) == {}  # type: ignore[arg-type]


def test_slow_batches_are_read_for_ten_seconds_but_one_at_least(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.FETCH_S", 20.0)
    work = work_of(clock)
    stream_of(clock, monkeypatch, [8] * 100)
    told = waiting.waiting_of(work, clock)  # type: ignore[arg-type]
    assert told["waiting_share"] == 20 / 21
    assert clock.now_s < 100 + TRACE_S


def test_a_step_that_runs_eagerly_is_not_traced(clock: Clock) -> None:
    told = waiting.waiting_of(work_of(clock, eagerly=True), clock)  # type: ignore[arg-type]
    assert told["resident_step_s"] == STEP_S


def test_what_the_reading_raises_is_a_warning(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Generator[Any]:
        yield from ()
        raise OSError("the share is gone")

    monkeypatch.setattr(waiting, "epoch_batches", broken)
    warnings: list[str] = []
    built: Any = SimpleNamespace(work=work_of(clock))
    assert told._waiting(built, clock, warnings) == {}  # type: ignore[arg-type]
    (warning,) = warnings
    assert "could not be read: it raised OSError: the share is gone (test_waiting.py" in warning
