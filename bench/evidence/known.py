"""Profiles of what costs a known time: is it found again, and in the right phase?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.case import Case
from bench.errors import UserError
from bench.evidence.live import BURNING, TURNS, turn_seconds
from bench.phases import Phase
from bench.profile_tables import Profile
from bench.profiling import profile
from bench.record import RunSettings
from bench.store import Plan

SLEEPING, SLEEP = "bench.evidence.sleepy:relu_mlp", "FMNIST_SLEEP_S"
SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Injection:
    """Something of a known cost.

    Attributes:
        phase: in which it must be found.
        variable: of the environment, which holds its amount.
        seconds: of a step, about: long beside the noise of a shared machine, short enough for
            many rounds.
    """

    model: str
    loop: str
    phase: Phase
    variable: str
    seconds: float


INJECTIONS = (
    Injection(BURNING, "compiled", Phase.FORWARD, TURNS, 0.0003),
    Injection(BURNING, "multistep", Phase.FORWARD, TURNS, 0.001),
    Injection(BURNING, "fit", Phase.FORWARD, TURNS, 0.003),
    Injection(SLEEPING, "fit", Phase.INPUT, SLEEP, 0.003),
)


def truth_rows(folder: Path, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Profile each injection with and without its cost; a row each.

    The known share is the known seconds over the step as measured with them; the found one the
    difference of the phase between both profiles, over the same step.

    Raises:
        UserError: a profile failed.
    """
    turn_s = turn_seconds(folder)
    rows = []
    for number, injection in enumerate(INJECTIONS):
        sleeps = injection.variable == SLEEP
        amount = injection.seconds if sleeps else round(injection.seconds / turn_s)
        known_s = amount if sleeps else amount * turn_s
        without, with_ = (
            _profiled(injection, value, folder / f"{number}-{value}", told) for value in (0, amount)
        )
        rows.append(truth_row(injection, known_s, without, with_))
    return rows


def truth_row(
    injection: Injection, known_s: float, without: Profile, with_: Profile
) -> dict[str, Any]:
    """What was known and what was found of one injection."""
    assert without.split is not None
    assert with_.split is not None
    phase, step_s = injection.phase, with_.split.step_s
    found_s = with_.split.seconds(phase) - without.split.seconds(phase)
    return {
        "case": with_.case.id,
        "phase": str(phase),
        "known_s": known_s,
        "found_s": found_s,
        "step_s": step_s,
        "known_share": known_s / step_s,
        "found_share": found_s / step_s,
        "found_over_known": found_s / known_s,
        "unexplained": with_.split.unexplained,
    }


def _profiled(
    injection: Injection, value: float, folder: Path, told: Callable[[str], None]
) -> Profile:
    plan = Plan((Case(injection.model, "adam", injection.loop),), RunSettings(timeout_s=900.0))
    with _variable({injection.variable: str(value)}):
        outcome = profile(plan, folder, told, seconds=SECONDS, wait=True)
    found = outcome.profiles[0]
    if found.split is None:
        raise UserError(f"{found.case.id} with {injection.variable}={value}: "
                        f"{found.record.reason}")  # fmt: skip
    return found


@contextmanager
def _variable(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment with some variables more, for as long as the context lasts."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
