"""The order of launches: round-robin, so that drift of the machine affects all cases alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from bench.schema.case import Case


def schedule(
    cases: Sequence[Case], launches_of: Callable[[Case], int], seed: int
) -> Iterator[tuple[Case, int]]:
    """Every launch of every case as (case, launch).

    Launch 0 of every case comes first, in random order, then launch 1 in another random order, and
    so on. The order depends only on the cases and `seed`.
    """
    draw = random.Random(seed)
    for launch in range(max(map(launches_of, cases), default=0)):
        order = [case for case in cases if launch < launches_of(case)]
        draw.shuffle(order)
        for case in order:
            yield case, launch
