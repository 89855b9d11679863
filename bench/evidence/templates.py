"""Measures how much the templates of a side differ, with blocks of equals for all their pairs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench.evidence.equals import BLOCKS, plan_of
from bench.machine.lock import the_machine
from bench.schema.draws import SIDES, BlockDraw
from bench.session.blocks import Blocks
from bench.session.duel import begin, resume
from bench.session.under_way import sides_under_way

Row = dict[str, Any]
NUMBERS = (1, 2, 3, 4, 8)
_CONFIDENCE, _LEVEL = 0.95, 0.05


def block_rows(work: Path, loop: str, templates: int, tell: Callable[[str], None]) -> list[Row]:
    """One row per block: each template of A with each template of B, in random order.

    Args:
        work: folder of the duel; a finished block is not measured again.
        loop: a loop of `bench.evidence.equals.CASES`.
        templates: number of templates of each side.
        tell: called with a line of progress.

    Raises:
        UserError: the duel cannot be run.
    """
    path = work / f"templates-{loop}"
    plan = resume(path) if (path / "duel.json").exists() else begin(plan_of(loop), path)
    (case,) = plan.cases
    cells = list(product(range(templates), repeat=len(SIDES)))
    random.Random(plan.entropy).shuffle(cells)
    rows = []
    with the_machine(tell, True), sides_under_way(plan, path) as sides:
        blocks = Blocks(path, sides, plan.settings, lambda _, why: tell(why))
        for number, cell in enumerate(cells):
            served = dict(zip(SIDES, cell, strict=True))
            draw = BlockDraw(served, plan.draws.block(case, number).firsts)
            block = blocks.measured(case, number, draw)
            tell(f"{loop}: block {number + 1} of {len(cells)}: {block.failure or block.speed}")
            if not block.failure:
                rows.append(
                    {
                        "loop": loop,
                        "block": number,
                        "template_a": served["a"],
                        "template_b": served["b"],
                        "log_ratio": block.speed,
                        "control_log_ratio": block.control,
                    }
                )
    return rows


def variance_row(rows: Sequence[Row]) -> Row:
    """The variance of log time between templates and within them, of one loop's blocks.

    A two-way layout of random effects without repetition: the templates of A and those of B.
    between = (MS(templates) - MS(rest)) / n, with Fisher's F over both factors together, and the
    exact interval of its ratio to the rest (H. Scheffe, "The analysis of variance", 1959, section
    7.2).

    Raises:
        ValueError: the blocks are not one for each pair of templates.
    """
    from scipy.stats import f

    n = 1 + max(row["template_a"] for row in rows)
    table = np.full((n, n), math.nan)
    for row in rows:
        table[row["template_a"], row["template_b"]] = row["log_ratio"]
    if len(rows) != n * n or np.isnan(table).any():
        raise ValueError(f"{len(rows)} blocks: {n} templates a side need {n * n}, one a pair")
    a, b = table.mean(1) - table.mean(), table.mean(0) - table.mean()
    rest = table - table.mean() - a[:, None] - b[None, :]
    df, df_rest = 2 * (n - 1), (n - 1) ** 2
    mean_square, within = n * float(a @ a + b @ b) / df, float((rest**2).sum()) / df_rest
    ratio = mean_square / within
    ends = ((1 + _CONFIDENCE) / 2, (1 - _CONFIDENCE) / 2)
    low, high = ((ratio / float(f.ppf(end, df, df_rest)) - 1) / n for end in ends)
    between = (mean_square - within) / n
    return {
        "loop": rows[0]["loop"],
        "templates": n,
        "blocks": len(rows),
        "variance_between": between,
        "variance_within": within,
        "f": ratio,
        "p": float(f.sf(ratio, df, df_rest)),
        "between_over_within": between / within,
        "between_over_within_low": low,
        "between_over_within_high": high,
    }


def alarm_rows(variances: Row) -> Iterator[Row]:
    """The false alarms of a duel of equals by number of templates a side, as rows.

    The templates serve equal numbers of the first blocks, or nearly equal ones. The rows are for
    the estimated variance between templates, and for the upper end of its interval.
    """
    ends = {"found": "between_over_within", "upper end": "between_over_within_high"}
    for number, (name, column) in product(NUMBERS, ends.items()):
        share = max(0.0, variances[column])
        yield {
            "loop": variances["loop"],
            "templates": number,
            "between": name,
            "between_over_within": share,
            "t_inflation": inflation(number, share),
            "p_below_0.05": alarm_rate(inflation(number, share)),
        }


def inflation(templates: int, share: float) -> float:
    """The factor by which the t of the first look is wider than Student's t.

    The variance between templates of a side is `share` times that within them.
    """
    served = [len(range(k, BLOCKS, templates)) for k in range(templates)]
    of_mean = 1 / BLOCKS + 2 * share * sum((n / BLOCKS) ** 2 for n in served)
    shared = 2 * sum(n * (n - 1) for n in served) / (BLOCKS * (BLOCKS - 1))
    taken_for = (1 + share * (2 - shared)) / BLOCKS
    return math.sqrt(of_mean / taken_for)


def alarm_rate(inflated: float) -> float:
    """The probability that the one-sided p is at most 5%, for a t too wide by that factor."""
    from scipy.stats import t

    return float(t.sf(t.isf(_LEVEL, BLOCKS - 1) / inflated, BLOCKS - 1))
