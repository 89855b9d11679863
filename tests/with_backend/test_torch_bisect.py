"""A bisection by real duels of a real repository: 40 commits, and steps that burn a known time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.repositories import history
from support.watching import WatchingBisect

from bench.schema.bisect import BisectPlan
from bench.schema.case import Case
from bench.schema.duel import DuelPlan, Spec
from bench.schema.plan import RunSettings
from bench.session import bisect as bisecting
from bench.session import under_way
from bench.verdicts.bisect_search import Outcome

COMMITS, CAUSE, BURN_S = 40, 23, 0.03
# What it burns is no part of the model's configuration: the commits train the same work.
MODEL = """
import time
import keras

BURN_S = {burn_s}


class Burn(keras.layers.Layer):
    def call(self, x):
        until = time.perf_counter() + BURN_S
        while time.perf_counter() < until:
            pass
        return x


def build():
    # Change {number}.
    return keras.Sequential([keras.Input((784,)), Burn(), keras.layers.Dense(10, "softmax")])
"""


def test_the_commit_from_which_steps_burn_time_is_named(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every launch trains the model of its commit, forked from templates that all of them share."""
    # Launches are as short as they can be; the control is measured all the same.
    monkeypatch.setattr(under_way, "LEAST", {})
    repository = tmp_path / "repo"
    texts = [
        MODEL.format(burn_s=BURN_S if number >= CAUSE else 0.0, number=number)
        for number in range(COMMITS)
    ]
    commits = history(repository, texts, "work.py")
    case = Case("work.py:build", "sgd", "fit", batch_size=400, backend="torch")
    good, bad = (Spec(checkout=str(repository), revision=end) for end in ("main~39", "main"))
    settings = RunSettings(epochs=6, data=str(small_data))
    plan = BisectPlan(DuelPlan(good, bad, (case,), settings, templates=1))
    path = tmp_path / "found"
    report = bisecting.bisect(bisecting.fixed(plan, path), path, WatchingBisect(), new=True)
    assert report.end.reason == ""
    assert (report.end.outcome, report.end.commit) == (Outcome.NAMED, commits[CAUSE])
    assert report.change is not None
    told = json.loads((path / "verdict.json").read_text("utf-8"))
    assert told["speed"]["low"] > 1.5
    assert told["score"]["change"] == 0
