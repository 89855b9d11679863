"""Simulated years of daily runs of a suite, with known truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench.evidence.worlds import (
    LAUNCH_SD,
    NOISE_SPREAD,
    Array,
    World,
    autoregressive,
    heavy,
)


@dataclass(frozen=True, slots=True)
class Years:
    """One kind of year.

    Attributes:
        world: the machine; its autocorrelation is of the drift of successive runs.
        cases: number of cases.
        switches: share of the launches that run at half speed.
        launches: number of launches of each case in a run.
    """

    world: World
    cases: int = 30
    switches: float = 0.0
    launches: int = 3


def years(rng: np.random.Generator, kind: Years, pool: Array, suites: int, runs: int) -> Array:
    """Log seconds of unchanged runs, the median of their launches; shape (runs, cases, suites).

    Args:
        rng: the random generator.
        kind: the machine and the suite.
        pool: the result of `launch_medians`.
        suites: number of suites; each draws the noise of its cases anew.
        runs: number of runs.
    """
    world, shape = kind.world, (runs, kind.cases, suites)
    noise = LAUNCH_SD * np.exp(NOISE_SPREAD * rng.standard_normal((1, kind.cases, suites)))
    launches = []
    for _ in range(kind.launches):
        launch = noise * heavy(rng, shape) + rng.choice(pool, shape)
        if kind.switches:
            launch += math.log(2) * (rng.random(shape) < kind.switches)
        launches.append(launch)
    logs = np.asarray(np.median(launches, 0))
    if world.drift:
        common, own = (
            autoregressive(rng, (*size, runs), world.autocorrelation)
            for size in ((1, suites), (kind.cases, suites) if world.shared < 1 else (1, 1))
        )
        logs += world.drift * math.sqrt(world.shared) * np.moveaxis(common, -1, 0)
        logs += world.drift * math.sqrt(1 - world.shared) * np.moveaxis(own, -1, 0)
    return logs
