"""Why the launches of a block take turns: blocks that do beside blocks that do not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.blocks import Blocks
from bench.duel import begin, sides_under_way
from bench.evidence.live import INJECTED_LOOPS, LiveDuel
from bench.lock import the_machine
from bench.sequential import LAST_LOOK

# A duel's folder holds so many launches of a side.
BLOCKS = LAST_LOOK // 2


def turn_rows(work: Path, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Log ratios of equals, a row a block, both ways of measuring in turns.

    Args:
        work: where the duels go; what is there is not measured again.
        tell: is told what goes on.

    Raises:
        UserError: a duel cannot be fought.
    """
    rows = []
    for loop in INJECTED_LOOPS:
        duel = LiveDuel(0, loop)
        plan, path = duel.plan(0), work / f"turns-{loop}"
        if not (path / "duel.json").exists():
            begin(plan, path)
        with the_machine(tell, True), sides_under_way(plan, path) as sides:
            ways = {
                way: Blocks(path, sides, plan.settings.epochs, turns=way == "turns")
                for way in ("turns", "launches")
            }
            for number in range(2 * BLOCKS):
                way = ("turns", "launches")[number % 2]
                (case,) = plan.cases
                block = ways[way].measured(case, number, random.Random(f"turns {number}"))
                tell(f"{loop} {way} {block.speed:+.4f}")
                rows.append({"case": case.id, "way": way, "block": number,
                             "log_ratio": block.speed, "failure": block.failure})  # fmt: skip
    return rows
