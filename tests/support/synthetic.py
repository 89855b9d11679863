"""Made-up runs in the shape of real ones: rows of results.csv and rounds.csv, and what
environment.json holds. Numbers come from a fixed seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any

from bench.schema.case import Case, logistic_case
from bench.schema.columns import RESULT_COLUMNS, ROUND_COLUMNS
from fmnist_models.architectures import NETWORKS
from fmnist_models.optimizers import OPTIMIZERS

Rows = list[dict[str, Any]]
TRAINING_SAMPLES = 48_000
ENVIRONMENT: dict[str, Any] = {
    "schema_version": 1,
    "label": "reference",
    "time_utc": "2026-03-01T12:00:00+00:00",
    "cpu": {
        "model": "AMD EPYC 7B13 64-Core Processor",
        "cores_physical": 2,
        "cores_logical": 4,
        "affinity": [0, 1, 2, 3],
        "cgroup_quota_cpus": None,
    },
    "gpus": [],
    "python": {"version": "3.12.9", "implementation": "CPython"},
    "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
    "git": {"revision": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
}
_SPEED = {"fit": 11_000.0, "multistep": 70_000.0, "compiled": 160_000.0}
_WORK = {"softmax": 0.7, "sigmoid_mlp": 1.05, "relu_mlp": 1.0}
_ACCURACY = {"softmax": 0.838, "sigmoid_mlp": 0.872, "relu_mlp": 0.881}
_COST = {"sgd": 0.75, "sgd_lr0.1": 0.76, "sgd_nesterov": 0.88, "adagrad": 0.9, "rmsprop": 1.0}
_GAIN = {"sgd": -0.045, "sgd_lr0.1": -0.004, "adagrad": -0.06, "rmsprop": -0.003, "adam": 0.004}
_PRECISION = {"mixed_bfloat16": 0.8, "mixed_float16": 0.55, "tf32": 1.3}
_DEVICE = {"gpu": 4.0, "gpu:0": 4.0, "gpu:1": 2.5}


def run(cases: Iterable[Case], seed: int = 0) -> tuple[Rows, Rows]:
    """Result rows and round rows of a run in which every case ended ok."""
    chance = random.Random(seed)
    results: Rows = []
    rounds: Rows = []
    for case in cases:
        row, own = _measured(case, chance)
        results.append(row)
        rounds += own
    return results, rounds


def documented(loops: Iterable[str] = ("fit", "compiled"), device: str = "cpu") -> list[Case]:
    """The documented matrix on one device: every pair, and the sweeps of relu_mlp/adam."""
    loops = tuple(loops)
    cases = [Case(m, o, loop, device) for m in NETWORKS for o in OPTIMIZERS for loop in loops]
    for loop in loops:
        cases += [Case("relu_mlp", "adam", loop, device, size) for size in (128, 512, 2048, 8192)]
        cases += [
            Case("relu_mlp", "adam", loop, device, precision=precision)
            for precision in ("mixed_bfloat16", "mixed_float16")
        ]
    return [*cases, logistic_case()]


def not_ok(case: Case, status: str, reason: str) -> dict[str, Any]:
    """The row of a case that was not measured."""
    row: dict[str, Any] = dict.fromkeys(RESULT_COLUMNS)
    row |= {k: v for k, v in case.to_json().items() if k in row}
    return row | {
        "case": case.id,
        "status": status,
        "reason": reason,
        "epochs": 5,
        "launches": 0,
        "rounds": 0,
        "score": "accuracy",
        "better": "max",
        "score_target": 0.85,
        "device_name": "",
        "warnings": "",
    }


def _measured(case: Case, chance: random.Random) -> tuple[dict[str, Any], Rows]:
    if case == logistic_case():
        return _logistic(case, chance)
    launches, count = (1, 5) if case.loop == "fit" else (3, 20)
    speed = _speed(case)
    medians, rounds = [], []
    for launch in range(launches):
        median = speed * chance.lognormvariate(0, 0.03)
        medians.append(math.log(median))
        for number in range(1, count + 1):
            seconds = TRAINING_SAMPLES / (median * chance.lognormvariate(0, 0.025))
            rounds.append(_round(case, launch, number, TRAINING_SAMPLES, seconds))
    mean = sum(medians) / launches
    row = not_ok(case, "ok", "") | {
        "samples_per_s": math.exp(mean),
        "epoch_s": TRAINING_SAMPLES / math.exp(mean),
        "launches": launches,
        "rounds": launches * count,
        "val_score": _accuracy(case) + chance.gauss(0, 0.003),
        "device_name": _device_name(case),
    }
    if launches > 1:
        # Student's t for 95% and two degrees of freedom.
        spread = sum((m - mean) ** 2 for m in medians) / (launches - 1)
        half = 4.303 * math.sqrt(spread / launches)
        row |= {"samples_per_s_low": math.exp(mean - half)}
        row |= {"samples_per_s_high": math.exp(mean + half)}
    return row, rounds


def _logistic(case: Case, chance: random.Random) -> tuple[dict[str, Any], Rows]:
    samples = 48_000 * 20
    times = [17.0 * chance.lognormvariate(0, 0.02) for _ in range(5)]
    rounds = [_round(case, 0, i, samples, seconds, 0.84) for i, seconds in enumerate(times, 1)]
    rounds.append(_round(case, 0, 6, 60_000 * 20, 21.0))
    speed = samples / sorted(times)[2]
    measured = {"samples_per_s": speed, "epoch_s": 60_000 / speed, "val_score": 0.8413}
    own = {"epochs": None, "launches": 1, "rounds": 6, "device_name": _device_name(case)}
    return not_ok(case, "ok", "") | measured | own, rounds


def _round(
    case: Case,
    launch: int,
    number: int,
    samples: int,
    seconds: float,
    accuracy: float | None = None,
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(ROUND_COLUMNS)
    own = {"case": case.id, "launch": launch, "attempt": 1, "round": number, "samples": samples}
    return row | own | {"seconds": seconds, "updates": 1500, "val_score": accuracy}


def _speed(case: Case) -> float:
    batch: float = (case.batch_size / 32) ** (0.85 if case.loop == "fit" else 0.45)
    speed = _SPEED[case.loop] / _WORK.get(case.model, 1.2) / _COST.get(case.optimizer, 1.1)
    return speed * batch * _PRECISION.get(case.precision, 1.0) * _DEVICE.get(case.device, 1.0)


def _accuracy(case: Case) -> float:
    return _ACCURACY.get(case.model, 0.86) + _GAIN.get(case.optimizer, 0.0)


def _device_name(case: Case) -> str:
    return ENVIRONMENT["cpu"]["model"] if case.device == "cpu" else "NVIDIA H100 80GB HBM3"
