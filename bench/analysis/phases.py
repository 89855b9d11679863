"""How a step's time falls apart into phases. Pure functions over seconds.

Every loop's step is one program to the clock: XLA makes one call of an epoch, and TensorFlow
runs the operations of a step on several threads at once. So its parts are not watched but left
out. The worker trains the same rows with variants of the case's own loop, each of which does a
little more than the one before it:

    dispatch    the loop turns, with nothing to compute
    input       ... and makes every batch (in `fit` and `multistep` this comes last)
    forward     ... and computes the loss, which is kept
    backward    ... and the gradients, which are kept
    optimizer   ... and updates the weights
    metrics     ... and the running loss and metrics: all that the loop does

A phase is the difference between its variant and the one before. In `compiled` nothing runs beside
the step, and the batch is what the first variant adds. In `fit` and `multistep` the
input pipeline runs beside the step, so its share is what the step would be spared if every batch
were there already: all variants but the last take the same batch again and again. Of the
dispatch variant, the seconds in which the process held no core at all are `idle`.

Beside the variants the loop trains as it is: that is the measured step. What the phases do not
add up to is `unexplained`, and may be negative.

All variants take turns, once each round, in random order, so that what others take of the machine
hits all alike. How slow a round was is the median over its readings of each one's ratio to the
median of its variant; a reading over that, at its median over the rounds, is what the variant
takes. So no slow minute shifts a phase, and all phases but `unexplained` add up to the last variant
exactly.

What this cannot tell: XLA fuses across phases, and TensorFlow runs operations of one phase beside
those of another. A difference is what a phase adds to those before it, and another order would give
other shares. What a variant stores, the gradients above all, costs it time that the next one need
not take, so that a short phase may come out below nothing. That the differences add up is no proof
that they are right: `python -m bench.evidence profile` puts in what costs a known time, and sees
whether it is found again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, quantiles

from bench.schema.profile import CHAINS, Phase, Variant

# Shares of a step that are not explained, beyond which the result carries a warning.
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
        seconds: of a step; may be negative.
        low, high: quartiles of the seconds over the rounds.
        share: of the measured step.
    """

    phase: Phase
    seconds: float
    low: float
    high: float
    share: float


@dataclass(frozen=True, slots=True)
class Split:
    """A measured step and what it consists of.

    Attributes:
        step_s: seconds of a step of the loop as it is.
        shares: every phase, in the order of `Phase`; they add up to the step exactly, for
            `unexplained` is one of them.
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
        loop: whose chain of variants was read.
        wall_s: seconds of a step by variant, a value a round, rounds in order.
        cpu_s: likewise, the CPU time of the whole process.

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
    """How slow each round was, 1 being usual: the median over variants of a reading's ratio to the
    median of its variant."""
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
