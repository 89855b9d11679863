"""The control of a duel: a reading before each turn that no side can influence.

Where it differs between the sides, the machine was not equally fast for both, and the duel is
inconclusive.
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

# Two arrays of 32 MiB, one read and one written: larger than the caches of most machines.
_FLOATS = 2**22
# A spreadsheet program keeps 15 digits of a number.
_SAME_FIGURE = 1e-9
Probe = Callable[[int], float]
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of the control.

    Attributes:
        pair: number of the pair of turns; 0 is the warm-up.
        place: place in the pair, 1 or 2.
        side: the side that had the next turn.
        after: the side that had the turn before; empty at the block's beginning.
        seconds: seconds of one pass of the probe.
    """

    pair: int
    place: int
    side: str
    after: str
    seconds: float


def control_probe() -> Probe:
    """A probe of the memory bandwidth: returns the seconds of the best of `passes` passes.

    It runs in this process, so no interpreter, checkout or variable of a side can influence it.
    """
    import numpy as np

    source = np.ones(_FLOATS)
    target = np.zeros(_FLOATS)

    def probe(passes: int) -> float:
        """Copy the array `passes` times; the seconds of the fastest copy."""
        seconds = []
        for _ in range(passes):
            started = time.perf_counter()
            np.copyto(target, source)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return probe


def control_cells(order: str, readings: Sequence[Reading]) -> dict[str, float]:
    """The control's cells of blocks.csv.

    A reading before a warm-up is used only where there are no others, because before it the
    machine was idle or compiled a model.

    Args:
        order: the side that was first in each pair of turns; the first letter is the warm-up's.
        readings: the block's readings of both sides, in order.
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

    A block whose launches were killed is measured again with new readings; the last ones count.

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
    """Refuse a blocks.csv whose control cells do not agree with control.csv.

    Rows without an order are of earlier revisions, which stored no readings; they are accepted.

    Args:
        blocks: path of blocks.csv.
        rows: rows of that file.
        control: path of control.csv.

    Raises:
        UserError: a block has no readings, or its row differs from them; the message names the
            first one.
    """
    found = readings_of(control)
    # A block that had lost its rounds was measured again; its last row counts.
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
