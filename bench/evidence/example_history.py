"""A made history of four months of daily runs, with changes of each kind put in."""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import sqlite3
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.evidence.made_runs import MACHINE, Made, make_run
from bench.schema.case import Case
from bench.store.history.history import History
from bench.store.history.record import kept
from bench.store.measured import read_run
from bench.store.run_folder import RunFolder
from fmnist_models.errors import UserError

RUNS, SEED = 120, 2026
NAME = "made up"
CASES = tuple(
    Case(model, optimizer, loop)
    for model in ("softmax", "relu_mlp")
    for optimizer in ("sgd", "adam")
    for loop in ("fit", "compiled")
)
# The runs from which a case is as it is put in.
SLOWER_FROM, DRIVER_FROM, WORSE_FROM = 60, 81, 100
SLOWER, BY_DRIVER, SCORE = 1.12, 1.08, 0.74
_SLOWER = CASES[4]
_BY_DRIVER = (CASES[3], CASES[7])
_WORSE = CASES[2]
# What all cases of a day share, and the luck of a day's seeds in the score.
_DAYS, _LUCK = 0.02, 0.003
_BEGAN = datetime(2026, 1, 1, 3, tzinfo=UTC)


def write_example(file: Path, number: int = RUNS) -> None:
    """Write the history of the first so many runs to a new SQLite file, labelled as made.

    From a commit on a case is 12% slower; with another driver two are 8% slower; from a later
    commit on a case loses eleven points of accuracy. Days differ by 2% for all cases together.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    if file.exists():
        raise UserError(f"{file} exists: name a new --output")
    with tempfile.TemporaryDirectory() as folder, History(file) as history:
        history.make_ready()
        runs = (_run(Path(folder) / str(day), day) for day in range(number))
        history.add_all([kept(read_run(run)) for run in runs])
    settle(file)


def settle(file: Path) -> None:
    """Leave one file, as small as it can be, that a reader puts no other file beside."""
    with contextlib.closing(sqlite3.connect(file)) as opened:
        opened.execute("PRAGMA journal_mode=DELETE")
        opened.execute("VACUUM")


def _run(path: Path, number: int) -> Path:
    chance = random.Random(SEED - number)
    day = math.exp(chance.gauss(0, _DAYS))

    def put_in(case: Case) -> Made:
        """What the story has of a case on this day."""
        times = day
        if case == _SLOWER and number >= SLOWER_FROM:
            times *= SLOWER
        if case in _BY_DRIVER and number >= DRIVER_FROM:
            times *= BY_DRIVER
        score = SCORE if case == _WORSE and number >= WORSE_FROM else 0.85
        return Made(times, score + chance.gauss(0, _LUCK))

    make_run(path, SEED + number, CASES, rounds=5, launches=1, put_in=put_in)
    RunFolder(path).write_environment(_environment(number))
    return path


def _environment(number: int) -> dict[str, Any]:
    time = _BEGAN + timedelta(days=number)
    # A commit serves two days. That of a change is new on its day, but where the driver is.
    commit = number // 2
    return MACHINE | {
        "label": NAME,
        "time_utc": time.isoformat(timespec="seconds"),
        "os": {"name": NAME, "kernel": "6.1.0"},
        "driver_version": "570.86" if number < DRIVER_FROM else "580.65",
        "git": {
            "revision": _commit(commit),
            "time_utc": (_BEGAN + timedelta(days=2 * commit, hours=-9)).isoformat(),
            "parents": [_commit(commit - 1)],
            "dirty": False,
        },
    }


def _commit(number: int) -> str:
    return hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()
