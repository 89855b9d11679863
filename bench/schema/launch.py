"""What one launch reports, as plain data that checks itself.

A `Round` is one timed epoch; a `LaunchRecord` is everything else that is known of one launch.
The worker sends both as JSON, and a run's folder stores them unchanged. Every statistic is
computed from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bench.schema.bounds import (
    Count,
    Finite,
    Loss,
    Number,
    Plain,
    Positive,
    Share,
    Size,
    Text,
    Whole,
    Word,
)
from bench.schema.noise import Noise


class Status(StrEnum):
    """How a launch, or a case, ended."""

    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    INVALID = "invalid"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


class Better(StrEnum):
    """Which direction of a score is good."""

    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Round(Plain):
    """One timed epoch.

    Attributes:
        round: 1 for the first round of the launch.
        samples: samples trained inside the window (for `sklearn`, samples times passes).
        updates: steps inside the window; each is an optimizer update unless a warning says not.
        seconds: length of the window.
        between_epochs_s: idle seconds between the previous window (or the start of
            training) and this one, without evaluation and waits for the parent.
        evaluation_s: seconds of the evaluation after this round; None where there was none.
        train_loss, train_score: running means over the epoch; None where not known. The score is
            the metric that judges, which `LaunchRecord.score` names.
        val_loss, val_score: of the evaluation after this round; None where there was none.

    Raises:
        ValueError: a count is below 1, or seconds is not finite and above 0.
    """

    round: Count
    samples: Count
    updates: Count
    seconds: Positive
    between_epochs_s: Size
    evaluation_s: Size | None = None
    train_loss: Loss | None = None
    train_score: Loss | None = None
    val_loss: Loss | None = None
    val_score: Loss | None = None

    def __post_init__(self) -> None:
        if self.round < 1 or self.samples < 1 or self.updates < 1:
            raise ValueError(f"round, samples and updates must be at least 1: {self}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"seconds must be finite and above 0: {self}")


@dataclass(frozen=True, slots=True)
class LaunchRecord(Plain):
    """How one launch ended and what it reports beside its rounds.

    Attributes:
        case: id of the case.
        reason: one line; empty where the status is ok.
        device_name: model of the CPU or GPU that trained.
        parameters: trainable and other weights of the model.
        jit_compile: the step was compiled as a whole; None for `sklearn`.
        steps_a_call: most steps in one call of a compiled function, or of the step itself; None
            for `sklearn`, and in a record of an earlier version.
        warmup_s: seconds of tracing, compilation and first steps before round 1.
        after_training_s: idle seconds between the last round and the loop's return.
        total_s: seconds from the request to the launch's end, as the parent saw them.
        test_evaluation_s: seconds of the evaluation on the test images.
        test_score, test_loss: of the test data, after the documented epochs.
        score: the metric that judges; `better` says which direction of it is good.
        score_target: the workload's own target of that score; None where it has none.
        images: it trained on the embedded images.
        data_digest, model_digest: digests of the training data and of the model's configuration;
            `unknown` for a stream. Empty in a record of an earlier version.
        initial_weights: digest of the weights before the training, where every framework of the run
            begins with them; else empty.
        waiting_share: share of a step spent waiting for a stream's next batch; None where the data
            are arrays.
        resident_step_s: seconds of a step whose batch is in the device's memory; None likewise.
        flops_per_sample: FLOPs of a training step for one sample, counted in the lowered module;
            None where they cannot be counted, and where `dense_layers` gives them. A warning says
            where they differ from the layers' own count.
        peak_host_memory_bytes: rise of the process's peak memory since the launch began.
        peak_device_memory_bytes: peak of the device's allocator; None on a CPU.
        dense_layers: (inputs, units) of each layer of a plain chain of Dense layers; None for
            other models.
        traffic: the fields of each `Traffic`; None for `sklearn`.
        all_reduce_bytes: bytes of the trainable weights, of which replicas add up the gradients in
            a step; None for one.
        all_reduce_s: seconds in which they add up so many bytes, and do nothing else.
        device_uuids: NVML's names of the GPUs of several replicas.
        turns: a word that this launch has in common with those whose rounds alternated with its
            own; empty where none did.
        software: versions and build flags that only the worker can know.
        code: digest of the files that the launch ran (`bench.launch.origin`); empty where it
            reported none.
        files: the digest of each of those files by its name, grouped by where they are.
        energy_j, energy_samples: joules of the spans that were long enough to count, and the
            samples trained in them; None where no counter can be read.
        energy_covers: the parts of the machine whose joules are counted.
        precision_share: share of the multiply-adds that ran in the case's precision; None for
            `sklearn`.
        noise: what disturbed the launch; None where it was not read.
        rounds: number of timed rounds; None in a record of an earlier version.
    """

    case: Word
    launch: Number
    attempt: Count
    seed: Whole
    status: Status
    reason: Text = ""
    device_name: Text | None = None
    parameters: Number | None = None
    jit_compile: bool | None = None
    steps_a_call: Count | None = None
    warmup_s: Size | None = None
    after_training_s: Size | None = None
    total_s: Size | None = None
    test_loss: Loss | None = None
    test_score: Loss | None = None
    score: Text = "accuracy"
    better: Better = Better.MAX
    score_target: Finite | None = None
    images: bool = True
    data_digest: Text = ""
    model_digest: Text = ""
    initial_weights: Text = ""
    waiting_share: Share | None = None
    resident_step_s: Positive | None = None
    flops_per_sample: Size | None = None
    peak_host_memory_bytes: Number | None = None
    peak_device_memory_bytes: Number | None = None
    test_evaluation_s: Size | None = None
    dense_layers: tuple[tuple[Count, Count], ...] | None = None
    traffic: tuple[tuple[Text, Number, Number], ...] | None = None
    all_reduce_bytes: Number | None = None
    all_reduce_s: Positive | None = None
    device_uuids: tuple[Text, ...] = ()
    turns: Text = ""
    energy_j: Size | None = None
    energy_samples: Number | None = None
    energy_covers: Text = ""
    precision_share: Share | None = None
    warnings: tuple[Text, ...] = ()
    software: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    noise: Noise | None = None
    rounds: Number | None = None


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A `Round` with the launch that it belongs to."""

    case: Word
    launch: Number
    attempt: Count
    round: Round
