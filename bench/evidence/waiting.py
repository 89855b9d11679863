"""Puts known sleeps into a stream, and compares a row's account of the wait with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.evidence.known import SLEEP, SLEPT
from bench.launch.launcher import Launcher
from bench.launch.placement import LaunchPlace
from bench.machine.devices import inventory
from bench.machine.placement import child_environment
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.requests import LaunchRequest
from fmnist_models.errors import UserError

AHEAD = "FMNIST_SLEEP_AHEAD"
STREAM = "bench.evidence.sleepy:stream"
SLEEPS_S: tuple[float, ...] = (0.0, 0.002, 0.005, 0.01, 0.02, 0.04)
# Batches that the pipeline prepares while a step trains.
AHEADS: tuple[int, ...] = (0, 4)
BATCH, STEPS, ROUNDS = 256, 60, 3
_LIMIT_S = 300.0


def waiting_rows(
    work: Path,
    told: Callable[[str], None],
    sleeps_s: Sequence[float] = SLEEPS_S,
    steps: int = STEPS,
) -> list[dict[str, Any]]:
    """One row for each sleep, without and with batches prepared in advance.

    Args:
        work: folder for logs and notes.
        told: is given a line for each row.
        sleeps_s: seconds of the sleep before each batch.
        steps: steps of a round.

    Raises:
        UserError: a launch did not end ok.
    """
    rows = []
    for ahead in AHEADS:
        for sleep_s in sleeps_s:
            notes = work / f"slept-{ahead}-{sleep_s:g}.txt"
            record, rounds = _launched(work, notes, sleep_s, ahead, steps)
            slept_s = fmean(map(float, notes.read_text().split()))
            rows.append(waiting_row(record, rounds, slept_s, sleep_s, ahead))
            told(f"sleep {sleep_s:g} s, {ahead} ahead: {rows[-1]}")
    return rows


def waiting_row(
    record: LaunchRecord, rounds: Sequence[Round], slept_s: float, sleep_s: float, ahead: int
) -> dict[str, Any]:
    """What a launch says of its wait, beside what follows from the measured sleep.

    Without batches in advance, a step waits for the whole sleep. With some, the next batch is made
    while a step trains, so it waits only for what the sleep is longer than the step. `waited_s` is
    the share of the row times its step in the timed rounds, which were measured apart.

    Args:
        record: the launch.
        rounds: its rounds.
        slept_s: mean seconds of a sleep, as the pipeline noted them.
        sleep_s: seconds that it was asked to sleep.
        ahead: number of batches that the pipeline prepares in advance.
    """
    assert record.resident_step_s is not None
    wait_s = max(0.0, slept_s - record.resident_step_s) if ahead else slept_s
    seconds, steps = sum(r.seconds for r in rounds), sum(r.updates for r in rounds)
    return {
        "sleep_s": sleep_s,
        "batches_ahead": ahead,
        "slept_s": slept_s,
        "resident_step_s": record.resident_step_s,
        "waiting_share": record.waiting_share,
        "round_step_s": seconds / steps,
        "waited_s": (record.waiting_share or 0.0) * seconds / steps,
        "expected_wait_s": wait_s,
    }


def _launched(
    work: Path, notes: Path, sleep_s: float, ahead: int, steps: int
) -> tuple[LaunchRecord, list[Round]]:
    case = Case(STREAM, "sgd", "fit", "cpu", BATCH)
    request = LaunchRequest(case, 0, 1, ROUNDS, 1, steps=steps)
    rounds: list[Round] = []
    with _variables({SLEEP: f"{sleep_s}", SLEPT: str(notes), AHEAD: str(ahead)}):
        environment = child_environment(case, inventory())
    place = LaunchPlace(environment, fork=False, log=work / "waiting.log", timeout_s=_LIMIT_S)
    with Launcher() as launcher:
        record = launcher.run(request, place, rounds.append)
    if record.status is not Status.OK:
        raise UserError(f"the launch ended {record.status}: {record.reason}")
    return record, rounds


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Within the context, the environment has these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
