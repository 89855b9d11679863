"""Counts false alarms, power, exit codes and coverage of the suite's own decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from bench.analysis.stats import student_interval
from bench.evidence.exits import (
    SLOWER,
    SUITES,
    Row,
    accuracy_rows,
    alarm_fields,
    speed_rows,
    upper_bound,
    world_fields,
)
from bench.evidence.worlds import LAUNCH_SD, Array, World, block_logs, heavy, launch_medians
from bench.schema.errors import ExitCode
from bench.schema.sizes import DUEL_GATE, MARGIN
from bench.verdicts.sequential import LAST_LOOK, LOOKS, PASSING, SPEED_SHARE, Looks

AUTOCORRELATIONS, DRIFTS = (0.0, 0.5, 0.8), (0.0, 0.01, 0.02, 0.03)
DUEL_GATES = (DUEL_GATE, 0.10)


def worlds() -> Iterator[World]:
    """Every autocorrelation with every drift; the drift is shared by all cases, or half of it."""
    for autocorrelation, drift in product(AUTOCORRELATIONS, DRIFTS):
        for shared in (1.0, 0.5) if drift else (1.0,):
            yield World(autocorrelation, drift, shared)


def decided(values: Array, cases: int, gate: float = DUEL_GATE) -> NDArray[np.int8]:
    """The exit code of a duel for each series of 24 blocks; shape (...), as of `ended`."""
    return ended(values, cases, gate)[0]


def ended(
    values: Array, cases: int = 1, gate: float = DUEL_GATE, looks: Looks = LOOKS
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """The exit code of a duel for each series of blocks, and the blocks that it took; shape (...).

    It decides as `sequential.look` does, for many duels at once; a test compares the two.

    Args:
        values: log ratios, shape (..., blocks of the last look).
        cases: number of cases among which the error is divided.
        gate: the slow-down that must be ruled out, as a share.
        looks: when is looked, and what may be spent.
    """
    margin, limit, share = math.log1p(MARGIN), math.log1p(gate), SPEED_SHARE / cases
    codes = np.full(values.shape[:-1], ExitCode.INCONCLUSIVE, dtype=np.int8)
    taken = np.full(codes.shape, looks.last)
    for blocks, level in looks.passing.items():
        spent = looks.spending.get(blocks, 0.0)
        seen = values[..., :blocks]
        mean, error = seen.mean(-1), seen.std(-1, ddof=1) / math.sqrt(blocks)
        p = stdtr(blocks - 1, -(mean - margin) / error)
        worse = (p <= spent * share) & (spent > 0)
        passed = stdtr(blocks - 1, (mean - limit) / error) <= level
        if blocks < looks.last:
            passed &= p > looks.doubt
        still = codes == ExitCode.INCONCLUSIVE
        codes[still & passed] = ExitCode.PASSED
        codes[still & worse] = ExitCode.REGRESSION
        taken[still & (worse | passed)] = blocks
    return codes, taken


def duel_rows(world: World, suites: int, seed: int) -> dict[str, list[Row]]:
    """False alarms, power and exit codes of duels of 30 cases and of one, in one world."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Row]] = {"false_alarms": [], "power": [], "exits": []}
    for cases in (SUITES[0].cases, 1):
        own = {
            "test": "duel",
            "cases": cases,
            "launches": None,
            **world_fields(world),
            "stored_runs": None,
            "candidate_runs": None,
        }
        values = block_logs(rng, world, suites, cases, LAST_LOOK, LAUNCH_SD)
        codes = decided(values, cases)
        alarms = int((codes == ExitCode.REGRESSION).any(1).sum())
        rows["false_alarms"].append(own | alarm_fields(alarms, suites) | {"median_smallest": None})
        for slower in SLOWER:
            found = decided(values[:, 0] + math.log1p(slower), cases) == ExitCode.REGRESSION
            power = float(found.mean())
            rows["power"].append(own | {"slower": slower, "trials": suites, "power": power})
        for gate in DUEL_GATES:
            codes = decided(values, cases, gate)
            worse = codes.copy()
            worse[:, 0] = decided(values[:, 0] + math.log1p(gate), cases, gate)
            missed = int((_ended(worse) == ExitCode.PASSED).sum())
            rows["exits"].append(
                own
                | {"gate": gate, "suites": suites}
                | _shares("", codes)
                | _shares("worse_", worse)
                | {"worse_exit_0_upper": upper_bound(missed, suites)}
                | dict.fromkeys(("able", "power", "power_upper", "power_lower"))
            )
    return rows


def _ended(codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """The exit code of each family, from those of its cases."""
    family = np.where((codes == ExitCode.PASSED).all(1), ExitCode.PASSED, ExitCode.INCONCLUSIVE)
    worse = (codes == ExitCode.REGRESSION).any(1)
    return np.where(worse, ExitCode.REGRESSION, family).astype(np.int8)


def _shares(name: str, codes: NDArray[np.int8]) -> Row:
    ended = _ended(codes)
    return {f"{name}exit_{code}": float((ended == code).mean()) for code in (0, 1, 3)}


def coverage_rows(world: World, trials: int, seed: int) -> list[Row]:
    """How often nominal 95% intervals contain the true value; one row per interval.

    These are the interval of throughput over launches, for this run's rate and for the machine's
    long-run rate, and the interval of a duel's log ratio.
    """
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
    for blocks in PASSING:
        values = block_logs(rng, world, trials, 1, blocks, LAUNCH_SD)[:, 0]
        rows.append(_coverage("duel", "ratio", blocks, values, world))
    return rows


def _coverage(interval: str, truth: str, n: int, values: Array, world: World) -> Row:
    ends = [student_interval(row) or (math.nan, math.nan) for row in values.tolist()]
    hits = sum(low <= 0 <= high for low, high in ends)
    own = {"interval": interval, "truth": truth, "values": n, **world_fields(world)}
    return {**own, "trials": len(ends), "coverage": hits / len(ends)}


def simulate(suites: int, seed: int, chosen: Iterable[World]) -> dict[str, list[Row]]:
    """The rows of the tables `false_alarms`, `power`, `exits`, `accuracy_exits` and `coverage`."""
    tables: dict[str, list[Row]] = {"false_alarms": [], "power": [], "exits": []}
    coverage: list[Row] = []
    for number, world in enumerate(chosen):
        for rows in (speed_rows, duel_rows):
            for name, own in rows(world, suites, seed + number).items():
                tables[name] += own
        coverage += coverage_rows(world, suites, seed + number)
    return {**tables, "accuracy_exits": accuracy_rows(suites, seed), "coverage": coverage}
