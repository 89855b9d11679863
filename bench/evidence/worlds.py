"""Made-up machines whose truth is known: heavy tails, autocorrelated rounds, drifting runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.stats import launch_log

Array = NDArray[np.float64]
ROUNDS = 20
LAUNCH_SD, ROUND_SD = 0.02, 0.03
# Student's t with four degrees of freedom, whose fourth moment is infinite already.
TAILS = 4.0
# Cases differ in noise: their standard deviations scatter by so much, in logs.
NOISE_SPREAD = 0.4
_POOL = 20_000


@dataclass(frozen=True, slots=True)
class World:
    """One made-up machine; standard deviations are of log seconds.

    Attributes:
        autocorrelation: of successive rounds in a launch, and of the host from one launch
            to the next.
        drift: standard deviation of a whole run about the machine's long-run level.
        shared: share of the drift's variance that hits all cases of a run alike.
    """

    autocorrelation: float
    drift: float
    shared: float = 1.0


@dataclass(frozen=True, slots=True)
class Suite:
    """What a run measures: so many cases, each in so many launches."""

    cases: int
    launches: int


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draws of mean 0 and standard deviation 1 with heavy tails."""
    return rng.standard_t(TAILS, shape) / math.sqrt(TAILS / (TAILS - 2))


def autoregressive(rng: np.random.Generator, shape: tuple[int, ...], coefficient: float) -> Array:
    """Stationary series of mean 0 and standard deviation 1 along the last axis."""
    draws = rng.standard_normal(shape)
    draws[..., 1:] *= math.sqrt(1 - coefficient**2)
    for i in range(1, shape[-1]):
        draws[..., i] += coefficient * draws[..., i - 1]
    return draws


def launch_medians(rng: np.random.Generator, world: World) -> Array:
    """What the rounds of a launch add to its log: a pool to draw from, made by
    `stats.launch_log` of autocorrelated rounds."""
    rounds = np.exp(ROUND_SD * autoregressive(rng, (_POOL, ROUNDS), world.autocorrelation))
    ones = [1] * ROUNDS
    return np.array([launch_log(ones, seconds) for seconds in rounds.tolist()])


def run_logs(
    rng: np.random.Generator, world: World, pool: Array, suites: int, runs: int, suite: Suite
) -> Array:
    """Log seconds of each run, shape (suites, runs, cases), where nothing changed.

    Args:
        rng: where chance comes from.
        world: the machine.
        pool: of `launch_medians`.
        suites: how many, each with the noise of its own cases.
        runs: at different times.
        suite: its cases and launches.
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

    The two launches of a block follow one another on a host whose level wanders with
    standard deviation `world.drift`; which side is first is tossed.
    """
    host = world.drift * autoregressive(rng, (suites, cases, 2 * blocks), world.autocorrelation)
    launches = host + sd * heavy(rng, host.shape)
    order = rng.choice((-1.0, 1.0), size=(suites, cases, blocks))
    return np.asarray(order * (launches[..., 1::2] - launches[..., ::2]))
