"""The control of a duel: what neither side can change, read before each turn.

Where it differs, the machine was another one for A than for B, and the duel says nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.store.filetypes import CONTROL
from bench.store.reader import read_table
from bench.verdicts.sequential import even_log
from fmnist_models.errors import UserError

# 2 x 32 MiB, beyond the caches of most machines, read and written.
_FLOATS = 2**22
# A spreadsheet program keeps 15 digits of a number.
_SAME_FIGURE = 1e-9
Probe = Callable[[int], float]
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of the control.

    Attributes:
        pair: of turns, from 0, which is the warm-up.
        place: in the pair, 1 or 2.
        side: whose turn came next.
        after: the side whose turn came before; empty at the block's begin.
    """

    pair: int
    place: int
    side: str
    after: str
    seconds: float


def control_probe() -> Probe:
    """A probe of the memory's bandwidth that neither side can change: seconds of one pass,
    the best of so many.

    It runs in this process, so no interpreter, checkout or variable of a side reaches it.
    """
    import numpy as np

    source = np.ones(_FLOATS)
    target = np.zeros(_FLOATS)

    def probe(passes: int) -> float:
        """Copy the array to and fro."""
        seconds = []
        for _ in range(passes):
            started = time.perf_counter()
            np.copyto(target, source)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return probe


def control_cells(order: str, readings: Sequence[Reading]) -> dict[str, float]:
    """The control's cells of blocks.csv.

    A reading before a warm-up counts only where there are no others: the machine had been idle
    before it, or had compiled a model.

    Args:
        order: the side that was first in each pair of turns, the warm-up's before all.
        readings: of the block, in order, of both sides.
    """
    firsts = order[1:] or order
    counted = [reading for reading in readings if reading.pair or not order[1:]]
    a, b = ([r.seconds for r in counted if r.side == side] for side in ("a", "b"))
    return {
        "control_a_s": median(a),
        "control_b_s": median(b),
        "control_log_ratio": even_log(a, b, firsts),
    }


def readings_of(file: Path) -> dict[Key, list[Reading]]:
    """The readings of each block in control.csv, by case and number.

    A block whose launches were killed is measured again, and its readings with it: the last
    ones count.

    Raises:
        UserError: the file cannot be read.
    """
    found: dict[Key, list[Reading]] = {}
    for row in read_table(file, CONTROL, grows=True)[0]:
        key = row["case"], row["block"]
        reading = Reading(*(row[name] for name in ("pair", "place", "side", "after", "seconds")))
        if (reading.pair, reading.place) == (0, 1):
            found[key] = []
        found.setdefault(key, []).append(reading)
    return found


def refuse_other_control(blocks: Path, rows: Sequence[Mapping[str, Any]], control: Path) -> None:
    """The control's cells in blocks.csv are derived from control.csv, and must follow from it.

    Rows without an order are of revisions that kept no readings, and are taken as they are.

    Args:
        blocks: path of blocks.csv.
        rows: of that file.
        control: path of control.csv.

    Raises:
        UserError: a block has no readings, or others than its row says; the first one is named.
    """
    found = readings_of(control)
    # Of two rows of one block, measured again because it had lost its rounds, the later one counts.
    last = {(row["case"], row["block"]): row for row in rows}
    for key, row in last.items():
        own = found.get(key, [])
        if not row["order"] and not own:
            continue
        wrong = _difference(row, own)
        if wrong:
            raise UserError(
                f"{blocks}: {row['case']}, block {row['block']}: {wrong} ({control}): take both "
                "files from a copy, or remove the block's line, and it is measured again"
            )


def _difference(row: Mapping[str, Any], readings: Sequence[Reading]) -> str:
    """How a row of blocks.csv differs from its readings; empty where it does not."""
    firsts = "".join(reading.side for reading in readings if reading.place == 1)
    if {reading.side for reading in readings} != {"a", "b"}:
        return "its readings of the control are not all there"
    if not row["order"] or not firsts.startswith(row["order"]):
        order = row["order"] or "not there"
        return f"its order is {order}, that of its readings of the control {firsts}"
    for name, value in control_cells(row["order"], readings).items():
        if not math.isclose(row[name], value, rel_tol=_SAME_FIGURE, abs_tol=_SAME_FIGURE):
            return f"its {name} is {row[name]:g}, that of its readings of the control {value:g}"
    return ""
