"""One pytest-benchmark entry per case, which replays its rounds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from bench.cli.gate import InconclusiveWarning
from bench.reports.terminal.check import told
from bench.schema.launch import Status
from bench.session.outcome import RunOutcome
from bench.verdicts.check import CheckedCase, CheckReport, Verdict


class _ReplayedClock:
    """A timer that advances only by the seconds that the worker measured.

    It is reset to zero before each round, because a running sum would change their last digits.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._seconds: Iterator[float] = iter(())

    def load(self, seconds: list[float]) -> None:
        """Set the seconds of the rounds to replay."""
        self._seconds = iter(seconds)

    def reset(self) -> None:
        """Set the timer to zero before a round."""
        self._now = 0.0

    def pass_round(self) -> None:
        """Advance the timer by the seconds of the next round."""
        self._now = next(self._seconds, math.nan)

    def __call__(self) -> float:
        """The present time of the timer in seconds."""
        return self._now


CLOCK = _ReplayedClock()


@pytest.mark.benchmark(timer=CLOCK)
def test_training(
    benchmark: Any, case_id: str, outcome: RunOutcome, checked: CheckReport | None
) -> None:
    """Replay the rounds of the launches that ended ok, or show the reason why there are none.

    With `--baseline`, a confirmed regression fails the test.
    """
    row = next(row for row in outcome.rows if row["case"] == case_id)
    if row["status"] != Status.OK:
        # Tells the fixture that it is unused on purpose.
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
    if checked is not None:
        _judge(next(case for case in checked.cases if case.case == case_id))


def _judge(case: CheckedCase) -> None:
    """Fail the test for a confirmed regression; warn for a case that could not be decided."""
    if case.verdict is Verdict.REGRESSION:
        pytest.fail(f"{case.verdict}: {case.reason}", pytrace=False)
    if case.verdict is not Verdict.PASSED:
        # stacklevel 2 gives all cases one line, so pytest groups equal warnings.
        warnings.warn(f"{case.verdict}: {told(case)}", InconclusiveWarning, stacklevel=2)
