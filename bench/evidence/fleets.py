"""Makes folders of fleets as large as real ones, of nodes that do not exist."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.evidence.made_runs import MACHINE, Made, make_run
from bench.schema.case import NETWORK_LOOPS, Case
from bench.schema.matrix import BATCH_SIZES
from bench.schema.plan import Plan, RunSettings
from bench.store.fleet_folder import FleetFolder
from bench.store.run_folder import RunFolder
from fmnist_models.architectures import NETWORKS

LABEL = "made, not measured"
# The standard deviation of the log seconds of a run of a node.
_DRIFT = 0.01


@dataclass(frozen=True, slots=True)
class MadeFleet:
    """What a made fleet is like.

    Attributes:
        nodes, cases: their numbers.
        launches, rounds: of each case, and of each launch.
        slower: by the node's name, how many times as long it takes.
        facts: by the node's name, facts of environment.json that differ there.
    """

    nodes: int
    cases: int
    launches: int = 3
    rounds: int = 20
    slower: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the nodes."""
        return [f"node{number:04d}" for number in range(self.nodes)]


def cases_of(number: int) -> list[Case]:
    """So many cases, each of another model, loop, batch size or precision.

    Raises:
        ValueError: there are not so many.
    """
    axes = NETWORKS, NETWORK_LOOPS, BATCH_SIZES, ("float32", "mixed_bfloat16")
    every = [
        Case(model, "adam", loop, "cpu", batch_size, precision)
        for model, loop, batch_size, precision in itertools.product(*axes)
    ]
    if len(every) < number:
        raise ValueError(f"{number} cases: there are {len(every)}")
    return every[:number]


def _same(made: Made, _: Case) -> Made:
    return made


def make_fleet(path: Path, like: MadeFleet, seed: int) -> Path:
    """Write a made fleet to the folder `path`, with one run of each node on day `seed`.

    Returns `path`.
    """
    chance = random.Random(seed)
    cases = cases_of(like.cases)
    plan = Plan(tuple(cases), RunSettings(launches=like.launches), label=LABEL)
    folder = FleetFolder(path, plan)
    path.mkdir(parents=True, exist_ok=True)
    folder.open()
    for number, name in enumerate(like.names):
        made = Made(like.slower.get(name, 1.0) * math.exp(chance.gauss(0, _DRIFT)))
        own = seed * like.nodes + number
        home = make_run(
            folder.of_node(name),
            own,
            cases,
            rounds=like.rounds,
            launches=like.launches,
            put_in=partial(_same, made),
        )
        began = {"label": LABEL, "time_utc": f"2026-01-{seed + 1:02d}T00:00:00+00:00"}
        facts = MACHINE | {"os": {"name": "made up", "kernel": "6.1.0"}} | began
        RunFolder(home).write_environment(facts | dict(like.facts.get(name, {})))
    return path
