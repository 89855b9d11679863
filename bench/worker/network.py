"""Measures one launch of one case, inside the worker's process.

Only `bench.worker.serve` imports this module: it imports Keras.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial

import keras
import numpy as np

from bench.schema.cells import counted
from bench.schema.errors import Invalid
from bench.schema.launch import Round
from bench.schema.requests import LaunchRequest
from bench.worker.digests import digest_of_model
from bench.worker.energy import Spans, counter
from bench.worker.evaluation import Evaluations
from bench.worker.framework import Device, framework
from bench.worker.memory import PeakMemory, peaks_of
from bench.worker.protocol import Emit, Pause
from bench.worker.told import told_of_work
from bench.worker.training import built_work, check_precision, warm_up
from fmnist_models.dataset import TrainingData
from fmnist_models.loops import LOOPS
from fmnist_models.loops.base import Loop, Snapshot, state_variables
from fmnist_models.loops.start import digest_of_weights, norms_of_weights
from fmnist_models.loops.watch import number_of
from fmnist_models.stream import Stream

_ENDLESS = 10**9


def measure_network(
    request: LaunchRequest, data: TrainingData, emit: Emit, pause: Pause | None
) -> None:
    """Train and evaluate a network; messages and errors are those of `launch.measure`."""
    device = framework().device(request.case.device, request.case.precision, request.replicas)
    device.configure()
    with device.replicated():
        _measure(request, data, device, emit, pause)


def _measure(
    request: LaunchRequest,
    data: TrainingData,
    device: Device,
    emit: Emit,
    pause: Pause | None,
) -> None:
    """Train and evaluate a network on devices that are ready."""
    case, memory = request.case, PeakMemory()
    built = built_work(request, data, device)
    model = built.work.model
    loop = LOOPS[case.loop](built.work)
    initial_weights = digest_of_weights(model) if request.same_start else ""
    model_digest = digest_of_model(built.task)

    started = time.perf_counter()
    warm_up(built, loop)
    evaluations = Evaluations(
        built, case.batch_size, partial(peaks_of, memory, device), scored=request.steps is None
    )
    with memory.left_out():
        evaluations.warm_up()
    rounds = _Rounds(request, evaluations, loop, device, emit, pause)
    device.wait_for_others()
    device.synchronize()
    warmup_s = time.perf_counter() - started
    precision = check_precision(case, loop, built.left_policy)

    before = Snapshot(model)
    device.reset_peak_memory()
    rounds.training_begins()
    loop.train(rounds, _most_epochs(request))
    after_training_s = rounds.training_returned()
    _check_training(before, loop, device)
    framework().refuse_settings(case.precision)
    peaks = evaluations.peaks
    told = [*built.warnings, *precision.warnings, *rounds.warnings, *loop.notes]
    work = told_of_work(built, loop, device, told)
    emit(
        {
            "kind": "result",
            "device_name": device.device_name,
            "parameters": model.count_params(),
            "warmup_s": warmup_s,
            "after_training_s": after_training_s,
            "test_loss": rounds.test_loss,
            "test_score": rounds.test_score,
            "model_digest": model_digest,
            "initial_weights": initial_weights,
            **peaks,
            **work,
            "test_evaluation_s": rounds.test_evaluation_s,
            "precision_share": precision.share,
            "warnings": told,
            "software": device.software(),
            **rounds.energy.result(),
            **({"final_norms": norms_of_weights(model)} if request.replicas.processes > 1 else {}),
        }
    )


def _most_epochs(request: LaunchRequest) -> int:
    """The documented epochs, or no limit where the training goes on after them."""
    goes_on = request.min_rounds > request.epochs or request.min_seconds > 0
    return _ENDLESS if goes_on else request.epochs


def _check_training(before: Snapshot, loop: Loop, device: Device) -> None:
    if not before.changed():
        raise Invalid("the weights did not change: nothing was learned")
    # A model's own train_step may log no loss, so the weights are tested.
    weights = loop.work.model.trainable_variables
    if not all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in weights):
        raise Invalid("the weights are no longer finite")
    misplaced = device.misplaced([*state_variables(loop.work.model), *loop.resident])
    if misplaced:
        several = loop.work.replicas.count
        where = device.name if several == 1 else f"the devices of all {several} replicas"
        raise Invalid(f"not on {where}: {', '.join(misplaced[:5])}")


class _Rounds:
    """The observer of a loop: times the rounds, evaluates between them, and ends the training."""

    def __init__(
        self,
        request: LaunchRequest,
        evaluations: Evaluations,
        loop: Loop,
        device: Device,
        emit: Emit,
        pause: Pause | None,
    ) -> None:
        self._request = request
        self._pause = pause
        self._loop = loop
        self._model = loop.work.model
        self._score = evaluations.score
        self._evaluations = evaluations
        # Without whole epochs there is nothing to judge.
        self._scored = request.steps is None
        self._validated: dict[str, float] = {}
        self._device = device
        self._emit = emit
        self._round = 0
        self._timed_s = 0.0
        self._skipped_updates = 0
        # Warnings in order, each once.
        self._told: dict[str, None] = {}
        if not self._scored:
            self._told[f"a round is {request.steps} steps, so no score was taken"] = None
        self._idle_since = math.nan
        # With pauses, the counter would include the work of the other launch; and it is of one GPU.
        other = pause is not None or request.replicas.spread
        self.energy = Spans(None if other else counter(request.case.device))
        self.test_loss: float | None = None
        self.test_score: float | None = None
        self.test_evaluation_s: float | None = None

    @property
    def warnings(self) -> list[str]:
        """The warnings for the row."""
        found = list(self._told)
        if self._skipped_updates:
            found.append(f"loss scaling skipped {counted(self._skipped_updates, 'update')}")
        return found

    def training_begins(self) -> None:
        """Count idle time from now on; call it right before the loop."""
        self._idle_since = time.perf_counter()

    def training_returned(self) -> float:
        """Seconds between the end of the last epoch and the loop's return."""
        return time.perf_counter() - self._idle_since

    def window_opens(self) -> None:
        """Start the clock once the device is idle."""
        if self._pause is not None:
            reached = time.perf_counter()
            self._pause()
            self._idle_since += time.perf_counter() - reached
        self._device.wait_for_others()
        self._traces = self._loop.traces
        self._loop.watch.count_from_here()
        self._device.synchronize()
        self.energy.round_begins()
        self._opened = time.perf_counter()
        self._between_s = self._opened - self._idle_since

    def window_closes(self) -> None:
        """Stop the clock once the device is idle."""
        self._device.synchronize()
        self._closed = time.perf_counter()

    def epoch_ends(self, logs: dict[str, float]) -> bool:
        """Check, evaluate and report the round; True while more rounds are wanted."""
        reached = time.perf_counter()
        self._round += 1
        samples, updates = self._check_round(logs)
        self.energy.round_ends(samples)
        self._evaluations.check_training(logs)
        self._timed_s += self._closed - self._opened
        evaluation: dict[str, float] = {}
        evaluation_s = None
        if self._scored and self._round <= self._request.epochs:
            self.energy.closes()
            started = time.perf_counter()
            evaluation = self._evaluations.of_validation()
            evaluation_s = time.perf_counter() - started if evaluation else None
            self._validated = {f"val_{name}": value for name, value in evaluation.items()}
        logs.update(self._validated)
        if self._scored and self._round == self._request.epochs:
            started = time.perf_counter()
            test = self._evaluations.of_test()
            if test:
                self.test_evaluation_s = time.perf_counter() - started
                self.test_loss, self.test_score = test.get("loss"), test[self._score]
        record = Round(
            round=self._round,
            samples=samples,
            updates=updates,
            seconds=self._closed - self._opened,
            between_epochs_s=self._between_s,
            evaluation_s=evaluation_s,
            train_loss=logs.get("loss"),
            train_score=logs.get(self._score) if self._scored else None,
            val_loss=evaluation.get("loss"),
            val_score=evaluation.get(self._score),
        )
        self._emit({"kind": "round", **record.to_json()})
        wants_more = self._wants_more()
        # Idle time before this call is kept; evaluation and waits for others are left out.
        self._idle_since = time.perf_counter() - (reached - self._closed)
        return wants_more

    def _wants_more(self) -> bool:
        """Whether another round is to come, in which all processes must agree."""
        request = self._request
        if self._round < max(request.epochs, request.min_rounds):
            return True
        if request.min_seconds <= 0:
            return False
        # Each process has a clock of its own, and one that goes on alone waits for ever.
        return self._device.of_first(self._timed_s) < request.min_seconds

    def _check_round(self, logs: Mapping[str, float]) -> tuple[int, int]:
        """Samples and steps of the round, after a test that they are those of the loop's work.

        Raises:
            Invalid: the step was traced again, the loss is not finite, or samples or updates
                differ.
        """
        work, watch = self._loop.work, self._loop.watch
        if self._loop.traces != self._traces:
            shapes = "" if work.samples else ": give all batches of the stream one shape"
            raise Invalid(f"round {self._round} {watch.traced_again}{shapes}")
        if not math.isfinite(logs.get("loss", 0.0)):
            raise Invalid(
                f"the training loss became {logs['loss']} in round {self._round}: lower the "
                "learning rate, or clip the gradients"
            )
        updates = self._update_count() - self._loop.updates_before
        rows = watch.rows()
        # Only a stream may not tell its steps; all of its batches but the last one are whole.
        whole = math.ceil((rows or 0) / work.batch_size)
        calls, samples = watch.given() or (work.steps or whole, rows or 0)
        # The call that meets a stream's end has no data, but may run Keras's counter of updates.
        ends = isinstance(work.data, Stream) and work.data.steps is None
        if ends and updates == calls + 1 > math.ceil(samples / work.batch_size):
            updates = calls
        if rows is None:
            self._told[
                "the samples that train_step passes to layers cannot be counted: they are those "
                "that it was given"
            ] = None
        # A model's own step may pass a sample to a layer twice, but must not leave samples out.
        elif rows < samples:
            raise Invalid(f"round {self._round} trained {rows} samples, not {samples}")
        if samples != (work.samples or samples):
            raise Invalid(f"round {self._round} trained {samples} samples, not {work.samples}")
        if calls != (work.steps or calls):
            raise Invalid(f"round {self._round} made {calls} steps, not {work.steps}")
        if not samples or not calls:
            raise Invalid(f"round {self._round} trained nothing that can be counted")
        if isinstance(work.data, Stream):
            self._refuse_other_batches(work.data, samples, updates if watch.plain else calls)
        self._check_updates(updates, calls)
        return samples, calls

    def _refuse_other_batches(self, stream: Stream, samples: int, batches: int) -> None:
        """Refuse batches for whose shapes XLA compiled the step within the round.

        Raises:
            Invalid: a batch has another shape than the first one, or more than one is smaller.
        """
        given = f"round {self._round}: {stream.name} gave"
        others = self._loop.watch.reshaped()
        if others:
            raise Invalid(
                f"{given} {others} batches of another shape than its first: pad or cut all samples "
                "to one shape"
            )
        if batches > math.ceil(samples / stream.batch_size):
            raise Invalid(
                f"{given} more than one batch of less than {stream.batch_size} rows: let only the "
                "last one be smaller"
            )

    def _check_updates(self, updates: int, steps: int) -> None:
        """Refuse a wrong number of updates.

        With Keras's own step, each step is an update, except where loss scaling skips it or the
        optimizer accumulates gradients. A model's own step may make any number of updates.

        Raises:
            Invalid: Keras's own step made another number of updates.
        """
        optimizer = self._model.optimizer
        scales = hasattr(optimizer, "inner_optimizer")
        gathered = getattr(
            optimizer.inner_optimizer if scales else optimizer, "gradient_accumulation_steps", None
        )
        if gathered:
            self._told[f"the optimizer gathers the gradients of {gathered} steps"] = None
        if steps // (gathered or 1) <= updates <= -(-steps // (gathered or 1)):
            return
        if scales and updates < steps:
            self._skipped_updates += steps - updates
        elif self._loop.watch.plain:
            raise Invalid(f"round {self._round} made {updates} updates, not {steps}")
        else:
            told = f"train_step made {updates} updates by {optimizer.name} in {steps} steps"
            self._told[told] = None

    def _update_count(self) -> int:
        return number_of(self._model.optimizer.iterations)
