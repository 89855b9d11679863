"""Generated runs, labelled as made, for what is timed and tried on runs of a known size."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.analysis.rows import result_rows
from bench.schema.case import NETWORK_LOOPS, PRECISIONS, Case
from bench.schema.columns import ROUND_COLUMNS
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.matrix import BATCH_SIZES
from bench.schema.noise import Noise
from bench.schema.plan import Plan, RunSettings
from bench.store.run_folder import RunFolder
from bench.store.tables import write_csv, write_text
from fmnist_models.architectures import NETWORKS
from fmnist_models.optimizers import OPTIMIZERS

CASES, ROUNDS = 30, 20
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


def many_cases(number: int) -> list[Case]:
    """So many networks on a CPU: those of the matrix `full`, then the same with more threads.

    The matrix has 1,080 on one device, and one logistic regression.
    """
    axes = (None, *range(1, 100)), NETWORKS, OPTIMIZERS, BATCH_SIZES, NETWORK_LOOPS, PRECISIONS
    every = (
        Case(model, optimizer, loop, "cpu", batch_size, precision, threads)
        for threads, model, optimizer, batch_size, loop, precision in itertools.product(*axes)
    )
    return list(itertools.islice(every, number))


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
    plan = Plan(tuple(cases or ordinary_cases()), RunSettings(launches=launches))
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
            record = made_record(case, launch, rounds)
            records.append(json.dumps(record.to_json()) + "\n")
    # Written at once: appending round by round takes a minute for a thousand cases.
    write_csv(path / "rounds.csv", ROUND_COLUMNS, rows)
    write_text(path / "launches.jsonl", "".join(records))
    measured = folder.launches(), folder.rounds(), folder.ceilings()
    folder.write_results(result_rows(plan, *measured))
    return path


def made_record(case: Case, launch: int, rounds: int) -> LaunchRecord:
    """The record of a made launch that ended ok after so many rounds."""
    return LaunchRecord(
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


def ordinary_cases() -> tuple[Case, ...]:
    """Thirty cases, as a run of ordinary size has."""
    every = [
        Case(model, optimizer, loop)
        for loop in ("fit", "compiled")
        for model in NETWORKS
        for optimizer in OPTIMIZERS
    ]
    return tuple(every[:CASES])
