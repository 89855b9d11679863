"""The stored-baseline test against published formulas, SciPy and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special
from scipy import stats as scipy_stats

from bench.verdicts.regression import (
    StoredTest,
    beyond,
    estimate,
    fit_prior,
    holm,
    independent_cases,
    inverse_trigamma,
    moderated,
    stored_test,
)

without_deadline = settings(deadline=None)


def outcome(
    baseline: NDArray[np.float64],
    candidate: NDArray[np.float64],
    margin: float,
    level: float,
    floor: float = 0.0,
) -> StoredTest:
    return stored_test(estimate(baseline, candidate, floor), margin, level)


def noise(seed: int, runs: int, cases: int, sd: float = 0.02) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(-9, sd, (runs, cases))


class TestStoredTest:
    def test_one_case_is_scipys_pooled_t_test(self) -> None:
        baseline, candidate = noise(1, 5, 1), noise(2, 4, 1)
        found = outcome(baseline, candidate, 0.0, 0.01)
        expected = scipy_stats.ttest_ind(candidate[:, 0], baseline[:, 0], alternative="greater")
        assert found.p[0] == pytest.approx(expected.pvalue, rel=1e-9)
        assert estimate(baseline, candidate).freedom[0] == expected.df == 7

    def test_one_new_run_by_hand(self) -> None:
        # mean 1, s = 1, so t = (5 - 1 - 0.5) / sqrt(1 + 1/3) with two degrees of freedom.
        found = outcome(np.array([[0.0], [1.0], [2.0]]), np.array([[5.0]]), 0.5, 0.01)
        t = 3.5 / math.sqrt(4 / 3)
        assert found.p[0] == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), rel=1e-9)
        # The 99% quantile of t with two degrees of freedom, from any table.
        assert found.threshold[0] == pytest.approx(0.5 + 6.96456 * math.sqrt(4 / 3), rel=1e-5)

    @without_deadline
    @given(st.integers(0, 10**6), st.integers(3, 10), st.integers(2, 12))
    def test_the_threshold_is_where_the_verdict_turns(
        self, seed: int, runs: int, cases: int
    ) -> None:
        baseline = noise(seed, runs, cases)
        mean = baseline.mean(0)
        found = outcome(baseline, mean[None], 0.01, 0.01)
        for nudge, expected in ((1e-6, True), (-1e-6, False)):
            worse = mean.copy()
            worse[0] += found.threshold[0] + nudge
            again = outcome(baseline, worse[None], 0.01, 0.01)
            assert again.rejected.tolist() == [expected] + [False] * (cases - 1)

    @without_deadline
    @given(st.integers(0, 10**6), st.permutations(range(6)))
    def test_the_order_of_cases_is_irrelevant(self, seed: int, order: list[int]) -> None:
        baseline, candidate = noise(seed, 4, 6), noise(seed + 1, 1, 6)
        straight = outcome(baseline, candidate, 0.01, 0.01)
        turned = outcome(baseline[:, order], candidate[:, order], 0.01, 0.01)
        assert turned.p == pytest.approx(straight.p[list(order)], rel=1e-6)

    def test_a_case_that_some_runs_lack_is_judged_by_the_others(self) -> None:
        baseline, candidate = noise(3, 6, 4), noise(4, 1, 4)
        baseline[:3, 1] = np.nan
        found = outcome(baseline, candidate, 0.01, 0.01)
        assert np.isfinite(found.p).all()
        assert estimate(baseline, candidate).error[1] > 0

    def test_runs_that_never_differ_make_any_excess_certain(self) -> None:
        same = np.full((3, 2), 0.5)
        found = outcome(same, np.array([[0.55, 0.5]]), 0.02, 0.01)
        assert found.p.tolist() == [0.0, 1.0]
        assert found.smallest.tolist() == found.threshold.tolist() == [0.02, 0.02]

    def test_a_floor_stands_in_for_scatter_that_was_not_seen(self) -> None:
        same = np.full((3, 1), 0.5)
        found = outcome(same, np.array([[0.52]]), 0.0, 0.01, floor=0.01)
        assert found.p[0] == pytest.approx(special.ndtr(-2 / math.sqrt(4 / 3)))

    @pytest.mark.parametrize("shape", [(2, 3), (3, 0)])
    def test_too_little_is_refused(self, shape: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="three baseline runs"):
            estimate(np.zeros(shape), np.zeros((1, shape[1])))

    @pytest.mark.parametrize("runs", [3, 6])
    def test_many_suites_at_once_are_as_one_by_one(self, runs: int) -> None:
        baseline = noise(1, 20 * runs, 5).reshape(20, runs, 5)
        candidate = noise(2, 40, 5).reshape(20, 2, 5)
        baseline[:, 0, 1] = np.nan if runs > 3 else 0.0
        baseline[3, :, 2] = -9.0
        together = outcome(baseline, candidate, 0.01, 0.1)
        for i in range(20):
            alone = outcome(baseline[i], candidate[i], 0.01, 0.1)
            assert together.p[i] == pytest.approx(alone.p)
            assert together.smallest[i] == pytest.approx(alone.smallest)
            assert together.rejected[i].tolist() == alone.rejected.tolist()


class TestPower:
    def test_it_is_the_normal_quantile_where_the_error_is_known(self) -> None:
        assert beyond(np.array([np.inf]))[0] == pytest.approx(scipy_stats.norm.ppf(0.9))

    def test_it_grows_by_the_upper_limit_of_the_error(self) -> None:
        limit = math.sqrt(5 / scipy_stats.chi2.ppf(0.02, 5))
        assert beyond(np.array([5.0]))[0] == pytest.approx(scipy_stats.norm.ppf(0.9) * limit)

    @pytest.mark.parametrize("error", [0.3, 1.0, 3.0])
    def test_a_pass_is_kept_where_the_error_came_out_small(self, error: float) -> None:
        """Of baselines that pass, nine in ten find the gate; in all, one in ten lets it pass."""
        chance = np.random.default_rng(4)
        known = error * np.sqrt(chance.chisquare(5, 200_000) / 5)
        needed, gate = 5.0, 10.0
        able = (needed + beyond(np.array([5.0]))[0]) * known <= gate
        found = gate + error * chance.standard_normal(known.size) > needed * known
        assert found[able].mean() >= 0.9
        assert (able & ~found).mean() <= 0.1
        in_all = scipy_stats.nct.sf(needed, 5, gate / error)
        assert found.mean() == pytest.approx(in_all, abs=0.005)


class TestModeration:
    @without_deadline
    @given(st.floats(1e-8, 1e8))
    def test_inverse_trigamma(self, value: float) -> None:
        assert special.polygamma(1, inverse_trigamma(np.array(value))) == pytest.approx(
            value, rel=1e-6
        )

    def test_the_prior_comes_back_from_its_own_draws(self) -> None:
        # s^2 ~ s0^2 F(d, d0), Smyth 2004, section 5.
        variances = 0.04 * scipy_stats.f.rvs(4, 10, size=40_000, random_state=5)
        prior = fit_prior(variances, np.full(40_000, 4.0))
        assert prior.freedom == pytest.approx(10, rel=0.05)
        assert prior.variance == pytest.approx(0.04, rel=0.02)

    def test_equal_variances_are_pooled(self) -> None:
        variances, freedom = moderated(np.full(10, 2.0), np.full(10, 3.0))
        assert variances.tolist() == [2.0] * 10
        assert np.isinf(freedom).all()

    def test_variances_are_drawn_together_and_keep_their_order(self) -> None:
        raw = np.array([0.001, 0.1, 1.0, 5.0, 300.0])
        drawn, freedom = moderated(raw, np.full(5, 2.0))
        assert (np.diff(drawn) > 0).all()
        assert drawn.max() / drawn.min() < raw.max() / raw.min()
        assert (freedom > 2).all()

    def test_a_single_case_keeps_its_own(self) -> None:
        assert moderated(np.array([3.0]), np.array([2.0])) == (np.array([3.0]), np.array([2.0]))


class TestIndependentCases:
    @pytest.mark.parametrize("runs", [3, 6, 10])
    def test_a_shared_drift_is_one_case(self, runs: int) -> None:
        drift = np.random.default_rng(runs).normal(size=(runs, 1))
        residuals = (drift - drift.mean()) * np.linspace(1, 3, 30)
        assert independent_cases(residuals, np.array(runs - 1)) == pytest.approx(1.0)

    @pytest.mark.parametrize("runs", [6, 10])
    def test_cases_of_their_own_count_nearly_all(self, runs: int) -> None:
        found = []
        for seed in range(50):
            values = noise(seed, runs, 30)
            found.append(independent_cases(values - values.mean(0), np.array(runs - 1)))
        assert 20 < np.mean(found) <= 30

    def test_shared_drift_widens_the_test(self) -> None:
        own = noise(7, 6, 30)
        drifting = own + np.random.default_rng(8).normal(0, 0.06, (6, 1))
        freedoms = [estimate(b, b.mean(0)[None]).freedom[0] for b in (own, drifting)]
        assert freedoms[1] < 0.8 * freedoms[0]


class TestHolm:
    def test_published_steps(self) -> None:
        # 0.01 <= 0.05/4, 0.013 <= 0.05/3, 0.03 > 0.05/2: the rest stand.
        assert holm(np.array([0.03, 0.01, 0.04, 0.013]), 0.05).tolist() == [
            False,
            True,
            False,
            True,
        ]

    @without_deadline
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.5))
    def test_between_bonferroni_and_none(self, values: list[float], level: float) -> None:
        p = np.array(values)
        rejected = holm(p, level)
        assert rejected[p <= level / p.size].all()
        assert not rejected[p > level].any()
