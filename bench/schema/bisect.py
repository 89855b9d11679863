"""A bisection as it is asked for, and each of its trials as it was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from bench.schema.bounds import Finite, Number, Plain, Positive, Text, Word
from bench.schema.case import Case
from bench.schema.duel import DuelPlan
from bench.schema.score import OF_ACCURACY, Scale
from bench.schema.sizes import DUEL_ACCURACY_MARGIN

BISECT_VERSION = 1


class What(StrEnum):
    """What has become worse."""

    SPEED = "speed"
    ACCURACY = "accuracy"


class Purpose(StrEnum):
    """What a trial is for."""

    CONFIRM = "confirm"
    STEP = "step"
    PROOF = "proof"


class Finding(StrEnum):
    """How a trial ended."""

    WORSE = "worse"
    NOT_WORSE = "not_worse"
    UNDECIDED = "undecided"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Trial(Plain):
    """One duel of a bisection: a commit against an earlier one.

    Attributes:
        purpose: what it is for.
        against: the earlier commit, side A.
        commit: the commit that is judged, side B.
        error: the largest probability of a wrong finding, in each direction.
        finding: how it ended.
        reason: why it was skipped or could not be decided; empty where the blocks say it all.
        speed: the log of B's time over A's, of each block.
        score: by how much B's score is worse than A's, as a share, of each block.
        scale: in what the score is judged.
        folder: its name below the bisection's folder; empty where it was not begun.
        pythons: the interpreters of both sides, where each has one of its own.
    """

    purpose: Purpose
    against: Word
    commit: Word
    error: Positive
    finding: Finding
    reason: Text = ""
    speed: tuple[Finite, ...] = ()
    score: tuple[Finite, ...] = ()
    scale: Scale = field(default_factory=lambda: OF_ACCURACY)
    folder: Text = ""
    pythons: tuple[Text, ...] = ()

    def values(self, what: What) -> tuple[float, ...]:
        """The values of what is judged: larger is worse."""
        return self.speed if what is What.SPEED else self.score


@dataclass(frozen=True, slots=True)
class BisectPlan:
    """What a bisection is to find.

    Attributes:
        duel: the duel of GOOD and BAD, with their commits, the case and the settings; its draws
            are those of every trial.
        first_parent: follow only the first parent of each merge.
        paths: only commits that touch these are candidates; all where it is empty.
        setup: a command that is run in each checkout; empty for none.
        command: the command line that repeats it.
    """

    duel: DuelPlan
    what: What = What.SPEED
    first_parent: bool = False
    paths: tuple[Text, ...] = ()
    setup: Text = ""
    command: Text = ""

    @property
    def repository(self) -> str:
        """The folder that holds the user's model, in a Git repository."""
        return str(self.duel.a.checkout)

    @property
    def good(self) -> str:
        """The commit that is not worse."""
        return str(self.duel.a.revision)

    @property
    def bad(self) -> str:
        """The commit that is worse."""
        return str(self.duel.b.revision)

    @property
    def case(self) -> Case:
        """The only case."""
        return self.duel.cases[0]

    @property
    def margin(self) -> float:
        """The change that is tolerated, in the unit of the values of a trial."""
        return self.duel.sizes.log_margin if self.what is What.SPEED else DUEL_ACCURACY_MARGIN

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {"version": BISECT_VERSION, **asdict(self)}


@dataclass(frozen=True, slots=True)
class SetUp(Plain):
    """How the user's command ended in the checkout of a commit.

    Attributes:
        reason: why the commit cannot be measured; empty where the command succeeded.
    """

    commit: Word
    code: Number
    reason: Text = ""
