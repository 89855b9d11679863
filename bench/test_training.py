"""One pytest-benchmark entry a case: its rounds, replayed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from bench.record import Status
from bench.run import RunOutcome


class _ReplayedClock:
    """A timer that stands still but for the seconds that the worker measured.

    It is set back to zero before each round, because a running sum would change their
    last digits.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._seconds: Iterator[float] = iter(())

    def load(self, seconds: list[float]) -> None:
        """The rounds to replay."""
        self._seconds = iter(seconds)

    def reset(self) -> None:
        """Before a round."""
        self._now = 0.0

    def pass_round(self) -> None:
        """The round: its seconds pass."""
        self._now = next(self._seconds, math.nan)

    def __call__(self) -> float:
        """Read the clock."""
        return self._now


CLOCK = _ReplayedClock()


@pytest.mark.benchmark(timer=CLOCK)
def test_training(benchmark: Any, case_id: str, outcome: RunOutcome) -> None:
    """The rounds of the launches that ended ok; else the reason why there are none."""
    row = next(row for row in outcome.rows if row["case"] == case_id)
    if row["status"] != Status.OK:
        # The fixture must know that it stays unused on purpose.
        benchmark.skipped = True
        if row["status"] == Status.SKIPPED:
            pytest.skip(row["reason"])
        pytest.fail(f"{row['status']}: {row['reason']}", pytrace=False)
    good = {
        (r.launch, r.attempt)
        for r in outcome.launches
        if r.case == case_id and r.status is Status.OK
    }
    seconds = [
        stored.round.seconds
        for stored in outcome.rounds
        if stored.case == case_id and (stored.launch, stored.attempt) in good
    ]
    benchmark.group = (
        f"{row['model']} {row['optimizer']}, batch {row['batch_size']}, "
        f"{row['precision']}, {row['device']}"
    )
    benchmark.extra_info.update({name: value for name, value in row.items() if name != "reason"})
    CLOCK.load(seconds)
    benchmark.pedantic(CLOCK.pass_round, setup=CLOCK.reset, rounds=len(seconds), iterations=1)
