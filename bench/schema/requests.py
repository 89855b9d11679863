"""What the parent asks of a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from bench.schema.bounds import (
    Count,
    Number,
    Plain,
    Positive,
    Size,
    Text,
    Whole,
)
from bench.schema.case import Case
from fmnist_models.own import FUNCTION
from fmnist_models.replicas import Replicas

# Names of the traces and of the files that a profiling launch writes, beside the profilers' own.
STARTUP, STEPS = "startup", "steps"
TORCH_TRACE = "trace.json"
STACK = "python.html"


class _OfACase(Plain):
    """A request that is about one case, and may ask for rounds of some steps."""

    __slots__ = ()
    case: Case
    steps: Count | None
    cache_stream: bool
    rank: Number
    meeting: Text

    @property
    def replicas(self) -> Replicas:
        """The replicas of the case, as the process sees them that is asked."""
        case = self.case
        return Replicas(case.replicas, case.processes, self.rank, self.meeting)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values.

        Those that a worker of an earlier revision refuses are left out where nothing is asked.
        """
        later = ("steps", "cache_stream", "one_call", "same_start", "rank", "meeting")
        values = Plain.to_json(self)
        values["case"] = _known_to_earlier(values["case"])
        return {name: value for name, value in values.items() if value or name not in later}

    @property
    def own(self) -> tuple[str, ...]:
        """The user's own functions that the launch calls, as `module:function`."""
        return self.case.own


@dataclass(frozen=True, slots=True)
class LaunchRequest(_OfACase):
    """What the worker is asked to measure: one launch of one case.

    Attributes:
        launch: 0 for the first launch of the case.
        attempt: 1, or more where the launch was measured again.
        seed: the seed of this launch (the run's seed + launch).
        min_rounds, min_seconds: after the documented epochs, training goes on until both are
            reached.
        steps: a round is this number of steps, without a score; None for a whole epoch.
        cache_stream: read a stream into memory before the training.
        one_call: only see whether it fits the memory: the training ends after its first call.
        same_start: begin with the weights that every framework begins with for this seed.
        rank: number of the process that is asked, where the case has several.
        meeting: `HOST:PORT` at which its processes find each other; empty for one process.
    """

    op: ClassVar[str] = "launch"
    case: Case
    launch: Number
    attempt: Count
    epochs: Count
    seed: Whole
    data: Text | None = None
    min_rounds: Number = 0
    min_seconds: Size = 0.0
    steps: Count | None = None
    cache_stream: bool = False
    one_call: bool = False
    same_start: bool = False
    rank: Number = 0
    meeting: Text = ""


@dataclass(frozen=True, slots=True)
class CeilingsRequest(Plain):
    """What the worker is asked to measure of the machine itself.

    Attributes:
        device, precision, threads: the setting, as the matrix spells it.
        moment: `before` or `after` the cases.
        cases: (model, batch size) of the cases of that setting, each pair once.
    """

    op: ClassVar[str] = "ceilings"
    device: str
    precision: str
    threads: int | None
    moment: str
    cases: tuple[tuple[str, int], ...]

    @classmethod
    def of_cases(cls, cases: Sequence[Case], moment: str) -> Self:
        """The request of cases of one setting."""
        first = cases[0]
        pairs = sorted({(case.model, case.batch_size) for case in cases})
        return cls(first.device, first.precision, first.threads, moment, tuple(pairs))

    @property
    def own(self) -> tuple[str, ...]:
        """The user's own functions that the launch calls, as `module:function`."""
        return tuple(model for model, _ in self.cases if FUNCTION.fullmatch(model))


@dataclass(frozen=True, slots=True)
class ProfileRequest(_OfACase):
    """One case to profile.

    Attributes:
        seed: the seed of the training.
        folder: where the launch writes its traces.
        seconds: the readings go on for this long, and for at least `rounds` rounds.
        steps, cache_stream, rank, meeting: as those of a `LaunchRequest`.
    """

    op: ClassVar[str] = "profile"
    case: Case
    seed: Whole
    folder: Text
    seconds: Positive
    rounds: Count
    steps: Count | None = None
    cache_stream: bool = False
    rank: Number = 0
    meeting: Text = ""


def _known_to_earlier(case: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a case without those that one replica needs not name."""
    return {k: v for k, v in case.items() if v != 1 or k not in ("replicas", "processes")}
