"""Compares the suite's `fit` with a bare script that does the same work, in turns."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from bench.analysis.stats import student_interval
from bench.launch.launcher import Launcher
from bench.launch.origin import child_command
from bench.launch.placement import LaunchPlace
from bench.machine.devices import inventory
from bench.machine.placement import child_environment
from bench.schema.case import Case
from bench.schema.launch import Round, Status
from bench.schema.requests import LaunchRequest
from fmnist_models.errors import UserError

PAIRS, EPOCHS, SEED = 8, 5, 42
_LIMIT_S = 600.0


def overhead_rows(
    cases: Sequence[Case], work: Path, told: Callable[[str], None], pairs: int = PAIRS
) -> list[dict[str, Any]]:
    """One row a case: seconds of the suite's epochs over those of the bare script, with interval.

    Args:
        cases: cases of the loop `fit` on the CPU.
        work: folder for logs.
        told: is given a line for each pair.
        pairs: pairs of fresh processes; which one goes first alternates.

    Raises:
        UserError: a process failed.
    """
    rows = []
    for case in cases:
        found = []
        for pair in range(pairs):
            ways = [_suite_s, _bare_s] if pair % 2 == 0 else [_bare_s, _suite_s]
            seconds = {way.__name__: way(case, work) for way in ways}
            found.append((seconds["_suite_s"], seconds["_bare_s"]))
            told(f"{case.id}: suite {found[-1][0]:.3f} s, bare {found[-1][1]:.3f} s")
        logs = [math.log(suite / bare) for suite, bare in found]
        interval = student_interval(logs)
        rows.append(
            {
                "case": case.id,
                "pairs": pairs,
                "epochs": EPOCHS,
                "suite_over_bare": math.exp(fmean(logs)),
                "low": interval and math.exp(interval[0]),
                "high": interval and math.exp(interval[1]),
                "bare_s": median(bare for _, bare in found),
            }
        )
    return rows


def _suite_s(case: Case, work: Path) -> float:
    """Seconds of the epochs in a launch of the suite, with the idle time between them."""
    rounds: list[Round] = []
    place = LaunchPlace(child_environment(case, inventory()), False, work / "suite.log", _LIMIT_S)
    with Launcher() as launcher:
        record = launcher.run(LaunchRequest(case, 0, 1, EPOCHS, SEED), place, rounds.append)
    if record.status is not Status.OK:
        raise UserError(f"{case.id} ended {record.status}: {record.reason}")
    return sum(r.seconds + r.between_epochs_s for r in rounds) + (record.after_training_s or 0.0)


def _bare_s(case: Case, work: Path) -> float:
    """Seconds of `Model.fit` over the same epochs in a script without the suite."""
    command = [*child_command("bench.evidence.overhead"), json.dumps(case.to_json())]
    with (work / "bare.log").open("a") as log:
        told = subprocess.run(
            command,
            env=child_environment(case, inventory()),
            stdout=subprocess.PIPE,
            stderr=log,
            check=False,
            timeout=_LIMIT_S,
        )
    if told.returncode:
        raise UserError(f"the bare script ended with {told.returncode}: see {work / 'bare.log'}")
    return float(told.stdout.splitlines()[-1])


def train_bare(case: Case) -> float:
    """Train as a user's script does, and return the seconds of `Model.fit`.

    The first step is compiled before, by a `fit` on two batches, as the suite does it.
    """
    import keras

    from fmnist_models import dataset, optimizers
    from fmnist_models.arrays import Arrays
    from fmnist_models.task import task_of

    keras.utils.set_random_seed(SEED)
    task = task_of(case.model)
    data, _, _ = task.data(dataset.split(dataset.load()), case.batch_size)
    model = task.model
    if not task.compiled:
        optimizer = optimizers.create(case.optimizer)
        model.compile(optimizer, loss=task.loss, metrics=list(task.metrics))
    if not isinstance(data, Arrays):
        model.fit(data.open(), steps_per_epoch=2, verbose=0)
        stream = data.open()
        began = time.perf_counter()
        model.fit(stream, epochs=EPOCHS, verbose=0)
        return time.perf_counter() - began
    few = data.first(2 * case.batch_size + data.rows % case.batch_size)
    model.fit(few.x, few.y, batch_size=case.batch_size, verbose=0)
    began = time.perf_counter()
    model.fit(data.x, data.y, batch_size=case.batch_size, epochs=EPOCHS, verbose=0)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.stdout.write(f"{train_bare(Case.from_json(json.loads(sys.argv[1])))}\n")
