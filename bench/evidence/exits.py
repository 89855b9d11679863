"""Counts how `check` ends in simulated worlds: false alarms, power, and exit codes by gate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from bench.evidence.worlds import Array, Suite, World, launch_medians, run_logs
from bench.schema.sizes import CHECK_ACCURACY_MARGIN, MARGIN
from bench.verdicts.check import SCORE_LEVEL, SPEED_LEVEL
from bench.verdicts.check_data import SEED_SCATTER
from bench.verdicts.regression import Estimate, StoredTest, estimate, holm, one_sided, stored_test

STORED, CANDIDATES = (3, 6, 10), (1, 3)
# A family of 30 cases, and `--matrix quick`; the last with more launches.
SUITES = (Suite(30, 3), Suite(7, 3), Suite(7, 10))
SLOWER = (0.02, 0.05, 0.10, 0.20)
GATES = (0.05, 0.075, 0.10, 0.15, 0.20, 0.25, 0.30, 0.50)
# Standard deviations of the accuracy of single launches over seeds; with 0, the stored runs are
# equal in every image.
SCATTERS, DROPS = (0.0, 0.005, 0.007), (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.10)
Row = dict[str, Any]
Flags = NDArray[np.bool_]


def upper_bound(hits: int, trials: int) -> float:
    """The exact one-sided upper 95% bound of a share (C. J. Clopper and E. S. Pearson, "The use
    of confidence or fiducial limits", Biometrika 26, 1934)."""
    return 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, 0.95))


def world_fields(world: World) -> Row:
    """The columns that name a world."""
    return {
        "autocorrelation": world.autocorrelation,
        "drift": world.drift,
        "shared": world.shared,
    }


def alarm_fields(hits: int, trials: int) -> Row:
    """The columns of a rate of false alarms, with its 95% upper bound."""
    bound = upper_bound(hits, trials)
    return {"suites": trials, "alarms": hits, "rate": hits / trials, "rate_upper": bound}


@dataclass(frozen=True, slots=True)
class Ends:
    """How suites end, unchanged and with the first case worse by the gate; shape (suites,).

    Attributes:
        alarmed: whether a regression is confirmed in the unchanged suite.
        able: whether the gate would be found in every case.
        found: whether the first case is confirmed where it is worse by the gate.
        alarmed_worse: whether any case is confirmed then.
    """

    alarmed: Flags
    able: Flags
    found: Flags
    alarmed_worse: Flags

    def fields(self) -> Row:
        """Shares of exit codes, and the power at the gate where the exit is 0."""
        suites, able = self.able.size, int(self.able.sum())
        missed = int((self.able & ~self.alarmed_worse).sum())
        found = int(self.found[self.able].sum())
        return {
            "suites": suites,
            **_shares("", self.alarmed, self.able),
            **_shares("worse_", self.alarmed_worse, self.able),
            "worse_exit_0_upper": upper_bound(missed, suites),
            "able": able,
            "power": found / able if able else None,
            "power_upper": upper_bound(found, able) if able else None,
            "power_lower": 1 - upper_bound(able - found, able) if able else None,
        }


def _shares(name: str, alarmed: Flags, able: Flags) -> Row:
    return {
        f"{name}exit_0": float((able & ~alarmed).mean()),
        f"{name}exit_1": float(alarmed.mean()),
        f"{name}exit_3": float((~able & ~alarmed).mean()),
    }


def confirmed(found: Estimate, p: Array, margin: float, level: float, by: float) -> Flags:
    """Which cases are confirmed where the first case of each suite is worse by `by`.

    All runs of that case shift by the same amount, so their scatter does not change.

    Args:
        found: the estimates of many suites.
        p: the result of `one_sided` for the unchanged suites.
        margin: the allowed change, in the unit of the changes.
        level: family-wise error rate.
        by: the shift, in the same unit.
    """
    first = Estimate(*(values[:, :1] for values in (found.change + by, found.error, found.freedom)))
    return holm(np.concatenate([one_sided(first, margin), p[:, 1:]], 1), level)


def ends(
    found: Estimate, test: StoredTest, margin: float, level: float, gates: Iterable[float]
) -> Iterator[Ends]:
    """How the suites of `found` end, for each gate in order.

    Args:
        found: the estimates of many suites.
        test: the result of `stored_test` for the unchanged suites.
        margin: the allowed change, in the unit of the changes.
        level: family-wise error rate.
        gates: the gates, in the same unit.
    """
    for gate in gates:
        worse = confirmed(found, test.p, margin, level, gate)
        able = ~_any(test.smallest > gate)
        yield Ends(_any(test.rejected), able, worse[:, 0], _any(worse))


def _any(cases: Flags) -> Flags:
    """Whether any case of a suite is True, for each suite."""
    return np.asarray(cases.any(-1))


def speed_rows(world: World, suites: int, seed: int) -> dict[str, list[Row]]:
    """The results of `check` for speed in one world: rows of `false_alarms`, `power`, `exits`."""
    rng = np.random.default_rng(seed)
    pool = launch_medians(rng, world)
    rows: dict[str, list[Row]] = {"false_alarms": [], "power": [], "exits": []}
    margin, gates = math.log1p(MARGIN), [math.log1p(gate) for gate in GATES]
    for suite in SUITES:
        runs = run_logs(rng, world, pool, suites, max(STORED) + max(CANDIDATES), suite)
        for stored, own in product(STORED, CANDIDATES):
            found = estimate(runs[:, :stored], runs[:, max(STORED) : max(STORED) + own])
            test = stored_test(found, margin, SPEED_LEVEL)
            named = {"test": "check", "cases": suite.cases, "launches": suite.launches}
            named |= {**world_fields(world), "stored_runs": stored, "candidate_runs": own}
            middle = math.expm1(min(700.0, float(np.median(test.smallest))))
            rows["false_alarms"].append(
                named
                | alarm_fields(int(test.rejected.any(-1).sum()), suites)
                | {"median_smallest": middle}
            )
            for slower in SLOWER:
                worse = confirmed(found, test.p, margin, SPEED_LEVEL, math.log1p(slower))
                share = float(worse[:, 0].mean())
                rows["power"].append(named | {"slower": slower, "trials": suites, "power": share})
            for gate, end in zip(GATES, ends(found, test, margin, SPEED_LEVEL, gates), strict=True):
                rows["exits"].append(named | {"gate": gate} | end.fields())
    return rows


def accuracy_rows(suites: int, seed: int) -> list[Row]:
    """The results of `check` for accuracy alone, by its scatter over seeds."""
    rng = np.random.default_rng(seed)
    rows = []
    for scatter, launches, cases in product(SCATTERS, (1, 3), (30, 7)):
        spread = scatter / math.sqrt(launches)
        shape = (suites, max(STORED) + max(CANDIDATES), cases)
        runs: Array = spread * rng.standard_normal(shape)
        for stored, own in product(STORED, CANDIDATES):
            now = runs[:, max(STORED) : max(STORED) + own]
            found = estimate(runs[:, :stored], now, SEED_SCATTER / math.sqrt(launches))
            named = {
                "scatter": scatter,
                "cases": cases,
                "launches": launches,
                "stored_runs": stored,
                "candidate_runs": own,
            }
            test = stored_test(found, CHECK_ACCURACY_MARGIN, SCORE_LEVEL)
            every = ends(found, test, CHECK_ACCURACY_MARGIN, SCORE_LEVEL, DROPS)
            rows += [
                named | {"gate": gate} | end.fields()
                for gate, end in zip(DROPS, every, strict=True)
            ]
    return rows
