"""Counts false alarms and power of `fleet check` in simulated fleets, and times it on one."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.evidence.commands import CLI, peak_bytes
from bench.evidence.exits import alarm_fields, upper_bound, world_fields
from bench.evidence.fleets import MadeFleet, make_fleet
from bench.evidence.worlds import Suite, World, launch_medians, run_logs
from bench.machine.loaded import CHECKOUT
from bench.schema.errors import ExitCode
from bench.schema.sizes import DEFAULT_GATE, MARGIN
from bench.verdicts.check import SPEED_LEVEL
from bench.verdicts.fleet import LEAST_NODES_OF_ONE_RUN, compare_nodes

Row = dict[str, Any]
NODES, RUNS, SLOWER = (3, 8, 32, 200), (1, 2, 3, 4, 5), (0.05, 0.10, 0.20)
# A quiet host, and hosts whose runs drift: all cases alike, and half of it alike.
WORLDS = (World(0.5, 0.0), World(0.5, 0.02, 1.0), World(0.8, 0.03, 0.5))
CASES, LAUNCHES = 30, 3
# Simulated values at once, so that memory stays small.
_AT_ONCE = 1_000_000
_MOST_TIMES, _OF_POWER = 8, 200
SCALE = MadeFleet(
    1000,
    50,
    slower={"node0042": 1.6},
    facts={"node0007": {"os": {"name": "made up", "kernel": "5.15.0"}}},
)


def fleet_rows(
    fleets: int, seed: int, nodes: Sequence[int] = NODES, runs: Sequence[int] = RUNS
) -> Iterator[Row]:
    """A row for each number of nodes and of runs of each node, in each world.

    Args:
        fleets: how many are simulated for a row of the most nodes and runs; of fewer up to eight
            times as many.
        seed: of the random numbers.
        nodes: numbers of nodes.
        runs: numbers of runs of each node.
    """
    for number, world in enumerate(WORLDS):
        rng = np.random.default_rng([seed, number])
        pool = launch_medians(rng, world)
        for of_nodes in nodes:
            for of_runs in runs:
                if of_runs == 1 and of_nodes < LEAST_NODES_OF_ONE_RUN:
                    continue
                named = {
                    "nodes": of_nodes,
                    "runs": of_runs,
                    "cases": CASES,
                    "launches": LAUNCHES,
                    **world_fields(world),
                }
                many = min(_MOST_TIMES, max(nodes) * max(runs) // (of_nodes * of_runs))
                yield named | _counted(rng, world, pool, (many * fleets, of_nodes, of_runs))


def _counted(rng: np.random.Generator, world: World, pool: Any, shape: tuple[int, int, int]) -> Row:
    """False alarms, power and exits over so many (fleets, nodes, runs)."""
    fleets, nodes, runs = shape
    margin, gate = math.log1p(MARGIN), math.log1p(DEFAULT_GATE)
    alarms = able = seen = confirmed = 0
    found = dict.fromkeys(SLOWER, 0)
    smallest: list[float] = []
    trials = 0
    chunk = max(1, _AT_ONCE // (nodes * runs * CASES * LAUNCHES))
    for start in range(0, fleets, chunk):
        count = min(chunk, fleets - start)
        logs = run_logs(rng, world, pool, count * nodes, runs, Suite(CASES, LAUNCHES))
        logs = logs.reshape(count, nodes, runs, CASES)
        test = compare_nodes(logs, margin, SPEED_LEVEL)
        alarms += int(test.slow.any(-1).sum())
        worst = test.found.smallest.max((-2, -1))
        able += int((worst <= gate).sum())
        smallest += worst.tolist()
        trials += count if start < _OF_POWER else 0
        if able_here := np.flatnonzero(worst <= gate)[:_OF_POWER].tolist():
            worse = logs[able_here]
            worse[:, 0, :, 0] += gate
            seen += len(able_here)
            confirmed += int(
                compare_nodes(worse, margin, SPEED_LEVEL).found.rejected[:, 0, 0].sum()
            )
        # A share of a few hundred is known to some percent, and that is enough.
        for by in SLOWER if start < _OF_POWER else ():
            slow = logs.copy()
            slow[:, 0] += math.log1p(by)
            found[by] += int(compare_nodes(slow, margin, SPEED_LEVEL).slow[:, 0].sum())
    rate = alarm_fields(alarms, fleets)
    return {
        "fleets": rate.pop("suites"),
        **rate,
        "slow_fleets": trials,
        **{f"found_{100 * by:.0f}": found[by] / trials for by in SLOWER},
        "exit_0": able / fleets,
        "able": seen,
        "gate_found": confirmed / seen if seen else None,
        "gate_found_lower": 1 - upper_bound(seen - confirmed, seen) if seen else None,
        "median_smallest": math.expm1(min(700.0, float(np.median(smallest)))),
    }


def scale_row(folder: Path, like: MadeFleet, told: Callable[[str], None]) -> Row:
    """Seconds and memory of `fleet check` on a made fleet, in a process of its own.

    One that is in `folder` already is not made again.

    Raises:
        RuntimeError: the check failed.
    """
    told(f"making {like.nodes} nodes of {like.cases} cases")
    made = folder / "fleet"
    if not (folder / "made").exists():
        make_fleet(made, like, 0)
        (folder / "made").touch()
    output, log = folder / "checked", folder / "said"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("wb") as said:
        check = subprocess.Popen(
            [sys.executable, *map(str, (*CLI, "fleet", "check", made, "--output", output))],
            cwd=CHECKOUT,
            stdout=said,
            stderr=said,
        )
        peak = peak_bytes(check)
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if check.returncode not in (ExitCode.REGRESSION, ExitCode.INCONCLUSIVE):
        raise RuntimeError(f"the check ended with {check.returncode}: {log.read_text('utf-8')}")
    return {
        "nodes": like.nodes,
        "cases": like.cases,
        "launches": like.launches,
        "rounds": like.rounds,
        "seconds": seconds,
        # Others may use the cores meanwhile.
        "cpu_s": used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
        "peak_memory_bytes": peak,
        "page_bytes": _size(output / "fleet.html"),
        "table_bytes": _size(output / "fleet.csv"),
    }


def _size(file: Path) -> int:
    return file.stat().st_size
