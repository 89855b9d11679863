"""What the history of a machine gives to those who read it: runs over time, case by case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean

from bench.schema.bounds import Plain, Text, Word
from bench.schema.launch import Better
from bench.schema.score import ACCURACY


@dataclass(frozen=True, slots=True)
class Revision(Plain):
    """The commit of the code that was measured.

    Attributes:
        id: the commit's full name.
        time_utc: when it was committed, ISO 8601 in UTC; empty where not known.
        parents: the full names of its parents, the first parent first; empty where not known, and
            of the first commit of a repository.
        dirty: the checkout had changes that were not committed.
    """

    id: Word
    time_utc: Text = ""
    parents: tuple[Text, ...] = ()
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """One run of a case.

    Attributes:
        run: the id of the run in the history, as `history list` shows it.
        time_utc: when the run began, ISO 8601 in UTC.
        revision: of the code that was measured; None where not known.
        environment: digest of `facts`: two points with the same one had the same environment.
        facts: what beside the code may change the speed, by name, as text: `host` facts (CPU,
            cores, memory, GPUs), kernel, driver, versions of the frameworks, variables. A fact that
            the run did not record is not there.
        logs: log seconds per sample of each launch; empty where the case did not end ok.
        scores: the score on the validation data of each launch, after the documented epochs; empty
            where none was taken. A training that diverged has NaN.
        status: how the case ended: `ok`, `failed`, `skipped` and so on.
        warnings: the texts of the case's warnings.
        label: the user's name for the run; empty where there is none.
        control: log seconds of the control probe, which no code of the user can influence; None
            where the run has no reading.
    """

    run: str
    time_utc: str
    revision: Revision | None
    environment: str
    facts: Mapping[str, str]
    logs: tuple[float, ...]
    scores: tuple[float, ...] = ()
    status: str = "ok"
    warnings: tuple[str, ...] = ()
    label: str = ""
    control: float | None = None

    @property
    def log(self) -> float:
        """Log seconds per sample of the run: the mean over its launches.

        Raises:
            statistics.StatisticsError: the case did not end ok.
        """
        return fmean(self.logs)

    def changed_since(self, earlier: HistoryPoint) -> tuple[tuple[str, str, str], ...]:
        """The facts that differ from an earlier run's: (name, then, now).

        A fact that one of the two did not record is not known to differ.
        """
        if self.environment == earlier.environment:
            return ()
        both = (name for name in earlier.facts if name in self.facts)
        return tuple(
            (name, earlier.facts[name], self.facts[name])
            for name in both
            if earlier.facts[name] != self.facts[name]
        )


@dataclass(frozen=True, slots=True)
class HistorySeries:
    """The runs of one case on one machine that did the same work, the earliest first.

    Attributes:
        machine: the id of the machine in the history.
        machine_name: what a reader is shown: the user's name for it, or its CPU and GPUs.
        case: the case's id.
        workload: digest of the work: data, model, epochs, steps, seed. Runs of one case with
            another digest are another series.
        points: of each run that has the case, in the order of `time_utc`.
        score: the name of the score.
        better: the direction of it that is good.
    """

    machine: str
    machine_name: str
    case: str
    workload: str
    points: tuple[HistoryPoint, ...] = field(default=())
    score: str = ACCURACY
    better: Better = Better.MAX


def as_utc(told: str) -> str:
    """A time or a date, ISO 8601, as a history holds it; one without a zone is in UTC.

    Raises:
        ValueError: it is none.
    """
    time = datetime.fromisoformat(told)
    zoned = time if time.tzinfo else time.replace(tzinfo=UTC)
    try:
        return zoned.astimezone(UTC).isoformat(timespec="seconds")
    except OverflowError as error:
        raise ValueError(told) from error
