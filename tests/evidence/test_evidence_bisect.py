"""The kept table of simulated bisections, and how its rows are counted."""

from __future__ import annotations

import csv
import math

import numpy as np
from support import ROOT

from bench.evidence import bisect
from bench.evidence.bisect import Linear, Noise, plan_of
from bench.evidence.worlds import World
from bench.verdicts.bisect import WRONG
from bench.verdicts.bisect_search import Ended, Outcome


def test_the_kept_table_holds_what_is_promised() -> None:
    with (ROOT / "results/evidence/bisect.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["history"] for row in rows} == set(bisect.HISTORIES)
    assert {row["machine"] for row in rows} == {noise.name for noise in bisect.NOISES}
    assert {int(row["commits"]) for row in rows} == set(bisect.COMMITS)
    assert max(float(row["wrong_upper"]) for row in rows) <= WRONG
    clear = [row for row in rows if row["history"] == "one change" and row["slower"] == "0.2"]
    assert min(int(row["right"]) / int(row["bisections"]) for row in clear) > 0.95
    for row in rows:
        ends = ("right", "wrong", "range", "wrong_range", "no_change")
        assert sum(int(row[end]) for end in ends) == int(row["bisections"])


def test_an_end_is_right_where_it_holds_the_cause() -> None:
    history = Linear([0.0, math.log1p(0.1), 0.0, 0.001])
    plan = plan_of(4)
    ends = {
        Ended(Outcome.NAMED, "2"): "right",
        Ended(Outcome.NAMED, "4"): "wrong",
        Ended(Outcome.RANGE, candidates=("1", "2")): "range",
        Ended(Outcome.RANGE, candidates=("3", "4")): "wrong_range",
        Ended(Outcome.NO_CHANGE): "no_change",
    }
    assert {end: bisect._judged(plan, history, end) for end in ends} == ends


def test_a_wrong_commit_would_be_counted() -> None:
    """Where the machine itself favours one side by 20%, every commit is slower than its parent."""

    class Biased(Noise):
        def blocks(self, rng: np.random.Generator) -> bisect.Array:
            return 0.2 + super().blocks(rng)

    row = bisect._row(
        np.random.default_rng(1),
        "one change, a fifth broken",
        Biased("biased", World(0.0, 0.0)),
        (8, 0.2, 20),
    )
    assert row["wrong"] > 10
    assert row["wrong_upper"] > WRONG
    assert row["most_trials"] > 3
