"""Times `check` and `compare` as whole commands."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.analysis.rows import result_rows
from bench.launch.origin import child_command
from bench.machine.loaded import CHECKOUT
from bench.schema.case import NETWORK_LOOPS, PRECISIONS, Case, logistic_case
from bench.schema.columns import ROUND_COLUMNS
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.matrix import BATCH_SIZES
from bench.schema.noise import Noise
from bench.schema.plan import Plan, RunSettings
from bench.store.measured import read_run
from bench.store.run_folder import RunFolder
from bench.store.tables import write_csv, write_text
from fmnist_models.architectures import NETWORKS
from fmnist_models.optimizers import OPTIMIZERS

RUNS, CASES, ROUNDS = 10, 30, 20
CLI = child_command("bench")[1:]
_CEILINGS = {
    "device": "cpu",
    "precision": "float32",
    "threads": None,
    "moment": "before",
    "matmul_flops_per_s": {"plain": 2e11, "xla": 1.9e11},
    "bandwidth_bytes_per_s": {"1048576": 1.5e11, "536870912": 3e10},
    "products_s": {},
}
MACHINE = {
    "cpu": {"model": "made up", "cores_logical": 2},
    "gpus": [],
    "dataset_digest": "0" * 64,
    "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
    "ceilings": [_CEILINGS],
}
_TRAFFIC = (("weights", 318_040, 2), ("images", 25_088, 1))


def time_rows(folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """One row per command: seconds from its start to its end, in fresh processes.

    Each command first runs once without being timed. So Python has compiled the modules, as it has
    for users.

    Args:
        folder: an empty folder for generated runs.
        repetitions: number of timed processes of each command; the commands alternate.

    Raises:
        RuntimeError: a command failed.
    """
    runs = [make_run(folder / "base" / f"run{number:02d}", number) for number in range(RUNS)]
    now = make_run(folder / "now", RUNS)
    compared = folder / "compared"
    commands: dict[str, list[str | Path]] = {
        f"check of {CASES} cases against {RUNS} runs": [
            *CLI,
            "check",
            "--baseline",
            runs[0].parent,
            now,
        ],
        f"compare of {CASES} cases in {RUNS} runs": [*CLI, "compare", *runs, "--output", compared],
        "help": [*CLI, "--help"],
        # The least time of a command that draws a picture.
        "import of matplotlib": ["-c", "import matplotlib.figure"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    environ = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    for words in commands.values():
        _seconds(words, environ)
    for _ in range(repetitions):
        for name, words in commands.items():
            seconds[name].append(_seconds(words, environ))
    return [
        {
            "command": name,
            "repetitions": repetitions,
            "median_s": median(own),
            "lowest_s": min(own),
            "highest_s": max(own),
        }
        for name, own in seconds.items()
    ] + [_reading_row(folder, repetitions)]


def _reading_row(folder: Path, repetitions: int) -> dict[str, Any]:
    """The row for reading a run as large as the matrix `full` on one device, with all checks.

    It is measured in this process, which has imported the modules.
    """
    cases = (*_full_cases(), logistic_case())
    run = make_run(folder / "full", 0, cases, launches=None)
    seconds = []
    for _ in range(repetitions + 1):
        started = time.perf_counter()
        read_run(run)
        seconds.append(time.perf_counter() - started)
    # The first reading also fills the file system's cache and imports modules.
    own = seconds[1:]
    return {
        "command": f"reading a run of {len(cases)} cases",
        "repetitions": repetitions,
        "median_s": median(own),
        "lowest_s": min(own),
        "highest_s": max(own),
    }


def _full_cases() -> list[Case]:
    """The networks of the matrix `full` on a CPU."""
    axes = NETWORKS, OPTIMIZERS, NETWORK_LOOPS, BATCH_SIZES, PRECISIONS
    return [
        Case(model, optimizer, loop, "cpu", batch_size, precision)
        for model, optimizer, loop, batch_size, precision in itertools.product(*axes)
    ]


@dataclass(frozen=True, slots=True)
class Made:
    """What is put into a case of a generated run: its seconds are so many `times` as long."""

    times: float = 1.0
    score: float = 0.85


def make_run(
    path: Path,
    seed: int,
    cases: Sequence[Case] | None = None,
    *,
    rounds: int = ROUNDS,
    launches: int | None = 3,
    put_in: Callable[[Case], Made] = lambda _: Made(),
) -> Path:
    """Write a generated run to the folder `path`, by default as large as a real one.

    Its seconds are drawn from `seed`, with what is `put_in` each case. Returns `path`.
    """
    chance = random.Random(seed)
    plan = Plan(tuple(cases or _cases()), RunSettings(launches=launches))
    folder = RunFolder.create(path, plan)
    began = f"2026-01-{seed % 28 + 1:02d}T00:00:00+00:00"
    folder.write_environment(MACHINE | {"time_utc": began})
    rows, records = [], []
    timed = Round(1, 48_000, 1_500, 1.0, 0.0).to_json()
    for case in plan.cases:
        made = put_in(case)
        for launch in range(plan.settings.launches_of(case)):
            speed = made.times * math.exp(chance.gauss(0, 0.02))
            for number in range(1, rounds + 1):
                seconds = speed * math.exp(chance.gauss(0, 0.02))
                accuracy = made.score if number <= plan.settings.epochs else None
                own = {"case": case.id, "launch": launch, "attempt": 1}
                told = {"round": number, "seconds": seconds, "val_score": accuracy}
                rows.append({**own, **timed, **told})
            record = LaunchRecord(
                case.id,
                launch,
                1,
                launch,
                Status.OK,
                device_name="made up",
                jit_compile=True,
                warmup_s=1.0,
                total_s=30.0,
                test_score=0.84,
                traffic=_TRAFFIC,
                rounds=rounds,
                dense_layers=((784, 100), (100, 10)),
                noise=Noise(wall_s=30.0, steal_share=0.0),
            )
            records.append(json.dumps(record.to_json()) + "\n")
    # Written at once: appending round by round takes a minute for a thousand cases.
    write_csv(path / "rounds.csv", ROUND_COLUMNS, rows)
    write_text(path / "launches.jsonl", "".join(records))
    measured = folder.launches(), folder.rounds(), folder.ceilings()
    folder.write_results(result_rows(plan, *measured))
    return path


def _cases() -> tuple[Case, ...]:
    every = [
        Case(model, optimizer, loop)
        for loop in ("fit", "compiled")
        for model in NETWORKS
        for optimizer in OPTIMIZERS
    ]
    return tuple(every[:CASES])


def _seconds(words: Sequence[str | Path], environ: Mapping[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=CHECKOUT,
        env=environ,
        capture_output=True,
        check=False,
    )
    elapsed = time.perf_counter() - started
    # An inconclusive check ends with 3, after all of its work.
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr.decode()}")
    return elapsed
