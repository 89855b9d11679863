"""Compares ways to look at a duel, on recorded blocks of equals to which a change is added.

The sessions are of two halves, so that what is chosen on one can be held against the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from bench.evidence.recorded import blocks_of
from bench.evidence.simulate import ended
from bench.schema.errors import ExitCode
from bench.verdicts.sequential import LAST_LOOK, LOOKS, SPEED_SHARE, Looks

Row = dict[str, Any]
# The looks of the first version of the duel. It ruled the gate out at the level of an alarm, but
# for the last look.
_BEFORE = {8: 0.0005, 16: 0.003, 24: 0.0065}
BEFORE = Looks(
    {
        8: _BEFORE[8] * SPEED_SHARE,
        16: _BEFORE[16] * SPEED_SHARE,
        24: 0.09 - SPEED_SHARE * (_BEFORE[8] + _BEFORE[16]),
    },
    _BEFORE,
    0.0,
)
_EARLY = {4: 0.001, 6: 0.001, 8: 0.001, 12: 0.0015, 16: 0.002, 24: 0.0035}
DESIGNS: Mapping[str, Looks] = {
    "three looks": BEFORE,
    "three looks, passing spent evenly": Looks(dict.fromkeys(_BEFORE, 0.03), _BEFORE, 0.05),
    "six looks": LOOKS,
    "six looks, never in doubt": Looks(LOOKS.passing, LOOKS.spending, 0.0),
    "six looks, sooner in doubt": Looks(LOOKS.passing, LOOKS.spending, 0.2),
    "six looks, alarms from four blocks on": Looks(LOOKS.passing, _EARLY, LOOKS.doubt),
}
CHANGES = (0.0, 0.01, 0.02, 0.05, 0.10)


def design_rows(recorded: Iterable[Row], trials: int, seed: int) -> Iterator[Row]:
    """One row for each half of the sessions, case, change and design; all judge the same duels.

    Args:
        recorded: the rows of recorded.csv.
        trials: duels that are drawn; their blocks are a case's, with either side as B.
        seed: of the draws.
    """
    equals = [row for row in recorded if row["slower"] == 0]
    rng = np.random.default_rng(seed)
    for half, odd in (("odd", 1), ("even", 0)):
        for case, logs in blocks_of(r for r in equals if r["session"] % 2 == odd).items():
            pool = np.array(logs)
            # No block twice in a duel: four times the same one would show no scatter at all.
            places = rng.permuted(np.tile(np.arange(pool.size), (trials, 1)), axis=1)
            values = pool[places[:, :LAST_LOOK]]
            if values.shape[1] < LAST_LOOK:
                continue
            values = values * rng.choice((-1.0, 1.0), values.shape)
            for change in CHANGES:
                for name, looks in DESIGNS.items():
                    codes, blocks = ended(values + math.log1p(change), looks=looks)
                    yield {
                        "sessions": half,
                        "case": case,
                        "recorded": len(pool),
                        "noise": float(pool.std(ddof=1)),
                        "change": change,
                        "design": name,
                        "trials": trials,
                        "worse": float((codes == ExitCode.REGRESSION).mean()),
                        "not_worse": float((codes == ExitCode.PASSED).mean()),
                        "blocks_mean": float(blocks.mean()),
                        "blocks_median": float(np.median(blocks)),
                        "blocks_90": float(np.quantile(blocks, 0.9)),
                    }
