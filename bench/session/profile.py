"""A profile from its plan to its folder: where the time and the memory of each case go.

A profile is no run: it leaves parts of the work out and runs profilers. Its folder has no
results.csv, and `compare` and `check` do not accept it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.analysis import phases
from bench.analysis.phases import MOST_UNEXPLAINED
from bench.analysis.profile_rows import Profile
from bench.launch.launcher import Launcher
from bench.machine import devices, placement
from bench.machine.lock import the_folder, the_machine
from bench.machine.redact import scrub_text
from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.errors import ELSEWHERE, ExitCode, explained
from bench.schema.launch import Status
from bench.schema.plan import Plan
from bench.schema.profile import ProfileRecord, Readings
from bench.schema.requests import STACK, STARTUP, STEPS, ProfileRequest
from bench.session.places import place_of
from bench.session.preflight import (
    environment_of,
    new_folder_name,
    refuse_unusable,
    require_keras,
)
from bench.session.traces import read_traces, require_extra
from bench.store.files import ENVIRONMENT, PICTURE, refuse_unwritable, target_of
from bench.store.profile_folder import write_tables
from bench.store.tables import write_json
from fmnist_models.errors import UserError

SECONDS, MOST_SECONDS, ROUNDS = 30.0, 86_400.0, 9
# A hidden folder that is removed with its contents, so its name must not be one of a user.
_WORK = ".fmnist-bench-raw-traces"
_KEPT = "what was profiled so far is kept there: profile the rest into another --output"


@dataclass(frozen=True, slots=True)
class ProfileOutcome:
    """The outcome of profiling."""

    folder: Path
    profiles: tuple[Profile, ...]
    environment: Mapping[str, Any]
    interrupted: bool

    @property
    def exit_code(self) -> ExitCode:
        """130 if interrupted; 2 where a case failed; 0 where all ended ok or were skipped."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        fine = {Status.OK, Status.SKIPPED}
        if all(profile.record.status in fine for profile in self.profiles):
            return ExitCode.PASSED
        return ExitCode.WRONG_USE_OR_FAILED_CASE


def profile(
    plan: Plan,
    output: Path | None,
    told: Callable[[str], None],
    *,
    seconds: float = SECONDS,
    wait: bool = False,
    launcher: Launcher | None = None,
) -> ProfileOutcome:
    """Profile each case of `plan` in a fresh process, and write the tables.

    Args:
        plan: the cases; epochs and launches are ignored.
        output: the folder; None for a new one under results/.
        told: called with a line before each case.
        seconds: least seconds of the readings of a case.
        wait: wait for another run on this machine; otherwise another run is an error.
        launcher: starts the workers; None for a new one.

    Raises:
        UserError: a package is missing, another run has the lock, or the folder cannot be written
            or already holds results.
    """
    require_keras()
    require_extra(case.backend for case in plan.cases)
    refuse_unusable(plan)
    described = {**environment_of(plan), "command": plan.command}
    folder = output or new_folder_name("profile", plan.label)
    if os.path.lexists(folder / _WORK):
        # A killed profile left it; where a profile is still running, the lock raises.
        with the_folder(folder):
            shutil.rmtree(folder / _WORK, ignore_errors=True)
    _refuse_taken(folder)
    interrupted = False
    with (
        the_machine(told, wait),
        the_folder(folder),
        launcher or Launcher(data=plan.settings.data) as launching,
        _raw_traces(folder) as work,
    ):
        _refuse_taken(folder)
        with explained(folder, ELSEWHERE):
            write_json(folder / "environment.json", described)
        under_way = _Profiling(plan, folder, work, seconds)
        try:
            for number, case in enumerate(plan.cases, 1):
                told(f"{number} of {len(plan.cases)}: {case.id}")
                under_way.add(case, launching)
        except KeyboardInterrupt:
            interrupted = True
    return ProfileOutcome(folder, tuple(under_way.profiles), described, interrupted)


class _Profiling:
    """A running profile; the tables are written again after each case."""

    def __init__(self, plan: Plan, folder: Path, work: Path, seconds: float) -> None:
        self._plan = plan
        self._folder = folder
        self._work = work
        self._traces = folder / "traces"
        self._seconds = seconds
        self._inventory = devices.inventory()
        self.profiles: list[Profile] = []

    def add(self, case: Case, launcher: Launcher) -> None:
        """Profile one case, and write the tables."""
        reason = placement.skip_reason(case, self._inventory, self._plan)
        if case.loop == SKLEARN_LOOP:
            reason = "scikit-learn's fit has no steps that could be taken apart"
        if case.processes > 1:
            reason = (
                "a profile takes the step of one process apart: name --processes one with the "
                "backend jax or tensorflow, or leave --replicas out"
            )
        if refused := self._plan.refused.get(case.id):
            found = Profile(ProfileRecord(case, Status.FAILED, refused))
        elif reason:
            found = Profile(ProfileRecord(case, Status.SKIPPED, reason))
        else:
            found = self._profile(case, launcher)
        self.profiles.append(found)
        with explained(self._folder, _KEPT):
            write_tables(self.profiles, self._folder)

    def _profile(self, case: Case, launcher: Launcher) -> Profile:
        settings = self._plan.settings
        name = case.file_name
        work, log = self._work / name, self._folder / "logs" / f"{name}.txt"
        with explained(self._folder, _KEPT):
            log.parent.mkdir(exist_ok=True)
            work.mkdir(parents=True, exist_ok=True)
        # The readings take `seconds` in addition to the work of a launch.
        limit_s = settings.timeout_s + self._seconds
        place = place_of(case, self._inventory, log, settings)
        place = replace(place, fork=False, timeout_s=limit_s)
        request = ProfileRequest(
            case,
            settings.seed,
            str(work.resolve()),
            self._seconds,
            ROUNDS,
            settings.steps,
            settings.cache_stream,
        )
        record = launcher.profile(request, place)
        if record.readings is None:
            return Profile(record)
        log.unlink(missing_ok=True)
        return self._read(record, record.readings, work)

    def _read(self, record: ProfileRecord, readings: Readings, work: Path) -> Profile:
        split = phases.split(record.case.loop, readings.wall_s, readings.cpu_s)
        if abs(split.unexplained) > MOST_UNEXPLAINED:
            warning = f"{split.unexplained:.0%} of the step is not explained"
            record = replace(record, warnings=(*record.warnings, warning))
        trace, stack = None, None
        try:
            trace = read_traces(
                work / STARTUP, work / STEPS, self._traces, work.name, readings.model_name
            )
        except (OSError, ValueError, LookupError) as error:
            warning = f"the trace cannot be read: {scrub_text(str(error))}"
            record = replace(record, warnings=(*record.warnings, warning))
        if (work / STACK).exists():
            with explained(self._folder, _KEPT):
                self._traces.mkdir(exist_ok=True)
                stack = (work / STACK).replace(self._traces / f"{work.name}-{STACK}")
        return Profile(record, split, trace, stack)


@contextlib.contextmanager
def _raw_traces(folder: Path) -> Iterator[Path]:
    """A folder for the workers' raw traces, which is removed at the end, also after an error.

    A folder that a killed profile left is removed too.
    """
    work = folder / _WORK
    shutil.rmtree(work, ignore_errors=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):
            # Removed only where it is empty: no case left a log.
            (folder / "logs").rmdir()


def _refuse_taken(folder: Path) -> None:
    refuse_unwritable(folder, "--output")
    for name in (
        "profile.csv",
        "plan.json",
        "rounds.csv",
        "launches.jsonl",
        "results.csv",
        "duel.json",
    ):
        if (folder / name).exists():
            raise UserError(f"{folder} already holds {name}: name another --output")
    for name in ("operations.csv", "memory.csv", "startup.csv", "profiles.jsonl", "traces"):
        # Beside an environment.json of the suite, they are of a killed profile.
        if (folder / name).exists() and not (folder / "environment.json").exists():
            raise UserError(f"{folder} holds {name} of no profile: name another --output")
    for name, kind in (("environment.json", ENVIRONMENT), ("profile.png", PICTURE)):
        target_of(folder / name, kind)
