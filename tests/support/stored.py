"""Stored runs for a check."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis.rows import result_rows
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.session.sides import Side
from bench.store.run_folder import RunFolder

CASES = tuple(
    Case(model, optimizer, "compiled")
    for model in ("softmax", "relu_mlp")
    for optimizer in ("adam", "sgd")
)
MACHINE = {"cpu": {"model": "EPYC", "cores_logical": 2}, "gpus": [], "dataset_digest": "d" * 64}
FIRST = CASES[0].id
DEFAULTS = RunSettings()


def stored(
    path: Path,
    seed: int,
    *,
    slower: Mapping[str, float] | None = None,
    accuracy: Mapping[str, float | None] | None = None,
    cases: Sequence[Case] = CASES,
    failed: Sequence[str] = (),
    noise: float = 0.01,
    settings: RunSettings = DEFAULTS,
    record: Mapping[str, Any] | None = None,
    **environment: Any,
) -> Path:
    """A run folder in which each launch is a few rounds, and each case has its own speed.

    `record` holds further fields of every launch's record, such as the name of its score.
    """
    chance = random.Random(seed)
    plan = Plan(tuple(cases), settings)
    folder = RunFolder.create(path, plan)
    folder.write_environment(
        MACHINE | {"time_utc": f"2026-03-{seed % 28 + 1:02d}T12:00:00+00:00"} | environment
    )
    for number, case in enumerate(cases):
        for launch in range(settings.launches_of(case)):
            request = LaunchRequest(case, launch, 1, settings.epochs, settings.seed + launch)
            speed = 1 + number + (slower or {}).get(case.id, 0.0) * (1 + number)
            seconds = speed * math.exp(chance.gauss(0, noise))
            for k in range(1, settings.epochs + 1):
                right = (accuracy or {}).get(case.id, 0.85)
                folder.append_round(request, Round(k, 48_000, 1_500, seconds, 0.0, val_score=right))
            status = Status.FAILED if case.id in failed else Status.OK
            folder.append_launch(
                replace(
                    LaunchRecord(case.id, launch, 1, request.seed, status, "out of memory"),
                    **record or {},
                )
            )
    folder.write_results(result_rows(plan, folder.launches(), folder.rounds()))
    return path


class AnySide:
    """Accepts every side of a duel, and what it trains."""

    def code(self, label: str, side: Side, described: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def other_work(self, record: LaunchRecord) -> str:
        return ""


def cut_results(run: Path) -> None:
    file = run / "results.csv"
    file.write_text(file.read_text("utf-8")[:-20], "utf-8")
