"""Measures how much memory a launch needs beside a user's own large data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.launch.launcher import Launcher
from bench.launch.placement import LaunchPlace
from bench.machine.devices import inventory
from bench.machine.placement import child_environment
from bench.schema.case import Case
from bench.schema.launch import Status
from bench.schema.requests import LaunchRequest
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from fmnist_models import Workload

# Variable with the size of the data.
BYTES = "FMNIST_LARGE_BYTES"
LOOPS = ("fit", "multistep", "compiled")
_FEATURES, _BATCH, _LIMIT_S = 1024, 1024, 600.0


def workload() -> Workload:
    """A small network on float32 data of a known size, made in place."""
    import keras
    import numpy as np

    from fmnist_models import Workload

    rows = int(os.environ[BYTES]) // (4 * _FEATURES)
    x = np.empty((rows, _FEATURES), np.float32)
    np.random.default_rng(0).random(out=x, dtype=np.float32)
    model = keras.Sequential(
        [keras.Input((_FEATURES,)), keras.layers.Dense(2, activation="softmax")]
    )
    y = np.arange(rows, dtype=np.int32) % 2
    return Workload(
        model=model, train=(x, y), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )


def memory_rows(data_bytes: int, work: Path) -> list[dict[str, Any]]:
    """One row a loop: the memory that a launch needs beside the user's data, in copies of them.

    Args:
        data_bytes: size of the data.
        work: folder for logs.

    Raises:
        UserError: a launch did not end ok.
    """
    rows = []
    for loop in LOOPS:
        case = Case("bench.evidence.large:workload", "sgd", loop, "cpu", _BATCH)
        environment = {**child_environment(case, inventory()), BYTES: str(data_bytes)}
        place = LaunchPlace(environment, False, work / "large.log", _LIMIT_S)
        with Launcher() as launcher:
            record = launcher.run(LaunchRequest(case, 0, 1, 1, 1), place, lambda _: None)
        if record.status is not Status.OK:
            raise UserError(f"{case.id} ended {record.status}: {record.reason}")
        peak = record.peak_host_memory_bytes or 0
        rows.append(
            {
                "loop": loop,
                "data_bytes": data_bytes,
                "peak_bytes": peak,
                "copies": (peak - data_bytes) / data_bytes,
            }
        )
    return rows
