"""Writes folders of runs that hang together: rounds and launches, and the rows that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis.rows import result_rows
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.store.run_folder import RunFolder

SAMPLES, UPDATES = 48_000, 1_500
LAYERS = ((784, 100), (100, 10))
TRAFFIC = (("weights", 318_040, 2), ("images", 25_088, 1))
CEILINGS = {
    "device": "cpu",
    "threads": None,
    "moment": "before",
    "matmul_flops_per_s": {"plain": 2e11, "xla": 1.9e11},
    "bandwidth_bytes_per_s": {"1048576": 1.5e11, "536870912": 3e10},
    "products_s": {},
}


def _ended_ok(case: Case, launch: int) -> LaunchRecord:
    return LaunchRecord(
        case.id,
        launch,
        1,
        42 + launch,
        Status.OK,
        device_name="Test CPU",
        jit_compile=case.loop != "fit" or case.backend == "jax",
        warmup_s=1.0,
        dense_layers=LAYERS,
        traffic=TRAFFIC,
    )


def write_run(
    path: Path,
    cases: Mapping[Case, tuple[float, float]],
    *,
    label: str | None = None,
    epochs: int = 2,
    reasons: Mapping[Case, tuple[Status, str]] | None = None,
    command: str = "fmnist-bench run",
    record: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Path:
    """A run in which each of `cases` took so many seconds an epoch.

    Args:
        path: the folder, made here.
        cases: by case, seconds of an epoch and the accuracy of the last one.
        reasons: by case, status and reason of launches that did not end ok.
        record: further fields of every launch's record.
        facts: further ones of environment.json.
    """
    reasons = reasons or {}
    plan = Plan((*cases, *reasons), RunSettings(epochs=epochs), "test", label, command)
    run = RunFolder.create(path, plan)
    precisions = dict.fromkeys(case.precision for case in plan.cases)
    ceilings = [{**CEILINGS, "precision": precision} for precision in precisions]
    run.write_environment(
        {
            "label": label,
            "dataset_digest": "abc",
            "time_utc": "2026-03-01T12:00:00+00:00",
            "ceilings": ceilings,
            **facts,
        }
    )
    for case, (seconds, accuracy) in cases.items():
        for launch in range(plan.settings.launches_of(case)):
            request = LaunchRequest(case, launch, 1, epochs, 42)
            for number in range(1, epochs + 1):
                # Launches differ, so that there is an interval.
                took = seconds * (1 + 0.01 * launch)
                scored = accuracy - 0.01 * (epochs - number)
                run.append_round(
                    request, Round(number, SAMPLES, UPDATES, took, 0.1, val_score=scored)
                )
            run.append_launch(replace(_ended_ok(case, launch), **record or {}))
    for case, (status, reason) in reasons.items():
        for launch in range(plan.settings.launches_of(case)):
            run.append_launch(LaunchRecord(case.id, launch, 1, 42, status, reason))
    run.write_results(result_rows(plan, run.launches(), run.rounds(), run.ceilings()))
    return path
