"""Tests duels of equals: uniform p-values, an equal control, and the variance of templates.

Pure functions over the blocks of `bench.evidence.equals`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median, variance
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.stats import student_interval
from bench.evidence.equals import BLOCKS, CASES, EqualDuel, Pairs
from bench.schema.draws import SIDES, SeededDraws
from bench.verdicts.sequential import block_log, paired_p

Row = dict[str, Any]
# Seeds of the orders of earlier revisions, which are applied to the measured readings.
FIXED_SEEDS = (42, 1, 2)
PERMUTATIONS, SEED_OF_SHUFFLES = 10_000, 2026


def one_duel(duel: EqualDuel) -> Row:
    """The row of one duel: p of its blocks, t of its control, its templates and orders."""
    speeds, controls = [b.speed for b in duel.blocks], [b.control for b in duel.blocks]
    between, _ = components([duel])
    return {
        "duel": duel.name,
        "loop": duel.loop,
        "time_utc": duel.time_utc,
        "blocks": len(speeds),
        "ratio": math.exp(fmean(speeds)),
        "p": paired_p(speeds, 0.0),
        "control_ratio": math.exp(fmean(controls)),
        "control_t": t_of(controls),
        "variance_between_templates": between,
        "templates_a": " ".join(str(b.templates[0]) for b in duel.blocks),
        "templates_b": " ".join(str(b.templates[1]) for b in duel.blocks),
        "orders": " ".join(b.order for b in duel.blocks),
    }


def summary_rows(duels: Sequence[EqualDuel]) -> Iterator[Row]:
    """One row per loop, and one for all: uniformity of p, equality of the control, templates."""
    from scipy.stats import kstest, t

    for loop in (*CASES, "all"):
        own = [duel for duel in duels if loop in (duel.loop, "all")]
        if len(own) < 2:
            continue
        rows = [one_duel(duel) for duel in own]
        ps = [row["p"] for row in rows]
        test = kstest(ps, "uniform")
        controls = [math.log(row["control_ratio"]) for row in rows]
        low, high = student_interval(controls) or (math.nan, math.nan)
        between, within = components(own)
        yield {
            "loop": loop,
            "duels": len(own),
            "ks_distance": float(test.statistic),
            "ks_p": float(test.pvalue),
            "share_p_below_0.05": fmean(p <= 0.05 for p in ps),
            "share_p_above_0.95": fmean(p >= 0.95 for p in ps),
            "control_ratio": math.exp(fmean(controls)),
            "control_low": math.exp(low),
            "control_high": math.exp(high),
            "share_control_t_beyond_2": fmean(abs(row["control_t"]) > 2 for row in rows),
            "share_expected": float(2 * t.sf(2, BLOCKS - 1)),
            "variance_between_templates": between,
            "variance_within": within,
            "templates_p": templates_p(own),
            "control_variance_between_templates": components(own, "control")[0],
            "control_templates_p": templates_p(own, "control"),
        }


def t_of(values: Sequence[float]) -> float:
    """Student's t of a mean against 0; without scatter, infinite, or 0 where the mean is 0."""
    error = math.sqrt(variance(values) / len(values))
    mean = fmean(values)
    return mean / error if error else math.copysign(math.inf, mean) if mean else 0.0


def components(duels: Sequence[EqualDuel], of: str = "speed") -> tuple[float, float]:
    """(variance between templates of a side, variance of a block within them) of a log ratio.

    `of` is `speed` or `control`. Two blocks of one duel with a common template share its effect.
    So the matrix of products of a duel's centred values has the expectation between H S H +
    within H. S counts the templates that two blocks share, and H subtracts the mean. Both variances
    are fitted to all duels together by least squares (C. R. Rao's MINQUE of 1971 with equal
    weights). The variance between templates can be negative where there is none. Both are NaN
    where the duels cannot determine them.
    """
    normal, right = np.zeros((2, 2)), np.zeros(2)
    for duel in duels:
        centring = np.eye(len(duel.blocks)) - 1 / len(duel.blocks)
        values = _centred(duel, of)
        parts = (centring @ _shared(duel) @ centring, centring)
        normal += [[(one * other).sum() for other in parts] for one in parts]
        right += [float(values @ part @ values) for part in parts]
    if np.linalg.matrix_rank(normal) < len(right):
        return math.nan, math.nan
    between, within = np.linalg.solve(normal, right)
    return float(between), float(within)


def templates_p(duels: Sequence[EqualDuel], of: str = "speed") -> float:
    """The p-value of no variance between templates, by permutation.

    It is the share of shuffles, of the values among the blocks of each duel, in which blocks with
    common templates are at least as similar.
    """
    rng = np.random.default_rng(SEED_OF_SHUFFLES)
    seen, shuffled = 0.0, np.zeros(PERMUTATIONS)
    for duel in duels:
        values, shared = _centred(duel, of), _shared(duel)
        np.fill_diagonal(shared, 0.0)
        seen += float(values @ shared @ values)
        each = rng.permuted(np.tile(values, (PERMUTATIONS, 1)), axis=1)
        shuffled += ((each @ shared) * each).sum(1)
    return float(1 + (shuffled >= seen).sum()) / (1 + PERMUTATIONS)


def place_rows(duels: Sequence[EqualDuel]) -> Iterator[Row]:
    """The effect of the place in a pair of turns on the control and on the rounds, a row each.

    A reading is taken before its turn, so it can depend only on earlier turns. The second reading
    of a pair follows two turns of one side half of the time; the first never does. The third row
    is the effect of that.
    """
    for loop in CASES:
        own = [duel for duel in duels if duel.loop == loop]
        if len(own) < 2:
            continue
        for what in ("readings", "rounds"):
            logs = [
                fmean(_log(pair) for b in duel.blocks for pair in getattr(b, what)) for duel in own
            ]
            yield {"loop": loop, "of": what, "effect": "first over second", **_interval(logs)}
        repeated = [_repeated(duel) for duel in own]
        yield {
            "loop": loop,
            "of": "readings",
            "effect": "after two turns of one side over one",
            **_interval(repeated),
        }


def fixed_rows(duels: Sequence[EqualDuel]) -> Iterator[Row]:
    """The control with the orders that earlier revisions drew from a seed.

    The readings are as measured; the sides are assigned by that order.
    """
    for seed in FIXED_SEEDS:
        for loop in CASES:
            own = [duel for duel in duels if duel.loop == loop]
            if len(own) < 2:
                continue
            logs = [[_fixed(b.readings, seed, k) for k, b in enumerate(d.blocks)] for d in own]
            firsts = "".join(
                fixed_order(seed, k, len(b.readings)) for k, b in enumerate(own[0].blocks)
            )
            yield {
                "seed": seed,
                "loop": loop,
                "share_b_first": fmean(first == "b" for first in firsts),
                "mean_t": fmean(t_of(blocks) for blocks in logs),
                "share_t_beyond_2": fmean(abs(t_of(blocks)) > 2 for blocks in logs),
                **_interval([fmean(blocks) for blocks in logs]),
            }


def fixed_order(seed: int, number: int, pairs: int) -> str:
    """The side that was first in each pair of rounds of a block, without the warm-up."""
    draws = SeededDraws(seed)
    case, _ = CASES["compiled"]
    draws.cases(number, [case])
    firsts = draws.block(case, number).firsts
    next(firsts)
    return "".join(next(firsts) for _ in range(pairs))


def _fixed(readings: Pairs, seed: int, number: int) -> float:
    """The control of a block as in earlier revisions: one median over all pairs."""
    sides: dict[str, list[float]] = {side: [] for side in SIDES}
    for pair, first in zip(readings, fixed_order(seed, number, len(readings)), strict=True):
        for side, seconds in zip(SIDES if first == "a" else SIDES[::-1], pair, strict=True):
            sides[side].append(seconds)
    return block_log(sides["a"], sides["b"])


def _repeated(duel: EqualDuel) -> float:
    logs: dict[bool, list[float]] = {True: [], False: []}
    for block in duel.blocks:
        middle = median(math.log(s) for pair in block.readings for s in pair)
        for repeated, (_, second) in zip(block.repeated, block.readings, strict=True):
            logs[repeated].append(math.log(second) - middle)
    return fmean(logs[True]) - fmean(logs[False])


def _interval(logs: Sequence[float]) -> Row:
    low, high = student_interval(logs) or (math.nan, math.nan)
    return {
        "duels": len(logs),
        "ratio": math.exp(fmean(logs)),
        "low": math.exp(low),
        "high": math.exp(high),
    }


def _log(pair: tuple[float, float]) -> float:
    return math.log(pair[0] / pair[1])


def _shared(duel: EqualDuel) -> NDArray[np.float64]:
    """Number of common templates of each two blocks, shape (blocks, blocks), at most 2."""
    served = np.array([block.templates for block in duel.blocks])
    shared: NDArray[np.float64] = (served[:, None, :] == served[None, :, :]).sum(2).astype(float)
    return shared


def _centred(duel: EqualDuel, of: str) -> NDArray[np.float64]:
    values = [getattr(block, of) for block in duel.blocks]
    return np.array(values, dtype=np.float64) - fmean(values)
