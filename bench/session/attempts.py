"""Measures the launches of a run, repeats those that were disturbed, and writes them to disk."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis import noise
from bench.analysis.rows import ResultTable, time_split
from bench.launch.launcher import Launcher
from bench.launch.origin import changed
from bench.launch.placement import LaunchPlace
from bench.launch.stepwise import Turns, to_the_end
from bench.machine import redact
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import LEAST, Plan
from bench.schema.requests import CeilingsRequest, LaunchRequest
from bench.session.events import Progress
from bench.session.outcome import RunOutcome
from bench.session.places import Machines, ThisMachine
from bench.session.schedule import schedule
from bench.session.together import in_groups, measure_together
from bench.store.derived import broken_launch, broken_launches
from bench.store.run_folder import RunFolder

# results.csv is computed from rounds.csv and launches.jsonl, and may be this much older.
RESULTS_EVERY_S = 5.0
LOST = "its rounds in rounds.csv are not what it measured"

# A disturbance is mostly over at the next attempt; after three, it is taken as permanent.
MOST_ATTEMPTS = 3


class RunUnderWay:
    """A run while it is measured, with the contents of its files in memory.

    Args:
        plan: the cases and settings.
        folder: the run's folder, which may already hold launches.
        progress: is told of each event.
        launcher: starts the launches.
        machines: where they run; None for this machine.
        least: least (rounds, seconds) of a launch, by loop; it trains on after its epochs.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        progress: Progress,
        launcher: Launcher,
        machines: Machines | None = None,
        least: Mapping[str, tuple[int, float]] = LEAST,
    ) -> None:
        self._machines = machines or ThisMachine()
        self._least = least
        self._plan = plan
        self._folder = folder
        self.progress = progress
        self._launcher = launcher
        self._rounds = folder.rounds()
        self._launches = folder.launches()
        self._broken = broken_launches(plan, self._launches, self._rounds)
        # A launch with lost rounds counts as not measured until it is measured again.
        self._launches = [self._as_it_counts(record) for record in self._launches]
        self._ceilings = folder.ceilings()
        self._described = folder.environment() or {}
        self._table = ResultTable(plan, self._launches, self._rounds, self._ceilings)
        self._ceilings_s = 0.0
        self._control_s = list[float](self._described.get("control_s", ()))
        # One where a disturbance is taken as permanent.
        self.attempts_at_most = MOST_ATTEMPTS
        self.results_every_s = RESULTS_EVERY_S
        self._written_s = -math.inf

    def to_the_end(self, *, ceilings: bool = True) -> RunOutcome:
        """Measure the launches that are missing on disk.

        With `ceilings`, the machine's ceilings are measured before them, and after them for the
        cases that have a figure.
        """
        settings = self._plan.settings
        order = schedule(self._plan.cases, settings.launches_of, settings.seed)
        done = {(r.case, r.launch) for r in self._launches if r.status is Status.OK}
        remaining = [(case, launch) for case, launch in order if (case.id, launch) not in done]
        self.progress.run_begins(self._plan, remaining)
        for (case_id, launch), reason in self._broken.items():
            self.progress.launch_lost(case_id, launch, reason)
        started, already = time.perf_counter(), len(self._launches)
        interrupted = False
        try:
            limited = remaining if ceilings else []
            self._measure_ceilings("before", limited)
            self.write_results()
            probe = self._machines.probe() if remaining else None
            for cases, launch in in_groups(remaining, self._plan.cases, settings.scaling):
                if probe is not None:
                    self._control_s.append(probe(1))
                measure_together(self, cases, launch)
            self._measure_ceilings("after", [pair for pair in limited if self.is_ok(*pair)])
        except KeyboardInterrupt:
            interrupted = True
        finally:
            # The files first, because writing to the terminal may fail.
            rows = self.write_results()
            if self._control_s:
                self._describe(control_s=self._control_s)
            self.progress.run_ends()
        known = {"import": self._launcher.starting_s, "ceilings": self._ceilings_s}
        took_s = time.perf_counter() - started
        split = time_split(took_s, known, self._launches[already:], self._rounds)
        return RunOutcome(
            self._folder, self._plan, rows, self._launches, self._rounds, interrupted, split
        )

    def is_ok(self, case: Case, launch: int) -> bool:
        """Whether the last attempt of a launch ended ok."""
        record, _ = self.measured(case, launch)
        return record is not None and record.status is Status.OK

    def _as_it_counts(self, record: LaunchRecord) -> LaunchRecord:
        reason = self._broken.get((record.case, record.launch), "")
        if not reason or record.status is not Status.OK:
            return record
        return replace(record, status=Status.INTERRUPTED, reason=f"{LOST}: {reason}")

    def measured(self, case: Case, launch: int) -> tuple[LaunchRecord | None, list[Round]]:
        """The last attempt of a launch with its rounds; (None, []) where there was none."""
        return self._table.launch(case.id, launch)

    def _measure_ceilings(self, moment: str, remaining: Sequence[tuple[Case, int]]) -> None:
        """Measure the ceilings of each setting of the remaining launches on one device."""
        settings: dict[str, list[Case]] = {}
        for case, _ in remaining:
            if case.has_ceilings and not self.leaves_out(case):
                settings.setdefault(case.setting, []).append(case)
        if settings:
            self.progress.ceilings_begin(moment)
        starting_s, started = self._launcher.starting_s, time.perf_counter()
        for name, cases in settings.items():
            request = CeilingsRequest.of_cases(cases, moment)
            log = self._folder.logs / f"ceilings-{name}-{moment}.log"
            found = self._launcher.ceilings(request, self._place(cases[0], log))
            if isinstance(found, str):
                self.progress.ceilings_fail(f"{name}: {found}")
                continue
            log.unlink(missing_ok=True)
            self._ceilings.append(found)
            self._table.ceilings_changed()
            self._describe(ceilings=[ceilings.to_json() for ceilings in self._ceilings])
        self._ceilings_s += time.perf_counter() - started
        self._ceilings_s -= self._launcher.starting_s - starting_s

    def measure_launch(self, case: Case, launch: int) -> None:
        """Measure one launch and write it to disk; a disturbed launch is measured again.

        There are at most `MOST_ATTEMPTS` attempts, and the last one counts, because the
        disturbance is taken as permanent then.

        Raises:
            UserError: the files cannot be written, such as where the disk is full.
        """
        left_out = self.leaves_out(case)
        if left_out and launch > 0:
            return
        self.progress.launch_begins(case, launch)
        if left_out:
            asked = self._request(case, launch)
            self.keep(LaunchRecord(case.id, launch, asked.attempt, asked.seed, *left_out))
        else:
            self._measure_undisturbed(case, launch)
        self.progress.launch_ends(self._launches[-1])

    def leaves_out(self, case: Case) -> tuple[Status, str] | None:
        """The status and the reason of a case that is not launched; None where it is."""
        if reason := self._plan.refused.get(case.id):
            return Status.FAILED, reason
        reason = self._machines.skip_reason(case, self._plan)
        return (Status.SKIPPED, reason) if reason else None

    def _measure_undisturbed(self, case: Case, launch: int) -> None:
        for left in reversed(range(self.attempts_at_most)):
            record = to_the_end(self.attempt(case, launch))
            disturbed = noise.voids(record.noise) if record.status is Status.OK else ""
            if not disturbed or not left:
                break
            self.keep(replace(record, status=Status.INVALID, reason=disturbed))
            self.progress.launch_voided(self._launches[-1])
        self.keep(record)
        if record.status is Status.OK:
            self.note_last_attempt(disturbed=bool(disturbed))

    def note_last_attempt(self, *, disturbed: bool) -> None:
        """Repeat no other launch until one is undisturbed, where the last attempt was disturbed."""
        self.attempts_at_most = 1 if disturbed else MOST_ATTEMPTS

    def keep(self, record: LaunchRecord) -> None:
        """Write a launch to disk; the row of its case is written within seconds."""
        self._folder.append_launch(record)
        self._launches.append(record)
        self._table.add_launch(record)
        self._table.derive(record.case)
        if time.perf_counter() - self._written_s >= self.results_every_s:
            self.write_results()

    def _request(self, case: Case, launch: int) -> LaunchRequest:
        min_rounds, min_seconds = self._least.get(case.loop, (0, 0.0))
        return LaunchRequest(
            case=case,
            launch=launch,
            attempt=self._attempt(case, launch),
            epochs=self._plan.settings.epochs_of(case),
            seed=self._plan.settings.seed + launch,
            min_rounds=min_rounds,
            min_seconds=min_seconds,
            steps=self._plan.settings.steps,
            cache_stream=self._plan.settings.cache_stream,
            same_start=self._plan.same_start,
        )

    def _attempt(self, case: Case, launch: int) -> int:
        """One more than the highest attempt on disk, which may be an unfinished one."""
        return self._table.last_attempt(case.id, launch) + 1

    def attempt(
        self,
        case: Case,
        launch: int,
        *,
        pauses: bool = False,
        template: int = 0,
        told: bool = True,
        beside: Sequence[Case] = (),
    ) -> Turns[LaunchRecord]:
        """Measure one attempt of a launch, and write its rounds to disk.

        The caller must `keep` the returned record, as it is or as `invalid`.

        Args:
            case: the case.
            launch: number of the launch, from 0.
            pauses: wait before each round until the generator is resumed.
            template: number of the template that it is forked from.
            told: tell the progress of each round.
            beside: the cases whose launches run at once with this one; None but this if empty.
        """
        request = self._request(case, launch)
        own: list[Round] = []
        log = self._log(request)

        def on_round(round_: Round) -> None:
            """Write the round to disk, then report it."""
            own.append(round_)
            stored = self._folder.append_round(request, round_)
            self._rounds.append(stored)
            self._table.add_round(stored)
            if told:
                self.progress.round_ends(round_)

        place = self._place(case, log, beside)
        record = yield from self._launcher.turns(
            request, place, on_round, pauses=pauses, template=template
        )
        self._note_software(record)
        record = self._note_code(record)
        if record.status is Status.OK:
            place.forget_logs()
        known = next((gpu.name for gpu in place.gpus), None) or self._machines.cpu_model()
        record = replace(
            record,
            device_name=record.device_name or known,
            rounds=len(own),
            warnings=(*record.warnings, *self._machines.warnings(case)),
        )
        if case.replicas > 1:
            record = replace(record, device_uuids=tuple(gpu.uuid for gpu in place.gpus))
        return self._whole(replace(record, software={}, files={}), case, own)

    def _whole(self, record: LaunchRecord, case: Case, own: Sequence[Round]) -> LaunchRecord:
        """The record; `invalid` where it ended ok but its rounds cannot be used."""
        if record.status is not Status.OK:
            return record
        reason = broken_launch(record, own, case.loop, self._plan.settings.epochs_of(case))
        return replace(record, status=Status.INVALID, reason=reason) if reason else record

    def get_ready(self, case: Case, launch: int, template: int) -> None:
        """Start the template of the next attempt of a launch, and do not wait for it."""
        log = self._log(self._request(case, launch))
        self._launcher.get_ready(self._place(case, log), template)

    def _log(self, request: LaunchRequest) -> Path:
        name = request.case.file_name
        return self._folder.logs / f"{name}-{request.launch}-{request.attempt}.log"

    def forks(self, case: Case) -> bool:
        """Whether launches of a case are forks of a template, not fresh processes."""
        return self._machines.forks(case, self._plan.settings)

    def _place(self, case: Case, log: Path, beside: Sequence[Case] = ()) -> LaunchPlace:
        return self._machines.place(case, log, self._plan.settings, beside)

    def _note_software(self, record: LaunchRecord) -> None:
        """Write the first worker's facts of its framework to environment.json."""
        if record.software and not self._described.get("software"):
            self._describe(software=redact.scrub(record.software))

    def _describe(self, **facts: Any) -> None:
        self._described = {**self._described, **facts}
        self._folder.write_environment(self._described)

    def _note_code(self, record: LaunchRecord) -> LaunchRecord:
        """Write the listing of the files that the launch ran to environment.json, once each.

        Returns:
            the record; `invalid` where a file differs from that of an earlier launch.
        """
        listings = self._described.get("code", {})
        if not record.code or record.code in listings:
            return record
        others = changed(listings.values(), record.files)
        if not others:
            self._describe(code={**listings, record.code: record.files})
        elif record.status is Status.OK:
            reason = (
                f"it ran another {others} than environment.json holds: put it back as it was and "
                "--resume, or measure anew"
            )
            return replace(record, status=Status.INVALID, reason=reason)
        return record

    def write_results(self) -> list[dict[str, Any]]:
        """Write results.csv from all launches so far; returns its rows."""
        rows = self._table.rows()
        self._folder.write_result_lines(self._table.lines())
        self._written_s = time.perf_counter()
        return rows
