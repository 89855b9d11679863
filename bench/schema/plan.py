"""What a run is to measure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from bench.schema.bounds import (
    Count,
    Epochs,
    Launches,
    Plain,
    Seconds,
    Share,
    Text,
    Whole,
)
from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.workload import WorkFacts
from fmnist_models.errors import UserError

MAX_LABEL = 80
# Cs stands for a byte of the command line that is not in its encoding.
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")

PLAN_VERSION = 1

# `compiled` and `multistep` train at least this long, so that drift inside a launch shows.
MIN_ROUNDS = 20
MIN_SECONDS = 2.0
# (rounds, seconds) of a launch by loop; other loops stop after the documented epochs.
LEAST: Mapping[str, tuple[int, float]] = MappingProxyType(
    dict.fromkeys(("multistep", "compiled"), (MIN_ROUNDS, MIN_SECONDS))
)


@dataclass(frozen=True, slots=True)
class RunSettings(Plain):
    """The settings of every case of a run.

    Attributes:
        epochs: documented epochs, after which the score is taken.
        seed: launch k trains with seed + k.
        launches: fresh processes for each case; None lets each loop choose (1 or 3).
        score_target: the target of an accuracy, as a share; a workload may have a target of its
            own.
        timeout_s: limit of one launch in seconds.
        data: folder of IDX files in place of the embedded ones.
        fork: fork CPU launches from a template process where the system can.
        steps: a round is this number of steps, and no score is taken; None for a whole epoch.
        cache_stream: read a stream into memory once, so that each loop can train on it.
        own_epochs: documented epochs by model, where the user's workload names its own.
        scaling: `weak` where the batch of several replicas grows with their number, else `strong`.
        same_start: begin with the weights that every framework begins with for a seed, even where
            the run has one framework; else only where it has several.
    """

    epochs: Epochs = 5
    seed: Whole = 42
    launches: Launches | None = None
    score_target: Share = 0.85
    timeout_s: Seconds = 600.0
    data: Text | None = None
    fork: bool = True
    steps: Count | None = None
    cache_stream: bool = False
    own_epochs: dict[str, Epochs] = field(default_factory=dict)
    scaling: Literal["strong", "weak"] = "strong"
    same_start: bool = False

    def epochs_of(self, case: Case) -> int:
        """Documented epochs of `case`: those of its workload, or of the run."""
        return self.own_epochs.get(case.model, self.epochs)

    def launches_of(self, case: Case) -> int:
        """Launches of `case`: the user's number, or 3 for `compiled` and `multistep`, or 1."""
        if self.launches is not None:
            return self.launches
        return 3 if case.loop in ("compiled", "multistep") else 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to measure.

    Attributes:
        matrix: name of the matrix that the cases came from.
        command: the command line that repeats the run.
        works: what is known of the user's own models.
        refused: why cases cannot be measured, by id; they are `failed` without a launch.
        sent: functions that were sent to the workers as pickles, which are not kept.
    """

    cases: tuple[Case, ...]
    settings: RunSettings
    matrix: Text = ""
    label: Text | None = None
    command: Text = ""
    works: tuple[WorkFacts, ...] = ()
    refused: dict[Text, Text] = field(default_factory=dict)
    sent: tuple[Text, ...] = ()

    @property
    def same_start(self) -> bool:
        """Whether each case begins with the same weights on all frameworks."""
        backends = {case.backend for case in self.cases if case.loop != SKLEARN_LOOP}
        return self.settings.same_start or len(backends) > 1

    def work_of(self, case: Case) -> WorkFacts | None:
        """What is known of the user's own model; None for others."""
        return next((work for work in self.works if work.model == case.model), None)

    def skip_reason(self, case: Case) -> str | None:
        """Why the settings leave `case` out, on any machine; None where they do not."""
        if case.loop == SKLEARN_LOOP and self.settings.steps is not None:
            return "--steps: scikit-learn's fit has no steps that could be counted; leave it out"
        work = self.work_of(case)
        if work is None or case.loop != "compiled" or not work.stream:
            return None
        if self.settings.cache_stream:
            return None
        return (
            "its training data are a stream, and compiled trains on data in the device's memory: "
            "--cache-stream reads it there once"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {"version": PLAN_VERSION, **asdict(self)}


def label_of(label: str | None, name: str) -> str:
    """A label that begins with that of a plan and ends with a name; what is too long is cut."""
    text = f"{label} {name}" if label else name
    shown = "".join(c for c in text if unicodedata.category(c) not in _UNPRINTED)
    return shown[-MAX_LABEL:]


def validate_label(label: str | None, named: str = "label", most: int = MAX_LABEL) -> None:
    """Accept None, and any text of at most `most` characters that prints on one line.

    `named` is what the message calls it.

    Raises:
        UserError: the label holds a control character or a line break, is not in the encoding
            of the command line, or is too long.
    """
    if label is None:
        return
    if len(label) > most:
        raise UserError(
            f"{named} {label[:20]!r}...: has {len(label)} characters, shorten it to {most}"
        )
    if any(unicodedata.category(sign) in _UNPRINTED for sign in label):
        raise UserError(f"{named} {label!a}: leave out control characters and line breaks")
