"""A change in a history: where, how large, how sure, and what else changed at that place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.schema.history import HistoryPoint, HistorySeries
from bench.schema.score import OF_ACCURACY, Scale

# In place of a case's name, for what all cases of a machine share.
ALL_CASES = "all cases"
_ID_DIGITS = 10


class What(StrEnum):
    """What changed."""

    SPEED = "speed"
    SCORE = "score"


class Shape(StrEnum):
    """How it changed.

    A drift is a slow change that no control series shows to be the code's; it is no alarm.
    """

    STEP = "step"
    CREEP = "creep"
    DRIFT = "drift"


class Cause(StrEnum):
    """What differs between the last run surely before a change and the first surely after."""

    CODE = "code"
    ENVIRONMENT = "environment"
    BOTH = "code and environment"
    UNKNOWN = "environment, and perhaps code"
    UNRECORDED = "nothing that was recorded"


@dataclass(frozen=True, slots=True)
class Place:
    """Between which runs a change lies.

    Attributes:
        before: the last run that is surely before it.
        first: the likeliest first run after it.
        after: the first run that is surely after it.
        between: the ids of the revisions after that of `before`, up to that of `after`, in the
            order of the runs; those that no run measured are not known here.
        facts: the recorded facts that differ between `before` and `after`: (name, then, now).
    """

    before: HistoryPoint
    first: HistoryPoint
    after: HistoryPoint
    between: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]

    @classmethod
    def of(cls, points: Sequence[HistoryPoint], first: int, low: int, high: int) -> Place:
        """Of a change whose first run is `first`, surely from `low` to `high` on; low > 0."""
        before, after = points[low - 1], points[high]
        met = dict.fromkeys(
            point.revision.id for point in points[low : high + 1] if point.revision is not None
        )
        if before.revision is not None:
            met.pop(before.revision.id, None)
        return cls(before, points[first], after, tuple(met), after.changed_since(before))

    @property
    def cause(self) -> Cause:
        """What differs between the runs before and after."""
        ours, theirs = self.before.revision, self.after.revision
        if ours is None or theirs is None:
            return Cause.UNKNOWN if self.facts else Cause.CODE
        code = ours.id != theirs.id or ours.dirty or theirs.dirty
        if self.facts:
            return Cause.BOTH if code else Cause.ENVIRONMENT
        return Cause.CODE if code else Cause.UNRECORDED


@dataclass(frozen=True, slots=True)
class Change:
    """A confirmed change of one case's speed or score, or of the speed of all cases together.

    Attributes:
        id: names it in `history ack`; stays the same as runs are added.
        case: `ALL_CASES` for what all cases of the machine share.
        size, low, high: for speed, the added share of time (0.1 is ten percent slower); for the
            score, the change for the worse as a share (`Scale`); with the ends of its 95% interval.
        chance: at most so likely, in a year of daily runs without a change, is any change as sure.
        runs: number of runs after the change, up to the next one or to the last run.
        counts: the size is above what is tolerated.
        over: a later change took it back.
        note: of the acknowledgement; None where there is none.
        controlled: a control series was at hand; without one a change of `ALL_CASES` may be the
            machine's.
        scale: in what a score is judged.
    """

    id: str
    machine: str
    machine_name: str
    case: str
    what: What
    shape: Shape
    size: float
    low: float
    high: float
    chance: float
    place: Place
    runs: int
    counts: bool
    over: bool = False
    note: str | None = None
    controlled: bool = False
    scale: Scale = OF_ACCURACY

    @property
    def worse(self) -> bool:
        """Slower, or a worse score."""
        return self.size > 0

    @property
    def alarms(self) -> bool:
        """A confirmed loss that stands and was not acknowledged."""
        quiet = self.over or self.note is not None or self.shape is Shape.DRIFT
        return self.worse and self.counts and not quiet


def change_id(series: HistorySeries, case: str, what: What, first: HistoryPoint) -> str:
    """The id of the change of a series whose first run was `first` when it was found."""
    words = "\n".join((series.machine, case, series.workload, what, first.run))
    return hashlib.sha256(words.encode()).hexdigest()[:_ID_DIGITS]
