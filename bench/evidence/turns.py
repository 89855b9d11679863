"""Compares blocks whose launches alternate round by round with blocks whose launches do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.evidence.live import LiveDuel
from bench.machine.lock import the_machine
from bench.schema.draws import EvenDraws
from bench.session.blocks import Blocks
from bench.session.duel import begin
from bench.session.under_way import sides_under_way
from bench.verdicts.sequential import LAST_LOOK

WAYS = ("turns", "launches")


def turn_rows(work: Path, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Log ratios of equals, one row per block; the two ways of measuring alternate.

    Args:
        work: folder of the duels; a finished block is not measured again.
        tell: called with a line of progress.

    Raises:
        UserError: the duel cannot be run.
    """
    plan, path = LiveDuel(0, "compiled").plan(0), work / "turns"
    if not (path / "duel.json").exists():
        plan = begin(plan, path)
    (case,) = plan.cases
    # One template a side, so that differences between templates do not add to the scatter.
    draws = EvenDraws("turns", 1)
    rows = []
    with the_machine(tell, True), sides_under_way(plan, path) as sides:
        ways = {way: Blocks(path, sides, plan.settings, turns=way == "turns") for way in WAYS}
        for number in range(LAST_LOOK):
            way = WAYS[number % len(WAYS)]
            block = ways[way].measured(case, number, draws.block(case, number))
            tell(f"block {number + 1} of {LAST_LOOK}, {way}: {block.failure or block.speed}")
            if not block.failure:
                row = {"case": case.id, "way": way, "block": number, "log_ratio": block.speed}
                rows.append(row)
    return rows
