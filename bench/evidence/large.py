"""Measures how much memory a launch needs beside a user's own large data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.launch.launcher import Launcher
from bench.launch.origin import child_command
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
    """One row a loop, and one of a bare script: the memory beside the data, in copies of them.

    Args:
        data_bytes: size of the data.
        work: folder for logs.

    Raises:
        UserError: a launch or the script failed.
    """
    peaks = {loop: _peak_bytes(loop, data_bytes, work) for loop in LOOPS}
    peaks["bare Model.fit"] = _bare_peak_bytes(data_bytes, work)
    return [
        {
            "way": way,
            "data_bytes": data_bytes,
            "peak_bytes": peak,
            "copies": (peak - data_bytes) / data_bytes,
        }
        for way, peak in peaks.items()
    ]


def _case(loop: str) -> Case:
    return Case("bench.evidence.large:workload", "sgd", loop, "cpu", _BATCH)


def _environment(data_bytes: int) -> dict[str, str]:
    return {**child_environment(_case("fit"), inventory()), BYTES: str(data_bytes)}


def _peak_bytes(loop: str, data_bytes: int, work: Path) -> int:
    place = LaunchPlace(_environment(data_bytes), False, work / "large.log", _LIMIT_S)
    with Launcher() as launcher:
        record = launcher.run(LaunchRequest(_case(loop), 0, 1, 1, 1), place, lambda _: None)
    if record.status is not Status.OK:
        raise UserError(f"{loop} ended {record.status}: {record.reason}")
    return record.peak_host_memory_bytes or 0


def _bare_peak_bytes(data_bytes: int, work: Path) -> int:
    """The same of a script that calls `Model.fit`, in a process of its own."""
    with (work / "bare.log").open("a") as log:
        try:
            told = subprocess.run(
                child_command("bench.evidence.large"),
                env=_environment(data_bytes),
                stdout=subprocess.PIPE,
                stderr=log,
                check=False,
                timeout=_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"the bare script took longer than {_LIMIT_S:g} s") from None
    if told.returncode:
        raise UserError(f"the bare script ended with code {told.returncode}")
    return int(told.stdout.splitlines()[-1])


def train_bare() -> int:
    """Train as a user's script does; returns the rise of the memory's peak in bytes."""
    import keras  # noqa: F401 - its import is no memory of the training

    from bench.worker.memory import PeakMemory

    memory = PeakMemory()
    given = workload()
    given.model.compile("sgd", loss=given.loss, metrics=list(given.metrics))
    data: Any = given.train
    given.model.fit(*data, batch_size=_BATCH, verbose=0)
    return memory.rise_bytes() or 0


if __name__ == "__main__":
    sys.stdout.write(f"{train_bare()}\n")
