"""A run from its plan to its folder: the one path that every entry point takes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import devices, environment, noise
from bench.case import SKLEARN_LOOP, Case
from bench.errors import ExitCode
from bench.launch import CAN_FORK, Launcher, to_the_end
from bench.lock import the_machine
from bench.record import (
    LEAST,
    CeilingsRequest,
    LaunchRecord,
    LaunchRequest,
    Round,
    Status,
)
from bench.results import result_rows, time_split
from bench.schedule import schedule
from bench.store import Plan, RunFolder, StoredRound
from bench.worker_process import LaunchPlace, Turns

# What disturbs a launch is mostly gone at the next; three in a row, and the machine is so.
MOST_ATTEMPTS = 3


class Progress:
    """What a person sees while a run goes on: nothing, unless a subclass shows it."""

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """The launches that will be measured, in order."""

    def waits(self, reason: str) -> None:
        """Another run has the machine."""

    def ceilings_begin(self, moment: str) -> None:
        """What the machine does at best is measured next, `before` or `after` the cases."""

    def ceilings_fail(self, reason: str) -> None:
        """One setting's ceilings could not be measured; the run goes on without them."""

    def launch_begins(self, case: Case, launch: int) -> None:
        """A launch starts."""

    def round_ends(self, round_: Round) -> None:
        """A round of the launch ended."""

    def launch_voided(self, record: LaunchRecord) -> None:
        """The launch was disturbed, as its reason says, and starts again."""

    def launch_ends(self, record: LaunchRecord) -> None:
        """The launch ended, well or not."""

    def run_ends(self) -> None:
        """The last launch ended, or the run was stopped."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run leaves behind.

    Attributes:
        rows: the rows of results.csv.
        interrupted: stopped by Ctrl-C; `--resume` goes on.
        split: where the seconds of this execution went, by `results.time_split`.
    """

    folder: RunFolder
    plan: Plan
    rows: list[dict[str, Any]]
    launches: list[LaunchRecord]
    rounds: list[StoredRound]
    interrupted: bool
    split: Mapping[str, float]

    @property
    def exit_code(self) -> ExitCode:
        """2 where a case failed, was killed, timed out or was invalid; 0 otherwise."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        fine = {Status.OK, Status.SKIPPED}
        if all(row["status"] in fine for row in self.rows):
            return ExitCode.PASSED
        return ExitCode.WRONG_USE_OR_FAILED_CASE


def execute(
    plan: Plan,
    folder: RunFolder,
    progress: Progress,
    *,
    wait: bool = False,
    launcher: Launcher | None = None,
) -> RunOutcome:
    """Measure what of `plan` the folder does not hold yet.

    Ctrl-C ends the launch under way and the run; what was measured is kept.

    Raises:
        UserError: another run has the machine (unless `wait`), or the disk is full.
    """
    with (
        the_machine(progress.waits, wait),
        launcher or Launcher(data=plan.settings.data) as launching,
    ):
        return RunUnderWay(plan, folder, progress, launching).to_the_end()


class RunUnderWay:
    """A run under way: what is on disk, in memory as well.

    Args:
        environ: what the launches inherit.
        least: rounds and seconds, by loop, that a launch goes on for beyond its epochs.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        progress: Progress,
        launcher: Launcher,
        environ: Mapping[str, str] = os.environ,
        least: Mapping[str, tuple[int, float]] = LEAST,
    ) -> None:
        self._environ = environ
        self._least = least
        self._plan = plan
        self._folder = folder
        self._progress = progress
        self._launcher = launcher
        self._inventory = devices.inventory()
        self._rounds = folder.rounds()
        self._launches = folder.launches()
        self._ceilings = folder.ceilings()
        self._ceilings_s = 0.0
        self._always_disturbed = False

    def to_the_end(self) -> RunOutcome:
        """Measure what is not on disk yet, between the ceilings before and after."""
        settings = self._plan.settings
        order = schedule(self._plan.cases, settings.launches_of, settings.seed)
        done = {(r.case, r.launch) for r in self._launches if r.status is Status.OK}
        remaining = [(case, launch) for case, launch in order if (case.id, launch) not in done]
        self._progress.run_begins(self._plan, remaining)
        started, already = time.perf_counter(), len(self._launches)
        interrupted = False
        try:
            self._measure_ceilings("before", remaining)
            for case, launch in remaining:
                self.measure_launch(case, launch)
            self._measure_ceilings("after", remaining)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._progress.run_ends()
        rows = self._write_results()
        known = {"import": self._launcher.starting_s, "ceilings": self._ceilings_s}
        split = time_split(
            time.perf_counter() - started, known, self._launches[already:], self._rounds
        )
        return RunOutcome(
            self._folder, self._plan, rows, self._launches, self._rounds, interrupted, split
        )

    def measured(self, case: Case, launch: int) -> tuple[LaunchRecord | None, list[Round]]:
        """The last attempt of a launch, None where there was none, and its rounds."""
        records = [r for r in self._launches if (r.case, r.launch) == (case.id, launch)]
        if not records:
            return None, []
        key = (case.id, launch, records[-1].attempt)
        return records[-1], [s.round for s in self._rounds if (s.case, s.launch, s.attempt) == key]

    def _measure_ceilings(self, moment: str, remaining: Sequence[tuple[Case, int]]) -> None:
        """Once for each device, precision and number of threads that is still to be trained on."""
        settings: dict[tuple[str, str, int | None], list[Case]] = {}
        for case, _ in remaining:
            if case.loop != SKLEARN_LOOP and not devices.skip_reason(case, self._inventory):
                settings.setdefault((case.device, case.precision, case.threads), []).append(case)
        if settings:
            self._progress.ceilings_begin(moment)
        starting_s, started = self._launcher.starting_s, time.perf_counter()
        for setting, cases in settings.items():
            pairs = sorted({(case.model, case.batch_size) for case in cases})
            request = CeilingsRequest(*setting, moment, tuple(pairs))
            name = "-".join(map(str, filter(None, setting)))
            log = self._folder.logs / f"ceilings-{name}-{moment}.log"
            found = self._launcher.ceilings(request, self._place(cases[0], log))
            if isinstance(found, str):
                self._progress.ceilings_fail(f"{name}: {found}")
                continue
            log.unlink(missing_ok=True)
            self._ceilings.append(found)
            described = self._folder.environment() or {}
            stored = [ceilings.to_json() for ceilings in self._ceilings]
            self._folder.write_environment({**described, "ceilings": stored})
        self._ceilings_s += time.perf_counter() - started
        self._ceilings_s -= self._launcher.starting_s - starting_s

    def measure_launch(self, case: Case, launch: int) -> None:
        """Measure one launch, again if need be, and put it on disk.

        A launch that its noise voids is measured again, `MOST_ATTEMPTS` in all; the last of
        them stands, for then the machine is always so, and until a launch is undisturbed
        again no other is repeated.

        Raises:
            UserError: the disk is full.
        """
        reason = devices.skip_reason(case, self._inventory)
        if reason and launch > 0:
            return
        self._progress.launch_begins(case, launch)
        if reason:
            self.keep(_skipped(self._request(case, launch), reason))
        else:
            self._measure_undisturbed(case, launch)
        self._progress.launch_ends(self._launches[-1])

    def _measure_undisturbed(self, case: Case, launch: int) -> None:
        most = 1 if self._always_disturbed else MOST_ATTEMPTS
        for left in reversed(range(most)):
            record = to_the_end(self.attempt(case, launch))
            disturbed = noise.voids(record.noise) if record.status is Status.OK else ""
            if not disturbed or not left:
                break
            self.keep(replace(record, status=Status.INVALID, reason=disturbed))
            self._progress.launch_voided(self._launches[-1])
        self.keep(record)
        if record.status is Status.OK:
            self._always_disturbed = bool(disturbed)

    def keep(self, record: LaunchRecord) -> None:
        """Put a launch on disk; the row of its case follows."""
        self._folder.append_launch(record)
        self._launches.append(record)
        self._write_results()

    def _request(self, case: Case, launch: int) -> LaunchRequest:
        min_rounds, min_seconds = self._least.get(case.loop, (0, 0.0))
        return LaunchRequest(
            case=case,
            launch=launch,
            attempt=self._attempt(case, launch),
            epochs=self._plan.settings.epochs,
            seed=self._plan.settings.seed + launch,
            min_rounds=min_rounds,
            min_seconds=min_seconds,
        )

    def _attempt(self, case: Case, launch: int) -> int:
        """One more than any that left a trace, a killed parent's half launch included."""
        seen = [(r.case, r.launch, r.attempt) for r in self._rounds]
        seen += [(r.case, r.launch, r.attempt) for r in self._launches]
        return max((a for name, k, a in seen if (name, k) == (case.id, launch)), default=0) + 1

    def attempt(
        self, case: Case, launch: int, *, pauses: bool = False, template: int = 0
    ) -> Turns[LaunchRecord]:
        """Measure one attempt of a launch, its rounds put on disk; `keep` it or say why not.

        With `pauses` it stands still before each round, until it is taken up again. Of several
        templates it is forked from the one with the number `template`.
        """
        request = self._request(case, launch)
        log = self._log(request)

        def on_round(round_: Round) -> None:
            """Put the round on disk before anybody is told of it."""
            self._rounds.append(self._folder.append_round(request, round_))
            self._progress.round_ends(round_)

        place = self._place(case, log)
        record = yield from self._launcher.turns(
            request, place, on_round, pauses=pauses, template=template
        )
        self._note_software(record)
        if record.status is Status.OK:
            log.unlink(missing_ok=True)
        gpu = devices.resolve(case.device, self._inventory)
        known = gpu.name if gpu else environment.cpu_model()
        return replace(record, device_name=record.device_name or known, software={})

    def get_ready(self, case: Case, launch: int, template: int) -> None:
        """Start the template that the next attempt of a launch is forked from; do not wait."""
        log = self._log(self._request(case, launch))
        self._launcher.get_ready(self._place(case, log), template)

    def _log(self, request: LaunchRequest) -> Path:
        name = re.sub(r"[^\w.-]", "_", request.case.id)
        return self._folder.logs / f"{name}-{request.launch}-{request.attempt}.log"

    def forks(self, case: Case) -> bool:
        """Whether launches of a case are forks of a template, rather than started afresh."""
        return self._plan.settings.fork and CAN_FORK and case.device == "cpu"

    def _place(self, case: Case, log: Path) -> LaunchPlace:
        return LaunchPlace(
            environment=devices.child_environment(case, self._inventory, self._environ),
            fork=self.forks(case),
            log=log,
            timeout_s=self._plan.settings.timeout_s,
            gpu=devices.resolve(case.device, self._inventory),
        )

    def _note_software(self, record: LaunchRecord) -> None:
        """What only a worker can know of TensorFlow goes into environment.json once."""
        described = self._folder.environment() or {}
        if record.software and not described.get("software"):
            self._folder.write_environment(
                {**described, "software": environment.scrub(record.software)}
            )

    def _write_results(self) -> list[dict[str, Any]]:
        rows = result_rows(self._plan, self._launches, self._rounds, self._ceilings)
        self._folder.write_results(rows)
        return rows


def _skipped(request: LaunchRequest, reason: str) -> LaunchRecord:
    return LaunchRecord(
        request.case.id,
        request.launch,
        request.attempt,
        request.seed,
        Status.SKIPPED,
        reason,
    )
