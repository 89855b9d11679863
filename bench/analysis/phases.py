"""Splits the time of a step into phases. Pure functions over seconds.

The parts of a step cannot be timed one by one: XLA runs an epoch as one call, and TensorFlow runs
the operations of a step on several threads at once. So the worker leaves parts out. It trains the
same rows with variants of the case's own loop, each of which does a little more than the one
before it:

    dispatch    the loop runs, with nothing to compute
    input       ... and makes every batch (in `fit` and `multistep` this comes last)
    forward     ... and computes the loss, and stores it
    backward    ... and computes the gradients, and stores them
    optimizer   ... and updates the weights
    metrics     ... and the running loss and metrics: the whole work of the loop

The time of a phase is the difference between its variant and the variant before. In `compiled`
the batch is made inside the step, so `input` comes right after `dispatch`. In `fit` and
`multistep` the input pipeline runs in parallel to the step. There the share of `input` is the
time that the step would save if every batch were ready: all variants but the last use one batch
again and again. `idle` is the time of the dispatch variant in which the process used no core.

The unchanged loop is timed as well: that is the measured step. `unexplained` is the measured step
less the sum of the phases, and may be negative.

All variants run once in each round, in random order, so that other load on the machine affects
all alike. The slowness of a round is the median, over its readings, of the reading's ratio to the
median of its variant. A reading is divided by the slowness of its round; the time of a variant is
the median of that over the rounds. So a slow minute shifts no phase, and all phases but
`unexplained` add up to the last variant exactly.

Limits of the method: XLA fuses across phases, and TensorFlow runs operations of several phases at
once. A difference is what a phase adds to the phases before it; another order would give other
shares. A variant stores results, above all the gradients, which the next variant need not store,
so a short phase may come out below zero. That the differences add up does not prove them right.
`python -m bench.evidence profile` adds work of a known cost and tests whether the split finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, quantiles

from bench.schema.profile import CHAINS, Phase, Variant

# A larger unexplained share of a step, of either sign, gives a warning.
MOST_UNEXPLAINED = 0.15
_FEWEST_FOR_QUARTILES = 4


_PHASES = {
    Variant.INPUT: Phase.INPUT,
    Variant.FORWARD: Phase.FORWARD,
    Variant.BACKWARD: Phase.BACKWARD,
    Variant.OPTIMIZER: Phase.OPTIMIZER,
    Variant.METRICS: Phase.METRICS,
}


@dataclass(frozen=True, slots=True)
class Share:
    """One phase of a measured step.

    Attributes:
        seconds: seconds of the phase in one step; may be negative.
        low, high: quartiles of the seconds over the rounds.
        share: seconds over those of the measured step.
    """

    phase: Phase
    seconds: float
    low: float
    high: float
    share: float


@dataclass(frozen=True, slots=True)
class Split:
    """A measured step and its phases.

    Attributes:
        step_s: seconds of a step of the unchanged loop.
        shares: every phase, in the order of `Phase`; with `unexplained`, they add up to the step
            exactly.
    """

    step_s: float
    shares: tuple[Share, ...]

    def seconds(self, phase: Phase) -> float:
        """Seconds of one phase."""
        return next(share.seconds for share in self.shares if share.phase is phase)

    @property
    def unexplained(self) -> float:
        """The share that no phase explains."""
        return self.seconds(Phase.UNEXPLAINED) / self.step_s


def split(
    loop: str,
    wall_s: Mapping[str, Sequence[float]],
    cpu_s: Mapping[str, Sequence[float]],
) -> Split:
    """The phases of a step.

    Args:
        loop: the loop of the case; it decides the order of the variants.
        wall_s: seconds of a step by variant, one value for each round, in order.
        cpu_s: CPU seconds of the whole process in a step, in the same form.

    Raises:
        ValueError: a variant is missing, or variants have different numbers of rounds.
    """
    chain = CHAINS[loop]
    needed = {variant: list(wall_s.get(variant, ())) for variant in (*chain, Variant.STEP)}
    if len({len(values) for values in needed.values()}) != 1 or not needed[Variant.STEP]:
        counts = ", ".join(f"{variant} {len(values)}" for variant, values in needed.items())
        raise ValueError(f"every variant needs as many rounds as any other: {counts}")
    slowness = _slowness(list(needed.values()))
    took = {
        variant: [value / slow for value, slow in zip(values, slowness, strict=True)]
        for variant, values in needed.items()
    }
    of_cpu = cpu_s[chain[0]]
    idle_s = [
        max(0.0, wall - cpu) / slow
        for wall, cpu, slow in zip(needed[chain[0]], of_cpu, slowness, strict=True)
    ]
    level = {variant: median(values) for variant, values in took.items()}
    step_s, waiting_s = level[Variant.STEP], median(idle_s)
    readings = {
        Phase.IDLE: (waiting_s, idle_s),
        Phase.PYTHON: (level[chain[0]] - waiting_s, _differences(took[chain[0]], idle_s)),
    }
    links = [(_PHASES[after], before, after) for before, after in pairwise(chain)]
    for phase, before, after in [*links, (Phase.UNEXPLAINED, chain[-1], Variant.STEP)]:
        own = _differences(took[after], took[before])
        readings[phase] = (level[after] - level[before], own)
    return Split(
        step_s,
        tuple(
            Share(phase, seconds, *_quartiles(own), seconds / step_s)
            for phase in Phase
            for seconds, own in [readings[phase]]
        ),
    )


def overhead(with_s: Sequence[float], without_s: Sequence[float]) -> float | None:
    """How much longer a step takes under a profiler, as a share; None without readings.

    The median over the rounds of the ratio within the round.
    """
    ratios = [a / b for a, b in zip(with_s, without_s, strict=False)]
    return median(ratios) - 1 if ratios else None


def _slowness(readings: Sequence[Sequence[float]]) -> list[float]:
    """The slowness of each round, 1 for a usual one.

    It is the median, over the variants, of a reading's ratio to the median of its variant.
    """
    usual = [median(values) for values in readings]
    return [
        median(r / u for r, u in zip(own, usual, strict=True))
        for own in zip(*readings, strict=True)
    ]


def _differences(minuends: Sequence[float], subtrahends: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(minuends, subtrahends, strict=True)]


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < _FEWEST_FOR_QUARTILES:
        return min(values), max(values)
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high
