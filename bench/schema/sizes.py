"""The changes that a verdict tolerates and must find, for `check`, `duel` and pytest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from fmnist_models.errors import UserError

# The slow-down that must be found, as a share of time, where the user names none.
DEFAULT_GATE = 0.25
# The slow-down that a duel must rule out before B passes, as a share.
DUEL_GATE = 0.05
MARGIN = 0.01
# Seeds alone scatter an accuracy by 0.5 to 0.7 points. A duel pairs its launches, so it sees a
# smaller drop than a stored baseline.
CHECK_ACCURACY_MARGIN, CHECK_ACCURACY_GATE = 0.02, 0.07
DUEL_ACCURACY_MARGIN, DUEL_ACCURACY_GATE = 0.005, 0.02
MOST = 10.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """The change that is tolerated (margin) and the change that must be found (gate).

    Attributes:
        margin: a slow-down up to this share is tolerated; a confirmed one above it counts.
        gate: a slow-down of this share must be found; where it could be missed, nothing passes.
        accuracy_margin, accuracy_gate: the same for a drop of accuracy, of which 0.01 is one point,
            or for another score's change for the worse, as a share (`bench.schema.score.Scale`).
        checks: number of checks that are judged as one, and share the level of false alarms.

    Raises:
        UserError: a value is out of range; the message names its option.
    """

    margin: float
    gate: float
    accuracy_margin: float
    accuracy_gate: float
    checks: int = 1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.margin < MOST:
            raise UserError(
                f"--margin {self.margin:g}: write a share of at least 0, such as 0.01 for 1%"
            )
        if not self.margin < self.gate <= MOST:
            raise UserError(
                f"--gate {self.gate:g}: write a share above the margin of {self.margin:g} and at "
                f"most {MOST:g}, such as {DEFAULT_GATE:g} for {DEFAULT_GATE:.0%}"
            )
        if not self.accuracy_margin < self.accuracy_gate <= 1:
            raise UserError(
                f"--accuracy-gate {100 * self.accuracy_gate:g}: write points above the "
                f"{100 * self.accuracy_margin:g} that are tolerated, and at most 100"
            )

    @classmethod
    def of_check(
        cls, gate: float | None = None, margin: float | None = None, points: float | None = None
    ) -> Self:
        """The sizes of a check; None takes the default, `points` is the accuracy gate."""
        accuracy = CHECK_ACCURACY_MARGIN, _share(points, CHECK_ACCURACY_GATE)
        return cls(_given(margin, MARGIN), _given(gate, DEFAULT_GATE), *accuracy)

    @classmethod
    def of_duel(
        cls, gate: float | None = None, margin: float | None = None, points: float | None = None
    ) -> Self:
        """The sizes of a duel; None takes the default, `points` is the accuracy gate."""
        accuracy = DUEL_ACCURACY_MARGIN, _share(points, DUEL_ACCURACY_GATE)
        return cls(_given(margin, MARGIN), _given(gate, DUEL_GATE), *accuracy)

    @property
    def confirming_gate(self) -> float:
        """The gate of a duel that confirms a check, as a share: narrower than the check's own.

        With the check's wide gate, the duel could pass a slow-down that the check had found.
        """
        return min(self.gate, max(DUEL_GATE, 2 * self.margin))

    @property
    def log_margin(self) -> float:
        """The margin in log seconds."""
        return math.log1p(self.margin)

    @property
    def log_gate(self) -> float:
        """The gate in log seconds."""
        return math.log1p(self.gate)


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _share(points: float | None, default: float) -> float:
    return default if points is None else points / 100
