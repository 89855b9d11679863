"""The score that judges a case: its name, its good direction, and the size of a change of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from bench.schema.bounds import Plain, Positive, Text
from bench.schema.columns import Row
from bench.schema.launch import Better

ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Scale(Plain):
    """In what a change of a case's score is judged and shown.

    A share of a change for the worse, such as 0.02, is 2 points where the score is good when it is
    high and every value of the baseline is between 0 and 1; else 2% of the magnitude of the mean
    of the baseline's values (where that mean is 0, of 1).

    Attributes:
        name: the score, as the workload reports it.
        better: its good direction.
        unit: the change of the score that is a share of 1; None where changes are in points.
    """

    name: Text = ACCURACY
    better: Better = Better.MAX
    unit: Positive | None = None

    @classmethod
    def of(cls, name: str, better: str, baseline: Iterable[float | None]) -> Self:
        """The scale of a score with these values in the baseline; None is a value not measured."""
        known = [value for value in baseline if value is not None and math.isfinite(value)]
        good = Better(better or Better.MAX)
        if good is Better.MAX and all(0 <= value <= 1 for value in known):
            return cls(name, good)
        return cls(name, good, abs(fmean(known)) if known and fmean(known) else 1.0)

    @classmethod
    def of_row(cls, row: Row) -> Self:
        """The scale of a row's score, where the row itself is the baseline."""
        return cls.of(row["score"] or "", row["better"] or "", [row["val_score"]])

    def loss(self, score: float) -> float:
        """A score as a share that is larger where the score is worse; differences count."""
        if self.unit is None:
            return 1 - score
        return (score if self.better is Better.MIN else -score) / self.unit

    def worse(self, before: float, after: float) -> float:
        """By how much a score is worse than it was before, as a share."""
        if self.unit is None:
            return before - after
        return self.loss(after) - self.loss(before)

    def change(self, worse: float) -> float:
        """The change of the score itself, in points or percent, of a share for the worse."""
        # Adding 0.0 turns a negative zero into a positive one.
        return round(100 * (worse if self.better is Better.MIN else -worse), 2) + 0.0

    def difference(self, change: float) -> float:
        """A change of the score, in its own unit, in points or percent."""
        return 100 * change / (self.unit or 1.0)

    @property
    def sign(self) -> str:
        """What follows a number of `change` in a table: a percent sign, or nothing for points."""
        return "" if self.unit is None else "%"

    @property
    def fall(self) -> str:
        """The noun for a change for the worse: `drop` or `rise`."""
        return "rise" if self.better is Better.MIN else "drop"

    def sized(self, share: float) -> str:
        """A share as text: `7.0 points`, or `7.0%`."""
        return f"{100 * share:.1f}{self.sign or ' points'}"

    def fell(self, share: float) -> str:
        """A change for the worse as text: `accuracy fell by 7.0 points`."""
        verb = "rose" if self.better is Better.MIN else "fell"
        return f"{self.name} {verb} by {self.sized(share)}"


# The scale of an accuracy.
OF_ACCURACY = Scale()
