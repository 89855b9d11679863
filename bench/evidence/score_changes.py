"""Counts false changes of scores in years without one, and how soon a loss is found."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench.analysis.changepoints import Alike, Watch
from bench.evidence.change_counts import AFTER, Found, Row, false_row, parts, step_fields, told_of
from bench.evidence.worlds import Array, World
from bench.evidence.years import Years
from bench.schema.sizes import CHECK_ACCURACY_MARGIN
from bench.verdicts.check_data import SEED_SCATTER
from bench.verdicts.history import LEAST_SCATTER, LUCK, SCORE_LEVEL, YEAR

# Lost accuracy.
LOSSES = (0.05, 0.07, 0.10)
# What a run in which a launch diverged has lost, as `bench.verdicts.history_tables` has it.
_DIVERGED = 1.0
# Two loops train one model from the same seeds, and nearly alike: so much of their scatter is one.
_IN_PAIRS = 0.9


@dataclass(frozen=True, slots=True)
class Scores:
    """One kind of scores.

    Attributes:
        scatter: standard deviation over the seeds of launches.
        kind: the number of cases and of launches, and the share of launches that diverge.
    """

    scatter: float
    kind: Years

    @property
    def of(self) -> str:
        """What a row says of them."""
        return f"a score, scatter {self.scatter:g}"


_STEADY = World(0.0, 0.0)
SCORES = (
    Scores(0.0, Years(_STEADY)),
    Scores(SEED_SCATTER, Years(_STEADY)),
    Scores(SEED_SCATTER, Years(_STEADY, cases=6)),
    Scores(SEED_SCATTER, Years(_STEADY, switches=0.02)),
    Scores(SEED_SCATTER, Years(_STEADY, switches=0.02, launches=1)),
)


def score_row(scores: Scores, suites: int, seed: int) -> Row:
    """Years without a change of a score in which one was told."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(2, int)
    for several in parts(suites):
        counts += told_of(_watched(scores, _losses(rng, scores, YEAR, several)))
    return false_row(scores.kind, scores.of, suites, counts.tolist())


def loss_row(scores: Scores, loss: float, before: int, suites: int, seed: int) -> Row:
    """How soon a loss of the score of one case is found, and how well its size and place are told.

    Args:
        scores: the kind of scores.
        loss: what is lost, as a share.
        before: number of runs before it.
        suites: number of suites.
        seed: of the random generator.
    """
    rng = np.random.default_rng(seed)
    found = Found(loss, before)
    for several in parts(suites):
        values = _losses(rng, scores, before + AFTER, several)
        values[before:, 0] += loss
        found.look(_watched(scores, values))
    return step_fields(scores.kind, scores.of, loss, suites, found)


def _losses(rng: np.random.Generator, scores: Scores, runs: int, suites: int) -> Array:
    """What runs lost of their score, the mean of their launches; shape (runs, cases, suites)."""
    kind = scores.kind
    shape = (runs, kind.cases // 2, 2, suites, kind.launches)
    pairs = rng.standard_normal((*shape[:2], 1, *shape[3:]))
    own = rng.standard_normal(shape)
    drawn = scores.scatter * (math.sqrt(_IN_PAIRS) * pairs + math.sqrt(1 - _IN_PAIRS) * own)
    diverged = (rng.random(shape) < kind.switches).any(-1)
    return np.where(diverged, _DIVERGED, drawn.mean(-1)).reshape(runs, kind.cases, suites)


def _watched(scores: Scores, values: Array) -> Watch:
    kind = scores.kind
    margin = CHECK_ACCURACY_MARGIN + LUCK * SEED_SCATTER / math.sqrt(kind.launches)
    watch = Watch(
        values.shape[1:],
        len(values),
        SCORE_LEVEL / (YEAR * kind.cases),
        alike=Alike.NOISE,
        margin=np.full(kind.cases, margin),
        least=LEAST_SCATTER,
    )
    watch.see_all(values)
    return watch
