"""Carries out all trials, and counts the results of each kind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cli.history import history_at
from bench.evidence.fleets import MadeFleet, make_fleet
from bench.evidence.torture import files, inputs, kills, places
from bench.evidence.torture.worker import SALT
from bench.launch.origin import child_command
from bench.store.measured import read_run
from bench.store.run_folder import RunFolder
from fmnist_models import dataset
from fmnist_models.errors import UserError

TRAINING_IMAGES, TEST_IMAGES = 1_000, 200


@dataclass(frozen=True, slots=True)
class Extent:
    """The numbers of trials.

    Attributes:
        scripted, real: kills of commands with the scripted worker, and with TensorFlow.
        files: damaged files.
        short: only a few trials of each kind in `places`.
    """

    scripted: int
    real: int
    files: int
    short: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one trial.

    Attributes:
        kind: what was done.
        of: the verb or file that it was done to.
        problems: what was wrong after it.
        kept: number of rounds on disk when the command was killed.
    """

    kind: str
    of: str
    problems: tuple[str, ...]
    kept: int = 0


def tried(folder: Path, extent: Extent, seed: int, told: Callable[[str], None]) -> list[Row]:
    """Carry out every trial below `folder`, which must be new.

    Args:
        folder: the folder of the trials, which keeps their logs.
        extent: the numbers of trials.
        seed: the seed of all random draws.
        told: called with a line before each kind, and after each trial with a problem.

    Raises:
        UserError: the folder cannot be created, or a command fails without any disturbance.
    """
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}: name a new --work") from error
    ground = made_ground(folder.resolve())
    rows = []
    for row in _trials(folder.resolve(), ground, extent, seed, told):
        if row.problems:
            told(f"{row.kind}, {row.of}: {'; '.join(row.problems)}")
        rows.append(row)
    return rows


def made_ground(folder: Path) -> inputs.Ground:
    """Make a small data set, four runs of the scripted worker, their history, and a fleet.

    Raises:
        UserError: a run failed.
    """
    data, baseline, typed = folder / "data", folder / "baseline", folder / "typed"
    whole = dataset.load()
    dataset.write(
        data,
        whole.train_images[:TRAINING_IMAGES],
        whole.train_labels[:TRAINING_IMAGES],
        whole.test_images[:TEST_IMAGES],
        whole.test_labels[:TEST_IMAGES],
    )
    typed.mkdir()
    names = ("baseline/one", "baseline/two", "baseline/three", "candidate")
    for day, name in enumerate(names, 1):
        _scripted_run(folder, name, data, day)
    fleet = make_fleet(folder / "fleet", MadeFleet(3, 1, launches=1, rounds=5), 0)
    history = folder / "history.sqlite"
    id_of_one = _history_of([folder / name for name in names], history)
    candidate = folder / "candidate"
    return inputs.Ground(typed, candidate, baseline, data, fleet, history, id_of_one)


def _history_of(runs: list[Path], file: Path) -> str:
    """Make a history of these runs, and return the id of one."""
    with history_at(str(file)) as there:
        # Imported only where what it needs is known to be there.
        from bench.store.history.record import kept

        there.add_all([kept(read_run(run)) for run in runs])
        return there.runs()[0].id


def _scripted_run(folder: Path, name: str, data: Path, day: int) -> None:
    """A run by the scripted worker in the folder `name`, with a time of its own on the `day`."""
    words = (
        "run",
        "--models",
        "relu_mlp",
        "--optimizers",
        "adam",
        "--loops",
        "fit,compiled",
        "--devices",
        "cpu",
        "--precisions",
        "float32",
        "--batch-sizes",
        "50,100",
        "--epochs",
        "1",
        "--launches",
        "2",
        "--data",
        str(data),
        "--no-report",
        "--output",
        str(folder / name),
        "--wait",
    )
    done = subprocess.run(
        [*child_command("bench.evidence.torture.scripted"), *words],
        env={**os.environ, SALT: name},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{name}: a scripted run failed: {done.stderr.strip()[-200:]}")
    run = RunFolder(folder / name)
    # Stored runs must have different times.
    began = f"2026-03-{day:02d}T12:00:00+00:00"
    run.write_environment({**(run.environment() or {}), "time_utc": began})


def counts(rows: list[Row]) -> list[dict[str, Any]]:
    """One row per kind and verb or file: trials, wrong ones, and rounds on disk at the kills."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        count = found.setdefault(
            (row.kind, row.of),
            {"kind": row.kind, "of": row.of, "trials": 0, "wrong": 0, "rounds_on_disk": 0},
        )
        count["trials"] += 1
        count["wrong"] += bool(row.problems)
        count["rounds_on_disk"] += row.kept
    return list(found.values())


def _trials(
    folder: Path, ground: inputs.Ground, extent: Extent, seed: int, told: Callable[[str], None]
) -> Iterator[Row]:
    torturer = kills.Torturer(folder / "kills", ground.data)
    told(f"{extent.scripted} kills with the scripted worker, {extent.real} with TensorFlow")
    for kill in kills.drawn(extent.scripted, extent.real, seed):
        trial = torturer.tried(kill)
        worker = "scripted" if kill.scripted else "real"
        kind = f"{kill.signal} of the {kill.target}, {worker} worker"
        if trial.hit == "none":
            kind = f"ended before {kind}"
        yield Row(kind, kill.verb, tuple(trial.problems), trial.kept)
    told("places taken away")
    asked = places.commands(ground.baseline, ground.candidate, ground.data)
    for loss in places.Thief(folder / "places", asked, seed).trials(short=extent.short):
        yield Row(loss.taken, loss.verb, tuple(loss.problems))
    told(f"{extent.files} damaged files")
    for damaged in files.torture(folder / "files", range(seed, seed + extent.files)):
        problem = [] if damaged.right else [f"{damaged.how}: {damaged.outcome}"]
        yield Row("damaged file", damaged.file, tuple(problem))
    told("wrong options and arguments")
    for words, wrong in inputs.mistakes(ground):
        mistake = inputs.answered(words, wrong, ground.folder)
        typed = " ".join(word[:20] for word in words)
        problems = tuple(f"{typed!a}: {problem}" for problem in mistake.problems)
        yield Row("wrong option or argument", words[0], problems)
