"""Rows of made-up launches and ceilings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.analysis.rows import result_rows
from bench.schema.case import Case
from bench.schema.ceilings import Ceilings
from bench.schema.launch import LaunchRecord, Round, Status, StoredRound
from bench.schema.plan import Plan, RunSettings

LAYERS = ((784, 100), (100, 10))
TRAFFIC = (
    ("weights", 318_040, 2),
    ("optimizer slots", 0, 2),
    ("images", 25_088, 1),
    ("labels", 128, 1),
)
SAMPLES = 48_000

FIT, COMPILED = (Case("relu_mlp", "sgd", loop) for loop in ("fit", "compiled"))
HALF = Case("relu_mlp", "sgd", "compiled", precision="mixed_bfloat16")


def ceilings(
    precision: str = "float32", plain: float = 1e11, xla: float = 1e11, **more: float
) -> Ceilings:
    bandwidth = {"1048576": 5e10, "1073741824": 2e10}
    products = {"784x100-100x10-b32": 0.24}
    rates = {"plain": plain, "xla": xla}
    return Ceilings("cpu", precision, None, "before", rates, bandwidth, more or products)


def rows(
    seconds: Mapping[Case, float], measured: Sequence[Ceilings] = (), **record: Any
) -> list[dict[str, Any]]:
    """Rows of a run of cases that each took so many seconds an epoch."""
    facts: dict[str, Any] = {
        "dense_layers": LAYERS,
        "traffic": TRAFFIC,
        "jit_compile": True,
    } | record
    plan = Plan(tuple(seconds), RunSettings(epochs=1, launches=1), "test")
    launches = [LaunchRecord(case.id, 0, 1, 42, Status.OK, **facts) for case in seconds]
    rounds = [
        StoredRound(case.id, 0, 1, Round(1, SAMPLES, SAMPLES // 32, epoch_s, 0.0))
        for case, epoch_s in seconds.items()
    ]
    return result_rows(plan, launches, rounds, measured)
