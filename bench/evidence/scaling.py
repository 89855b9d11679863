"""Puts a known sleep into each collective, and compares a run's efficiency with what it must be.

The steps sleep too, for each row, so that replicas share their time on any machine, and the
speed-up is real. What the sleep in the collectives must cost follows from the steps without it, and
from the sleeps that the processes noted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.evidence.known import COLLECTIVE, ROW, SLEPT, environment
from bench.schema.case import Case
from bench.schema.launch import Status
from bench.schema.plan import Plan, RunSettings
from bench.session import preflight
from bench.session.events import Progress
from bench.session.run import execute
from fmnist_models import dataset
from fmnist_models.errors import UserError

MODEL = "bench.evidence.asleep:relu_mlp"
ROW_S = 0.004
SLEEPS_S: tuple[float, ...] = (0.0, 0.032, 0.128)
REPLICAS: tuple[int, ...] = (1, 2, 4)
BATCH, EPOCHS, LAUNCHES = 128, 4, 3
# Of which four fifths are trained on: four steps of a batch.
_IMAGES = 640


def scaling_rows(
    work: Path,
    told: Callable[[str], None],
    sleeps_s: Sequence[float] = SLEEPS_S,
    replicas: Sequence[int] = REPLICAS,
    launches: int = LAUNCHES,
) -> list[dict[str, Any]]:
    """One row for each sleep and number of replicas above one.

    `expected` is the efficiency that follows from the step of one replica and that of so many, both
    without a sleep in the collectives, and from the mean of the sleeps there: `slept_s`.

    Args:
        work: a folder for data, runs and notes.
        told: is given a line for each row.
        sleeps_s: seconds of the sleep in each collective, the first of which is 0.
        replicas: numbers of replicas, the first of which is one.
        launches: launches of each case.

    Raises:
        UserError: a launch did not end ok.
    """
    images = dataset.load()
    few = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    dataset.write(work / "data", *(part[:_IMAGES] for part in few))
    rows = []
    without: dict[int, float] = {}
    for sleep_s in sleeps_s:
        for row in _measured(work, sleep_s, replicas, launches):
            number, slept = row["replicas"], row["slept_s"]
            step_s = without.setdefault(number, row["step_s"])
            if number == 1:
                continue
            expected = without[1] / (number * (step_s + slept)) if sleep_s else None
            rows.append({**row, "expected": expected})
            must = "" if expected is None else f", and {expected:.3f} it must be"
            told(
                f"{number} replicas, {sleep_s:g} s in each collective: efficiency "
                f"{row['efficiency']:.3f}{must}"
            )
    return rows


def _measured(
    work: Path, sleep_s: float, replicas: Sequence[int], launches: int
) -> list[dict[str, Any]]:
    notes = work / f"notes-{sleep_s:g}"
    notes.mkdir()
    cases = tuple(
        Case(MODEL, "adam", "compiled", "cpu", BATCH, backend="torch", threads=1, replicas=n)
        for n in replicas
    )
    cases = tuple(replace(case, processes=case.replicas) for case in cases)
    settings = RunSettings(
        epochs=EPOCHS, launches=launches, data=str(work / "data"), timeout_s=900.0
    )
    plan = Plan(cases, settings, "scaling")
    variables = {ROW: str(ROW_S), COLLECTIVE: str(sleep_s), SLEPT: str(notes.resolve())}
    with environment(variables):
        opening = preflight.begin(plan, work / f"run-{sleep_s:g}")
        outcome = execute(plan, opening, Progress(), wait=True, trial=True)
    for row in outcome.rows:
        if row["status"] != Status.OK:
            raise UserError(f"{row['case']}: {row['reason']}")
    return [
        {
            "collective_s": sleep_s,
            "replicas": row["replicas"],
            "launches": row["launches"],
            "step_s": row["step_ms"] / 1e3,
            "slept_s": slept_s(notes, BATCH // row["replicas"]),
            **{name: row[name] for name in ("efficiency", "efficiency_low", "efficiency_high")},
        }
        for row in outcome.rows
    ]


def slept_s(notes: Path, rows: int) -> float:
    """Mean seconds of a collective of processes with so many rows a step, from what they noted."""
    found = []
    for file in notes.iterdir():
        lines = [line.rpartition(" ") for line in file.read_text("utf-8").splitlines()]
        if f"{rows} rows" in {what for what, *_ in lines}:
            found += [float(seconds) for what, _, seconds in lines if what == "collective"]
    return fmean(found) if found else 0.0
