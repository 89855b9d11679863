"""Writes folders of runs with several replicas, whose speed-ups are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.analysis.rows import result_rows
from bench.schema.case import STRONG, WEAK, Case
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.store.run_folder import RunFolder
from support.synthetic import ENVIRONMENT

SAMPLES, EPOCHS, LAUNCHES = 48_000, 2, 3
# Between the logs of the seconds of two launches of any case that follow each other.
DRIFT = 0.05
COMPILED = Case("relu_mlp", "adam", "compiled", "gpu", batch_size=512)


@dataclass(frozen=True)
class Line:
    """Cases that differ in their replicas alone.

    Attributes:
        speedups: by number of replicas, over one.
        case: that of one replica.
        each: whether each replica has a process.
        share: of a step that the all-reduce alone takes; None where it was not timed.
    """

    speedups: Mapping[int, float]
    case: Case = COMPILED
    each: bool = False
    share: float | None = 0.12

    def spread(self, number: int, scaling: str) -> Case:
        """Its case of so many replicas."""
        batch = self.case.batch_size * (number if scaling == WEAK else 1)
        processes = number if self.each else 1
        return replace(self.case, replicas=number, processes=processes, batch_size=batch)


def write_scaled(
    path: Path,
    *lines: Line,
    scaling: str = STRONG,
    launches: int = LAUNCHES,
    scatter: float = 0.01,
    label: str | None = None,
    **facts: Any,
) -> Path:
    """A run of these lines and of their cases of one replica, which trains an epoch in 0.4 s.

    Each launch of one number took turns, and was slowed by the same as the others of its number.

    Args:
        path: the folder, made here.
        lines: what was measured.
        scaling: of the run.
        launches: of each case.
        scatter: between the logs of the seconds of two launches of several replicas that follow
            each other; their mean is that of the speed-up to the digit.
        label: the name of the set-up.
        facts: of environment.json, over those of `ENVIRONMENT`.
    """
    seconds = {line.case: 0.4 for line in lines}
    shares: dict[Case, float | None] = {}
    for line in lines:
        for number, speedup in line.speedups.items():
            seconds[line.spread(number, scaling)] = 0.4 / speedup
            shares[line.spread(number, scaling)] = line.share
    chosen = {"epochs": EPOCHS, "launches": launches, "scaling": scaling}
    settings = RunSettings.from_json(chosen)
    plan = Plan(tuple(seconds), settings, "test", label, "fmnist-bench run")
    run = RunFolder.create(path, plan)
    run.write_environment({**ENVIRONMENT, "label": label, "dataset_digest": "abc", **facts})
    for case, epoch_s in seconds.items():
        steps = -(-SAMPLES // case.batch_size)
        for launch in range(launches):
            place = launch - (launches - 1) / 2
            aside = DRIFT * place + (scatter * place if case.replicas > 1 else 0.0)
            took = epoch_s * math.exp(aside)
            rounds = [Round(n, SAMPLES, steps, took, 0.1, val_score=0.85) for n in (1, 2)]
            record = replace(_record(case, launch), rounds=EPOCHS, turns=f"turns{launch}")
            if share := shares.get(case):
                record = replace(record, all_reduce_s=share * took / steps)
            for round_ in rounds:
                run.append_round(LaunchRequest(case, launch, 1, EPOCHS, 42), round_)
            run.append_launch(record)
    run.write_results(result_rows(plan, run.launches(), run.rounds()))
    return path


def _record(case: Case, launch: int) -> LaunchRecord:
    name = "Test CPU" if case.device == "cpu" else "NVIDIA H100 80GB HBM3"
    uuids = [f"GPU-{n}" for n in range(case.replicas)] if case.device == "gpu" else []
    return LaunchRecord(
        case.id,
        launch,
        1,
        42 + launch,
        Status.OK,
        device_name=name,
        warmup_s=1.0,
        all_reduce_bytes=318_040 if case.replicas > 1 else None,
        device_uuids=tuple(uuids) if case.replicas > 1 else (),
    )


def rows_of(path: Path) -> Sequence[Mapping[str, Any]]:
    """The rows of a run."""
    return RunFolder(path).results()
