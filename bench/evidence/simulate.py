"""Counts false alarms, power and coverage of the suite's own decisions in made-up worlds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtr

from bench.check import MARGIN, slow_downs
from bench.evidence.worlds import (
    CASES,
    LAUNCH_SD,
    Array,
    World,
    block_logs,
    heavy,
    launch_medians,
    run_logs,
)
from bench.regression import DEFAULT_GATE
from bench.sequential import DUEL_GATE, LAST_LOOK, SPEED_SHARE, SPENDING
from bench.stats import student_interval

STORED = (3, 6, 10)
AUTOCORRELATIONS, DRIFTS = (0.0, 0.5, 0.8), (0.0, 0.01, 0.02, 0.03)
SLOWER = (0.02, 0.05, 0.10, 0.20)
POWER_SHARE = 10
Row = dict[str, Any]


def worlds() -> Iterator[World]:
    """Every autocorrelation with every drift, shared by all cases or half their own."""
    for autocorrelation, drift in product(AUTOCORRELATIONS, DRIFTS):
        for shared in (1.0, 0.5) if drift else (1.0,):
            yield World(autocorrelation, drift, shared)


def upper_bound(hits: int, trials: int, confidence: float = 0.95) -> float:
    """The exact one-sided upper bound of a share (C. J. Clopper and E. S. Pearson, "The use
    of confidence or fiducial limits", Biometrika 26, 1934)."""
    return 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, confidence))


def check_rows(world: World, suites: int, seed: int) -> tuple[list[Row], list[Row]]:
    """False alarms and power of `check` in one world, a row a number of stored runs.

    Power is that of finding one slower case of 30, over every tenth suite.
    """
    rng = np.random.default_rng(seed)
    pool = launch_medians(rng, world)
    alarms = dict.fromkeys(STORED, 0)
    found = dict.fromkeys(product(STORED, SLOWER), 0)
    smallest: dict[int, list[float]] = {stored: [] for stored in STORED}
    for suite in range(suites):
        runs = run_logs(rng, world, pool, max(STORED) + 1).mean(1)
        for stored in STORED:
            test, slowed = slow_downs(runs[:stored], runs[-1:], DEFAULT_GATE)
            alarms[stored] += bool(slowed.any())
            smallest[stored].append(float(np.median(test.smallest)))
            if suite % POWER_SHARE == 0:
                for slower in SLOWER:
                    now = runs[-1:].copy()
                    now[0, 0] += math.log1p(slower)
                    _, slowed = slow_downs(runs[:stored], now, DEFAULT_GATE)
                    found[stored, slower] += bool(slowed[0])
    own = {"test": "check", "cases": CASES, **_fields(world)}
    trials = math.ceil(suites / POWER_SHARE)
    return [
        {**own, "stored_runs": stored, **_alarms(alarms[stored], suites)}
        | {"median_smallest": math.expm1(min(700.0, float(np.median(smallest[stored]))))}
        for stored in STORED
    ], [
        {**own, "stored_runs": stored, "slower": slower, "trials": trials}
        | {"power": found[stored, slower] / trials}
        for stored, slower in found
    ]


def called_worse(values: Array, cases: int) -> NDArray[np.bool_]:
    """Whether a duel calls each series of 24 blocks slower, at whichever look: what
    `sequential.look` decides, for many at once; a test holds the two together.

    Args:
        values: shape (..., 24), log ratios.
        cases: over which the error is divided.
    """
    margin, gate = math.log1p(MARGIN), math.log1p(DUEL_GATE)
    worse = np.zeros(values.shape[:-1], dtype=bool)
    stopped = worse.copy()
    for blocks, spent in SPENDING.items():
        level = spent * SPEED_SHARE / cases
        seen = values[..., :blocks]
        mean, error = seen.mean(-1), seen.std(-1, ddof=1) / math.sqrt(blocks)
        now = stdtr(blocks - 1, -(mean - margin) / error) <= level
        worse |= now & ~stopped
        stopped |= now | (stdtr(blocks - 1, (mean - gate) / error) <= level)
    return worse


def duel_rows(world: World, suites: int, seed: int) -> tuple[list[Row], list[Row]]:
    """False alarms and power of a duel in one world: of 30 cases, and of one."""
    rng = np.random.default_rng(seed)
    alarms, power = [], []
    for cases in (CASES, 1):
        own = {"test": "duel", "cases": cases, **_fields(world), "stored_runs": None}
        values = block_logs(rng, world, suites, cases, LAST_LOOK, LAUNCH_SD)
        worse = called_worse(values, cases)
        alarms.append(own | _alarms(int(worse.any(1).sum()), suites) | {"median_smallest": None})
        for slower in SLOWER:
            found = called_worse(values[:, 0] + math.log1p(slower), cases)
            power.append({**own, "slower": slower, "trials": suites, "power": float(found.mean())})
    return alarms, power


def coverage_rows(world: World, trials: int, seed: int) -> list[Row]:
    """How often nominal 95% intervals hold the truth: that of throughput over launches, for
    this run and for the machine in the long run, and that of a duel's log ratio."""
    rng = np.random.default_rng(seed)
    pool = launch_medians(rng, world)
    center = float(pool.mean())
    rows = []
    for launches in (3, 5, 10, 20):
        shape = (trials, launches)
        own = LAUNCH_SD * heavy(rng, shape) + pool[rng.integers(pool.size, size=shape)] - center
        drifted = own + world.drift * rng.standard_normal((trials, 1))
        rows.append(_coverage("throughput", "this run", launches, own, world))
        rows.append(_coverage("throughput", "machine", launches, drifted, world))
    for blocks in SPENDING:
        values = block_logs(rng, world, trials, 1, blocks, LAUNCH_SD)[:, 0]
        rows.append(_coverage("duel", "ratio", blocks, values, world))
    return rows


def _coverage(interval: str, truth: str, n: int, values: Array, world: World) -> Row:
    ends = [student_interval(row) or (math.nan, math.nan) for row in values.tolist()]
    hits = sum(low <= 0 <= high for low, high in ends)
    own = {"interval": interval, "truth": truth, "values": n, **_fields(world)}
    return {**own, "trials": len(ends), "coverage": hits / len(ends)}


def _alarms(hits: int, trials: int) -> Row:
    bound = upper_bound(hits, trials)
    return {"suites": trials, "alarms": hits, "rate": hits / trials, "rate_upper": bound}


def _fields(world: World) -> Row:
    return {
        "autocorrelation": world.autocorrelation,
        "drift": world.drift,
        "shared": world.shared,
    }


def simulate(suites: int, seed: int, chosen: Iterable[World]) -> dict[str, list[Row]]:
    """The three tables, each a list of rows: `false_alarms`, `power`, `coverage`."""
    tables: dict[str, list[Row]] = {"false_alarms": [], "power": [], "coverage": []}
    for number, world in enumerate(chosen):
        for rows in (check_rows, duel_rows):
            alarms, power = rows(world, suites, seed + number)
            tables["false_alarms"] += alarms
            tables["power"] += power
        tables["coverage"] += coverage_rows(world, suites, seed + number)
    return tables
