"""One pytest-benchmark entry a case: its rounds, replayed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from bench.cli.gate import InconclusiveWarning
from bench.reports.terminal.check import told
from bench.schema.launch import Status
from bench.session.attempts import RunOutcome
from bench.verdicts.check import CheckedCase, CheckReport, Verdict


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
def test_training(
    benchmark: Any, case_id: str, outcome: RunOutcome, checked: CheckReport | None
) -> None:
    """The rounds of the launches that ended ok, else the reason why there are none; with
    `--baseline` the verdict on them."""
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
    if checked is not None:
        _judge(next(case for case in checked.cases if case.case == case_id))


def _judge(case: CheckedCase) -> None:
    """A confirmed regression fails; what could not be decided is a warning."""
    if case.verdict is Verdict.REGRESSION:
        pytest.fail(f"{case.verdict}: {case.reason}", pytrace=False)
    if case.verdict is not Verdict.PASSED:
        # At the test's own line pytest puts cases of one wording together.
        warnings.warn(f"{case.verdict}: {told(case)}", InconclusiveWarning, stacklevel=2)
