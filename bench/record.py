"""What one launch reports, as plain data that validates itself.

A `Round` is one timed epoch; a `LaunchRecord` is everything else that is known of one
launch. Both travel as JSON from the worker and lie in a run's folder as they came: every
statistic is derived from them again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

from bench.bounds import (
    Count,
    Epochs,
    Launches,
    Loss,
    Number,
    Positive,
    Seconds,
    Share,
    Size,
    Text,
    Whole,
    Word,
    checked,
)
from bench.case import Case
from bench.noise import Noise

# `compiled` and `multistep` go on at least so long, so that drift inside a launch shows.
MIN_ROUNDS = 20
MIN_SECONDS = 2.0
# Of a run, by loop; whatever is not here stops after its documented epochs.
LEAST: Mapping[str, tuple[int, float]] = MappingProxyType(
    dict.fromkeys(("multistep", "compiled"), (MIN_ROUNDS, MIN_SECONDS))
)


class Status(StrEnum):
    """How a launch, or a case, ended."""

    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    INVALID = "invalid"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What holds for every case of a run.

    Attributes:
        epochs: documented epochs, the ones that give the accuracy.
        seed: launch k trains with seed + k.
        launches: fresh processes a case; None lets each loop choose (1 or 3).
        accuracy_target: validation accuracy for the time to accuracy.
        timeout_s: limit of one launch in seconds.
        data: folder of IDX files in place of the embedded ones.
        fork: fork CPU launches from a template process where the system can.
    """

    epochs: Epochs = 5
    seed: Whole = 42
    launches: Launches | None = None
    accuracy_target: Share = 0.85
    timeout_s: Seconds = 600.0
    data: Text | None = None
    fork: bool = True

    def launches_of(self, case: Case) -> int:
        """How many launches `case` gets: as asked, else 3 for `compiled` and `multistep`."""
        if self.launches is not None:
            return self.launches
        return 3 if case.loop in ("compiled", "multistep") else 1

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What the worker is asked to measure: one launch of one case.

    Attributes:
        launch: 0 for the first launch of the case.
        attempt: 1, or more where the launch was measured again.
        seed: the seed of this launch (the run's seed + launch).
        min_rounds, min_seconds: it goes on, its accuracy taken, until both are reached.
    """

    case: Case
    launch: Number
    attempt: Count
    epochs: Count
    seed: Whole
    data: Text | None = None
    min_rounds: Number = 0
    min_seconds: Size = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The request that `to_json` wrote; fields of a later version are ignored.

        Raises:
            ValueError: a field is missing or out of bounds; it is named.
        """
        return checked(values, cls)

    @property
    def models(self) -> tuple[str, ...]:
        """Those that are trained, as cases name them."""
        return (self.case.model,)


@dataclass(frozen=True, slots=True)
class CeilingsRequest:
    """What the worker is asked to measure of the machine itself.

    Attributes:
        device, precision, threads: the setting, as the matrix spells it.
        moment: `before` or `after` the cases.
        cases: model and batch size of each case of that setting, each pair once.
    """

    device: str
    precision: str
    threads: int | None
    moment: str
    cases: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @property
    def models(self) -> tuple[str, ...]:
        """Those whose products are timed, as cases name them."""
        return tuple(model for model, _ in self.cases)


@dataclass(frozen=True, slots=True)
class Round:
    """One timed epoch.

    Attributes:
        round: 1 for the first round of the launch.
        samples: samples trained inside the window (for `sklearn`, samples times passes).
        updates: steps inside the window, each an optimizer update but where a warning says so.
        seconds: length of the window.
        between_epochs_s: idle seconds between the previous window (or the start of
            training) and this one, evaluation and hand-shakes excluded.
        evaluation_s: seconds of the evaluation after this round; None where there was none.
        train_loss, train_accuracy: running means over the epoch; None where not known.
        val_loss, val_accuracy: of the evaluation after this round; None where none.
    """

    round: Count
    samples: Count
    updates: Count
    seconds: Positive
    between_epochs_s: Size
    evaluation_s: Size | None = None
    train_loss: Loss | None = None
    train_accuracy: Share | None = None
    val_loss: Loss | None = None
    val_accuracy: Share | None = None

    def __post_init__(self) -> None:
        if self.round < 1 or self.samples < 1 or self.updates < 1:
            raise ValueError(f"round, samples and updates must be at least 1: {self}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"seconds must be finite and above 0: {self}")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The round that `to_json` wrote; fields of a later version are ignored.

        Raises:
            ValueError: a field is missing or out of bounds; it is named.
        """
        return checked(values, cls)


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """How one launch ended and what it reports beside its rounds.

    Attributes:
        case: id of the case.
        reason: one line; empty where the status is ok.
        device_name: CPU or GPU model that trained.
        parameters: trainable and other weights of the model.
        jit_compile: as Keras resolved it; None for `sklearn`.
        warmup_s: seconds of tracing, compilation and first steps before round 1.
        after_training_s: idle seconds between the last round and the loop's return.
        total_s: seconds from the request to the launch's end, as the parent saw them.
        test_evaluation_s: seconds of the evaluation on the test images.
        test_accuracy, test_loss: after the documented epochs.
        peak_host_memory_bytes: rise of the process's peak since the launch began.
        peak_device_memory_bytes: the device allocator's peak; None on a CPU.
        dense_layers: (inputs, units) of each layer of a plain chain of Dense layers; None for
            other models.
        traffic: (array, bytes, moves a step) of `bench.roofline.Traffic`; None for `sklearn`.
        software: versions and build flags that only the worker can know.
        code: digest of the files that the launch ran (`bench.origin`); empty where it told none.
        files: those files, by the word for where they lie, with their digests.
        energy_j, energy_samples: joules of the spans that were long enough to count, and the
            samples trained in them; None where no counter can be read.
        energy_covers: what the joules are of.
        precision_share: of the multiply-adds that were in the case's precision; None for
            `sklearn`.
        noise: what disturbed the launch; None where it was not read.
        rounds: how many it timed; None where an earlier version wrote it.
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
    warmup_s: Size | None = None
    after_training_s: Size | None = None
    total_s: Size | None = None
    test_loss: Loss | None = None
    test_accuracy: Share | None = None
    peak_host_memory_bytes: Number | None = None
    peak_device_memory_bytes: Number | None = None
    test_evaluation_s: Size | None = None
    dense_layers: tuple[tuple[Count, Count], ...] | None = None
    traffic: tuple[tuple[Text, Number, Number], ...] | None = None
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

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote; fields of a later version are ignored.

        Raises:
            ValueError: a field is missing or out of bounds; it is named.
        """
        return checked(values, cls)


# Columns that folders of earlier versions do not have.
LATER_COLUMNS: tuple[str, ...] = (
    "flops_per_sample",
    "bytes_per_step",
    "gflops",
    "roofline_limit_s",
    "roofline_fraction",
    "bound",
    "products_limit_s",
    "products_fraction",
    "framework_overhead",
    "epoch_j",
    "samples_per_j",
    "energy_covers",
    "precision_share",
)
RESULT_COLUMNS: tuple[str, ...] = (
    "case",
    "status",
    "reason",
    "model",
    "optimizer",
    "loop",
    "backend",
    "device",
    "device_name",
    "batch_size",
    "precision",
    "threads",
    "epochs",
    "seed",
    "launches",
    "rounds",
    "parameters",
    "samples_per_s",
    "samples_per_s_low",
    "samples_per_s_high",
    "step_ms",
    "epoch_s",
    "warmup_s",
    "total_s",
    "train_accuracy",
    "val_accuracy",
    "val_loss",
    "test_accuracy",
    "accuracy_target",
    "accuracy_reached",
    "time_to_accuracy_s",
    "jit_compile",
    "between_epochs_s",
    "evaluation_s",
    "peak_host_memory_bytes",
    "peak_device_memory_bytes",
    *LATER_COLUMNS,
    "warnings",
)
ROUND_COLUMNS: tuple[str, ...] = (
    "case",
    "launch",
    "attempt",
    *(f.name for f in fields(Round)),
)
