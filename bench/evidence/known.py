"""Profiles work of a known cost, and tests whether the profile shows it in the right phase."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.analysis.profile_rows import Profile
from bench.evidence.live import BURNING, TURNS, calibrated_turn_s
from bench.schema.case import Case
from bench.schema.plan import Plan, RunSettings
from bench.schema.profile import Phase
from bench.session.profile import profile
from fmnist_models.errors import UserError

SLEEPING, SLEEP, SLEPT = "bench.evidence.sleepy:relu_mlp", "FMNIST_SLEEP_S", "FMNIST_SLEPT_FILE"
# Seconds of the sleep for each row of a replica's share, and of that in each collective.
ROW, COLLECTIVE = "FMNIST_SLEEP_ROW_S", "FMNIST_SLEEP_COLLECTIVE_S"
SECONDS, PAIRS = 15.0, 3
_ORDERS = {False: ("without", "with"), True: ("with", "without")}


@dataclass(frozen=True, slots=True)
class Injection:
    """Additional work of a known cost.

    Attributes:
        model: the builder of the model with that work.
        loop: the loop that trains it.
        phase: the phase that must show the cost.
        variable: the environment variable with its amount.
        seconds: about its seconds in a step: long compared with the noise of a shared machine,
            short enough for many rounds.
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
    """Profile each injection with and without its cost, `PAIRS` times; one row per injection.

    Raises:
        UserError: a profile failed.
    """
    rows = []
    for number, injection in enumerate(INJECTIONS):
        pairs = []
        for pair in range(PAIRS):
            work = folder / f"{number}-{pair}"
            work.mkdir(parents=True)
            cost = _sleep if injection.variable == SLEEP else _burn
            # The first profile alternates, so that drift affects both alike.
            pairs.append(cost(injection, work, told, with_first=pair % 2 == 1))
        rows.append(truth_row(injection.phase, pairs))
    return rows


@dataclass(frozen=True, slots=True)
class Pair:
    """One injection, profiled without and with its cost.

    Attributes:
        alone_s: seconds of the injection in a step, measured by itself.
        without, with_: the profiles.
    """

    alone_s: float
    without: Profile
    with_: Profile


def truth_row(phase: Phase, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The known and the found cost of one injection, as means over its pairs.

    `alone_s` is the cost measured by itself: for the burning layer, in a separate process before
    and after the profile; for the sleep, as the pipeline recorded it. `added_s` is the increase of
    the whole step, `found_s` that of the phase. Shares are of the step with the injection.
    `lowest` and `highest` are the extremes over the pairs.
    """
    added, found, steps, unexplained = [], [], [], []
    for pair in pairs:
        without, with_ = pair.without.split, pair.with_.split
        assert without is not None
        assert with_ is not None
        added.append(with_.step_s - without.step_s)
        found.append(with_.seconds(phase) - without.seconds(phase))
        steps.append(with_.step_s)
        unexplained.append(with_.unexplained)
    alone_s, added_s = fmean(pair.alone_s for pair in pairs), fmean(added)
    found_s, step_s = fmean(found), fmean(steps)
    ratios = [f / a for f, a in zip(found, added, strict=True)]
    return {
        "case": pairs[0].with_.case.id,
        "phase": str(phase),
        "pairs": len(pairs),
        "step_s": step_s,
        "alone_s": alone_s,
        "added_s": added_s,
        "found_s": found_s,
        "added_share": added_s / step_s,
        "found_share": found_s / step_s,
        "found_over_alone": found_s / alone_s,
        "found_over_added": found_s / added_s,
        "lowest_over_added": min(ratios),
        "highest_over_added": max(ratios),
        "most_unexplained": max(unexplained, key=abs),
    }


def _sleep(
    injection: Injection, folder: Path, told: Callable[[str], None], *, with_first: bool
) -> Pair:
    seconds, profiles = {}, {}
    amounts = {"without": 0.0, "with": injection.seconds}
    for name in _ORDERS[with_first]:
        file = folder / f"{name}.txt"
        variables = {SLEEP: str(amounts[name]), SLEPT: str(file.resolve())}
        profiles[name] = _profiled(injection, variables, folder / name, told)
        seconds[name] = fmean(map(float, file.read_text("utf-8").split()))
    return Pair(seconds["with"] - seconds["without"], profiles["without"], profiles["with"])


def _burn(
    injection: Injection, folder: Path, told: Callable[[str], None], *, with_first: bool
) -> Pair:
    before_s = calibrated_turn_s()
    amounts = {"without": 0, "with": round(injection.seconds / before_s)}
    profiles = {
        name: _profiled(injection, {TURNS: str(amounts[name])}, folder / name, told)
        for name in _ORDERS[with_first]
    }
    turn_s = fmean((before_s, calibrated_turn_s()))
    return Pair(amounts["with"] * turn_s, profiles["without"], profiles["with"])


def _profiled(
    injection: Injection, variables: Mapping[str, str], folder: Path, told: Callable[[str], None]
) -> Profile:
    plan = Plan((Case(injection.model, "adam", injection.loop),), RunSettings(timeout_s=900.0))
    with environment(variables):
        outcome = profile(plan, folder, told, seconds=SECONDS, wait=True)
    found = outcome.profiles[0]
    if found.split is None:
        raise UserError(f"{found.case.id} with {variables}: {found.record.reason}")
    return found


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Within the context, add variables to the environment."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
