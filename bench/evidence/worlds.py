"""Simulates machines with known truth: heavy tails, autocorrelated rounds, drifting runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.stats import launch_log

Array = NDArray[np.float64]
ROUNDS = 20
LAUNCH_SD, ROUND_SD = 0.02, 0.03
# Degrees of freedom of Student's t; with four, its fourth moment is infinite.
TAILS = 4.0
# Standard deviation of the log of a case's noise.
NOISE_SPREAD = 0.4
_POOL = 20_000


@dataclass(frozen=True, slots=True)
class World:
    """One simulated machine; standard deviations are of log seconds.

    Attributes:
        autocorrelation: of successive rounds in a launch, and of the host's level in successive
            launches.
        drift: standard deviation of a whole run from the machine's long-run level.
        shared: share of the drift's variance that is the same for all cases of a run.
    """

    autocorrelation: float
    drift: float
    shared: float = 1.0


@dataclass(frozen=True, slots=True)
class Suite:
    """The size of a run: number of cases, and of launches per case."""

    cases: int
    launches: int


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random numbers of mean 0 and standard deviation 1 with heavy tails."""
    return rng.standard_t(TAILS, shape) / math.sqrt(TAILS / (TAILS - 2))


def autoregressive(rng: np.random.Generator, shape: tuple[int, ...], coefficient: float) -> Array:
    """Stationary series of mean 0 and standard deviation 1 along the last axis."""
    draws = rng.standard_normal(shape)
    draws[..., 1:] *= math.sqrt(1 - coefficient**2)
    for i in range(1, shape[-1]):
        draws[..., i] += coefficient * draws[..., i - 1]
    return draws


def launch_medians(rng: np.random.Generator, world: World) -> Array:
    """A pool of the scatter that rounds add to a launch's log, shape (20000,).

    Each value is `stats.launch_log` of simulated autocorrelated rounds.
    """
    rounds = np.exp(ROUND_SD * autoregressive(rng, (_POOL, ROUNDS), world.autocorrelation))
    ones = [1] * ROUNDS
    return np.array([launch_log(ones, seconds) for seconds in rounds.tolist()])


def run_logs(
    rng: np.random.Generator, world: World, pool: Array, suites: int, runs: int, suite: Suite
) -> Array:
    """Log seconds of each unchanged run, shape (suites, runs, cases).

    Args:
        rng: the random generator.
        world: the machine.
        pool: the result of `launch_medians`.
        suites: number of suites; each draws the noise of its cases anew.
        runs: number of runs at different times.
        suite: numbers of cases and launches.
    """
    shape = (suites, runs, suite.launches, suite.cases)
    noise = LAUNCH_SD * np.exp(NOISE_SPREAD * rng.standard_normal((suites, 1, 1, suite.cases)))
    launches = noise * heavy(rng, shape) + pool[rng.integers(pool.size, size=shape)]
    common = math.sqrt(world.shared) * rng.standard_normal((suites, runs, 1))
    own = math.sqrt(1 - world.shared) * rng.standard_normal((suites, runs, suite.cases))
    return np.asarray(launches.mean(2) + world.drift * (common + own))


def block_logs(
    rng: np.random.Generator, world: World, suites: int, cases: int, blocks: int, sd: float
) -> Array:
    """Log ratios B/A of duels between equals, shape (suites, cases, blocks).

    The two launches of a block follow one another on a host whose level varies with a standard
    deviation of `world.drift`. The side that is first is drawn at random.
    """
    host = world.drift * autoregressive(rng, (suites, cases, 2 * blocks), world.autocorrelation)
    launches = host + sd * heavy(rng, host.shape)
    order = rng.choice((-1.0, 1.0), size=(suites, cases, blocks))
    return np.asarray(order * (launches[..., 1::2] - launches[..., ::2]))
