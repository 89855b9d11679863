"""The speed-up of several replicas: what is paired with what, and where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from bench.analysis.rows import result_rows
from bench.analysis.scaling import Launch, scaling
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status, StoredRound
from bench.schema.plan import Plan, RunSettings

ONE = Case("relu_mlp", "adam", "compiled", "gpu", batch_size=512)
TWO = replace(ONE, replicas=2)


def launch(number: int, *seconds: float, turns: str = "", case: Case = ONE) -> Launch:
    record = LaunchRecord(
        case.id, number, 1, 42 + number, Status.OK, turns=turns, rounds=len(seconds)
    )
    return record, [Round(n, 1000, 10, took, 0.0) for n, took in enumerate(seconds, start=1)]


def speedup(many: Sequence[Launch], one: Sequence[Launch]) -> float:
    found = scaling(many, one)
    assert found is not None
    return found.speedup


def test_rounds_that_took_turns_are_paired() -> None:
    one, many = (1.0, 4.0, 2.0), (0.5, 2.0, 1.25)
    paired = speedup([launch(0, *many, turns="a")], [launch(0, *one, turns="a")])
    assert paired == pytest.approx(2.0)
    for turns in (("a", "b"), ("a", ""), ("", "")):
        apart = [launch(0, *s, turns=t) for s, t in zip((many, one), turns, strict=True)]
        assert speedup(apart[:1], apart[1:]) == pytest.approx(1.6)


def test_launches_of_one_number_are_paired() -> None:
    """What slows down the second launch of both is not in the interval."""
    one = [launch(0, 1.0), launch(1, 3.0), launch(2, 1.5)]
    many = [launch(2, 0.75), launch(0, 0.5), launch(1, 1.5)]
    found = scaling(many, one)
    assert found is not None
    assert (found.speedup, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_launch_that_one_of_the_two_lacks_does_not_count() -> None:
    one = [launch(0, 1.0), launch(1, 100.0), launch(2, 4.0)]
    many = [launch(0, 0.5), launch(2, 1.0)]
    for sides in ((many, one), ([*many, launch(1, 7.0)], [one[0], one[2]])):
        found = scaling(*sides)
        assert found is not None
        assert found.launches == 2
        assert found.speedup == pytest.approx(math.sqrt(8))
    assert scaling([launch(1, 1.0)], [launch(0, 1.0)]) is None


def test_rounds_that_one_of_the_two_lacks_do_not_count() -> None:
    longer, shorter = (1.0, 4.0, 2.0, 50.0), (0.5, 2.0, 1.25)
    for one, many, ratio in ((longer, shorter, 2.0), (shorter, longer, 0.5)):
        pair = [launch(0, *many, turns="a")], [launch(0, *one, turns="a")]
        assert speedup(*pair) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("ends", "speedups"),
    [
        ({ONE: (Status.OK, Status.OK), TWO: (Status.OK, Status.OK)}, 2.0),
        ({ONE: (Status.OK, Status.FAILED), TWO: (Status.OK, Status.OK)}, None),
        ({ONE: (Status.OK,), TWO: (Status.OK, Status.OK)}, None),
        ({ONE: (Status.OK, Status.OK), TWO: (Status.OK, Status.FAILED)}, 2.0),
    ],
)
def test_over_a_case_that_did_not_end_ok_there_is_no_speed_up(
    ends: Mapping[Case, Sequence[Status]], speedups: float | None
) -> None:
    plan = Plan((ONE, TWO), RunSettings(epochs=1, launches=2))
    records, rounds = [], []
    for case, statuses in ends.items():
        for number, status in enumerate(statuses):
            record, timed = launch(number, 1.0 / case.replicas, case=case)
            records.append(replace(record, status=status))
            rounds += [StoredRound(case.id, number, 1, timed[0])]
    alone, spread = result_rows(plan, records, rounds)
    assert spread["speedup"] == (speedups and pytest.approx(speedups))
    assert spread["efficiency"] == (speedups and pytest.approx(speedups / 2))
    assert alone["speedup"] is None
