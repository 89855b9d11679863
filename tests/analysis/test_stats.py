"""Statistics against published examples, SciPy, and properties that must hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.analysis.stats import (
    Throughput,
    is_unsteady,
    launch_log,
    reaches,
    student_interval,
    throughput,
    time_to_score,
)
from bench.schema.launch import Better

NOT_POSITIVE = (0.0, -1.0, math.nan, math.inf)
SECONDS = st.floats(min_value=1e-3, max_value=1e3)
ROUND = st.tuples(st.integers(min_value=1, max_value=10**6), SECONDS)
LAUNCHES = st.lists(st.lists(ROUND, min_size=1, max_size=7), min_size=1, max_size=6)
without_deadline = settings(deadline=None)


class TestStudentInterval:
    def test_published_example(self) -> None:
        # Extra hours of sleep (Cushny and Peebles 1905, used by Student 1908), paired; the
        # interval is the one that R prints for t.test on its `sleep` data.
        differences = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
        assert student_interval(differences) == pytest.approx((0.7001142, 2.4598858), abs=1e-7)

    @pytest.mark.parametrize("n", [2, 3, 5, 20])
    def test_equals_scipy(self, n: int) -> None:
        logs = np.random.default_rng(n).normal(-9, 0.1, n).tolist()
        expected = scipy_stats.t.interval(
            0.95, n - 1, loc=np.mean(logs), scale=scipy_stats.sem(logs)
        )
        assert student_interval(logs) == pytest.approx(expected, rel=1e-12)

    def test_one_value_has_no_interval(self) -> None:
        assert student_interval([-9.0]) is None

    def test_equal_values_have_an_interval_of_no_width(self) -> None:
        assert student_interval([-9.0, -9.0, -9.0]) == (-9.0, -9.0)

    def test_covers_the_truth_as_often_as_it_says(self) -> None:
        truth, trials = -9.0, 4000
        draws = np.random.default_rng(20).normal(truth, 0.05, (trials, 5)).tolist()
        hits = 0
        for logs in draws:
            interval = student_interval(logs)
            assert interval is not None
            hits += interval[0] <= truth <= interval[1]
        # Three standard errors of a share of 0.95 over 4,000 trials are 0.0103.
        assert hits / trials == pytest.approx(0.95, abs=0.0103)

    @pytest.mark.parametrize("logs", [[], [math.nan], [1.0, math.inf]])
    def test_bad_logs(self, logs: list[float]) -> None:
        with pytest.raises(ValueError, match="logs: "):
            student_interval(logs)


class TestLaunchLog:
    def test_is_the_median_of_seconds_per_sample(self) -> None:
        # 2, 1 and 4 seconds per sample: the median of the ratios, not a ratio of medians.
        assert launch_log([1, 10, 2], [2.0, 10.0, 8.0]) == pytest.approx(math.log(2.0))

    def test_lengths_must_agree(self) -> None:
        with pytest.raises(ValueError, match="2 samples beside 1 seconds"):
            launch_log([1, 2], [1.0])

    def test_no_rounds(self) -> None:
        with pytest.raises(ValueError, match="seconds: at least one"):
            launch_log([], [])

    @pytest.mark.parametrize("bad", NOT_POSITIVE)
    def test_bad_seconds(self, bad: float) -> None:
        with pytest.raises(ValueError, match=f"seconds: {bad} is not"):
            launch_log([1, 1], [1.0, bad])

    @pytest.mark.parametrize("bad", [0, -1])
    def test_bad_samples(self, bad: int) -> None:
        with pytest.raises(ValueError, match=f"samples: {bad} is not"):
            launch_log([1, bad], [1.0, 1.0])


class TestThroughput:
    def test_one_launch_has_no_interval(self) -> None:
        found = throughput([[(100, 1.0), (100, 2.0), (100, 4.0)]])
        assert found == Throughput(found.samples_per_s, None, None, 1)
        assert found.samples_per_s == pytest.approx(50.0)

    def test_two_launches_by_hand(self) -> None:
        # Rates 100 and 400: logs differ by log 4, so s / sqrt(2) is log(4) / 2 = log 2,
        # and the 97.5% quantile of t with one degree of freedom is tan(0.475 pi).
        found = throughput([[(100, 1.0)], [(100, 0.25)]])
        factor = 2 ** math.tan(0.475 * math.pi)
        assert found.samples_per_s == pytest.approx(200.0)
        assert found.low == pytest.approx(200.0 / factor)
        assert found.high == pytest.approx(200.0 * factor)
        assert found.launches == 2

    def test_one_slow_round_changes_nothing(self) -> None:
        calm = [(100, 1.0)] * 5
        assert throughput([[*calm, (100, 60.0)]]).samples_per_s == throughput([calm]).samples_per_s

    @pytest.mark.parametrize(
        ("launches", "message"),
        [
            ([], "launches: at least one"),
            ([[]], "seconds: at least one"),
            ([[(1, 1.0)], []], "seconds: at least one"),
            ([[(1, math.nan)]], "seconds: nan"),
            ([[(0, 1.0)]], "samples: 0"),
        ],
    )
    def test_bad_launches(self, launches: Sequence[Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            throughput(launches)

    @without_deadline
    @given(LAUNCHES)
    def test_the_interval_contains_the_estimate(
        self, launches: list[list[tuple[int, float]]]
    ) -> None:
        found = throughput(launches)
        assert found.launches == len(launches)
        if len(launches) == 1:
            assert found.low is None
            assert found.high is None
        else:
            assert _low(found) <= found.samples_per_s <= _high(found)

    @without_deadline
    @given(LAUNCHES, st.floats(min_value=0.01, max_value=100))
    def test_seconds_times_c_divide_the_rate_by_c(
        self, launches: list[list[tuple[int, float]]], c: float
    ) -> None:
        before = throughput(launches)
        after = throughput([[(n, s * c) for n, s in rounds] for rounds in launches])
        assert after.samples_per_s * c == pytest.approx(before.samples_per_s, rel=1e-9)
        if len(launches) > 1:
            assert _low(after) * c == pytest.approx(_low(before), rel=1e-6)
            assert _high(after) * c == pytest.approx(_high(before), rel=1e-6)

    @without_deadline
    @given(st.data())
    def test_order_is_irrelevant(self, data: st.DataObject) -> None:
        launches = data.draw(LAUNCHES)
        shuffled = [data.draw(st.permutations(rounds)) for rounds in launches]
        assert throughput(data.draw(st.permutations(shuffled))) == throughput(launches)


class TestIsUnsteady:
    STEADY = (1.0, 1.01, 0.99, 1.0, 0.995, 1.005)

    def test_a_drift_is_seen_in_either_direction(self) -> None:
        rising = [1 + 0.003 * i for i in range(20)]
        assert is_unsteady(rising)
        assert is_unsteady(rising[::-1])

    def test_fewer_than_twenty_rounds_tell_nothing(self) -> None:
        assert not is_unsteady([1 + 0.003 * i for i in range(19)])

    def test_a_drift_of_less_than_two_percent_is_none(self) -> None:
        assert not is_unsteady([1 + 0.0005 * i for i in range(30)])

    def test_noise_without_a_trend_is_none(self) -> None:
        assert not is_unsteady(self.STEADY * 5)

    def test_unequal_ends_without_a_trend_are_none(self) -> None:
        # The thirds' medians differ by 10%, but within each third the seconds fall: the
        # rank correlation is weak.
        falling = [1 - 0.01 * i for i in range(7)]
        seconds = [*falling, *[1.05 - 0.02 * i for i in range(7)], *[1.1 * s for s in falling]]
        assert scipy_stats.spearmanr(range(21), seconds).pvalue > 0.01
        assert not is_unsteady(seconds)

    def test_both_thirds_are_of_the_same_length(self) -> None:
        # 7 of 23 rounds: the first third holds four slow rounds, so its median is slow.
        seconds = [1.5 - 0.001 * i for i in range(4)] + [1.0 - 0.001 * i for i in range(19)]
        assert is_unsteady(seconds)

    @without_deadline
    @given(st.lists(SECONDS, min_size=20, max_size=40), st.sampled_from([0.25, 4.0, 1024.0]))
    def test_the_unit_of_time_is_irrelevant(self, seconds: list[float], c: float) -> None:
        assert is_unsteady([s * c for s in seconds]) == is_unsteady(seconds)

    @pytest.mark.parametrize("bad", NOT_POSITIVE)
    def test_bad_seconds(self, bad: float) -> None:
        with pytest.raises(ValueError, match=f"seconds: {bad} is not"):
            is_unsteady([1.0] * 20 + [bad])

    def test_no_rounds(self) -> None:
        with pytest.raises(ValueError, match="seconds: at least one"):
            is_unsteady([])


class TestTimeToAccuracy:
    def test_sums_training_seconds_up_to_the_first_hit(self) -> None:
        rounds = [(1.0, 0.7), (2.0, 0.86), (4.0, 0.9)]
        assert time_to_score(rounds, 0.85) == 3.0

    def test_rounds_without_an_evaluation_count_their_seconds(self) -> None:
        assert time_to_score([(1.0, None), (2.0, None), (4.0, 0.9)], 0.85) == 7.0

    def test_not_reached(self) -> None:
        assert time_to_score([(1.0, 0.7), (2.0, None)], 0.85) is None

    def test_nan_never_counts(self) -> None:
        assert time_to_score([(1.0, math.nan)], 0.85) is None
        assert time_to_score([(1.0, math.nan), (2.0, 0.9)], 0.85) == 3.0

    def test_exactly_at_the_target_despite_float32(self) -> None:
        accuracy = float(np.float32(10_800) / np.float32(12_000))
        assert accuracy < 0.9
        assert time_to_score([(1.0, accuracy)], 0.9) == 1.0
        assert reaches(accuracy, 0.9)
        assert not reaches(10_799 / 12_000, 0.9)

    @pytest.mark.parametrize(
        ("score", "target", "better", "reached"),
        [
            (1e-6, 1e-7, Better.MIN, False),
            (1.0000001e-7, 1e-7, Better.MIN, True),
            (9e-7, 1e-6, Better.MAX, False),
            (1e-9, 0.0, Better.MIN, False),
            (0.0, 0.0, Better.MIN, True),
            (-2.0000001, -2.0, Better.MAX, True),
            (1e6 + 0.5, 1e6, Better.MIN, True),
        ],
    )
    def test_the_rounding_is_a_share_of_the_target(
        self, score: float, target: float, better: Better, reached: bool
    ) -> None:
        assert reaches(score, target, better) == reached

    def test_falling_back_below_changes_nothing(self) -> None:
        assert time_to_score([(1.0, 0.9), (1.0, 0.2)], 0.85) == 1.0

    @pytest.mark.parametrize("target", [math.inf, -math.inf, math.nan])
    def test_bad_target(self, target: float) -> None:
        with pytest.raises(ValueError, match=r"target .*finite"):
            time_to_score([(1.0, 0.9)], target)

    @pytest.mark.parametrize("bad", NOT_POSITIVE)
    def test_bad_seconds_even_after_the_hit(self, bad: float) -> None:
        with pytest.raises(ValueError, match=f"seconds: {bad} is not"):
            time_to_score([(1.0, 0.9), (bad, 0.9)], 0.85)

    def test_no_rounds(self) -> None:
        with pytest.raises(ValueError, match="seconds: at least one"):
            time_to_score([], 0.85)


def _low(found: Throughput) -> float:
    assert found.low is not None
    return found.low


def _high(found: Throughput) -> float:
    assert found.high is not None
    return found.high
