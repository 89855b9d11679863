"""One launch, from the request to its record: chooses the worker and reads its answer.

An exception, a crash, a kill for lack of memory or a hang of the worker becomes a `LaunchRecord`
with a status and a reason.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from bench.launch.channel import Here, Where
from bench.launch.ending import Ended, advised
from bench.launch.origin import Origin, child_command, digest_of
from bench.launch.placement import LaunchPlace
from bench.launch.process import Answer, WorkerProcess
from bench.launch.ranks import RankedWorkers
from bench.launch.stepwise import OnRound, Turns, to_the_end
from bench.machine import counters
from bench.machine.redact import legible, scrub_text
from bench.schema.bounds import checked
from bench.schema.ceilings import Ceilings
from bench.schema.launch import LaunchRecord, Status
from bench.schema.noise import Noise, Usage
from bench.schema.profile import ProfileRecord, Readings
from bench.schema.requests import CeilingsRequest, LaunchRequest, ProfileRequest
from bench.schema.workload import InspectRequest, WorkFacts

WORKER = child_command("bench.worker")
START_LIMIT_S = 300.0
CAN_FORK = sys.platform == "linux"
_Worker = WorkerProcess | RankedWorkers
# The templates of launchers, each by its number and its environment.
Templates = dict[tuple[Any, ...], _Worker]
_Request = LaunchRequest | CeilingsRequest | ProfileRequest | InspectRequest
# Errors from reading a result of another form, or of a later version.
UNREADABLE = (TypeError, ValueError, KeyError, AttributeError)


class Launcher:
    """Runs launches one at a time, and keeps a template for each environment and number.

    Two launchers can alternate their launches round by round (`turns`).

    Args:
        worker: the command of a worker, which may be that of another interpreter.
        data: folder of IDX files in place of the embedded ones.
        origin: where the worker's files must be; a launch that ran other files is invalid.
        watch: reads what disturbs each launch; None for `counters.watch`.
        where: the machines on which the processes run; None for this one.
        templates: those that launchers with the same command share, one after the other; each
            launch is forked in the folder of its own checkout, and whoever shares them ends them.
            None for templates of its own.

    Attributes:
        starting_s: seconds spent so far until workers were ready, for imports and data.
    """

    def __init__(
        self,
        worker: Sequence[str] = WORKER,
        data: str | None = None,
        origin: Origin | None = None,
        watch: counters.Watch | None = None,
        where: Where | None = None,
        templates: Templates | None = None,
    ) -> None:
        self._where = where or Here()
        self._command = [*worker, *(("--data", data) if data else ())]
        self._origin = origin or Origin()
        self._watch = watch or counters.watch
        self._shares = templates is not None
        self._templates = {} if templates is None else templates
        self.starting_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._shares:
            end_templates(self._templates)

    def get_ready(self, place: LaunchPlace, template: int = 0) -> None:
        """Start the template that `turns` will need, and do not wait for it.

        So the templates of two launchers import in parallel. An error is reported when the
        template is needed.
        """
        key = _key(place, template)
        if place.fork and key not in self._templates:
            with contextlib.suppress(Ended):
                self._templates[key] = self._started(place)

    def run(self, request: LaunchRequest, place: LaunchPlace, on_round: OnRound) -> LaunchRecord:
        """Measure one launch; `on_round` is called as each round ends.

        An error in the worker raises nothing: the record has it. KeyboardInterrupt passes
        through, after the worker was killed.
        """
        return to_the_end(self.turns(request, place, on_round, pauses=False))

    def turns(
        self,
        request: LaunchRequest,
        place: LaunchPlace,
        on_round: OnRound,
        *,
        pauses: bool,
        template: int = 0,
    ) -> Turns[LaunchRecord]:
        """Measure one launch as `run` does, in steps.

        Closing the returned generator ends the launch.

        Args:
            request: the launch.
            place: where and how it runs.
            on_round: called as each round ends.
            pauses: wait before each round until the generator is resumed; a worker of an earlier
                revision cannot.
            template: number of the template process; each number has its own process and imports.
        """
        told = yield from self._ask(request, place, on_round, self._watch, pauses, template)
        return _record(request, told)

    def ceilings(self, request: CeilingsRequest, place: LaunchPlace) -> Ceilings | str:
        """Measure the machine's ceilings; the reason where that failed."""
        answer = to_the_end(self._ask(request, place, lambda _: None)).answer
        if answer.status is Status.OK:
            try:
                return Ceilings.from_json(answer.fields["ceilings"])
            except UNREADABLE as error:
                return f"the worker's ceilings cannot be read: {error}"
        return legible(scrub_text(answer.reason))

    def profile(self, request: ProfileRequest, place: LaunchPlace) -> ProfileRecord:
        """Profile one case; an error in the worker is the record's reason."""
        told = to_the_end(self._ask(request, place, lambda _: None))
        status, reason = told.answer.status, legible(scrub_text(told.answer.reason))
        readings = None
        if status is Status.OK:
            try:
                readings = Readings.from_json(told.answer.fields["readings"])
            except UNREADABLE as error:
                status, reason = Status.FAILED, f"the worker's readings cannot be read: {error}"
        return ProfileRecord(request.case, status, reason, readings, told.total_s)

    def inspect(self, request: InspectRequest, place: LaunchPlace) -> tuple[WorkFacts, ...] | str:
        """What is known of the user's own models; the reason where the worker gave no answer."""
        answer = to_the_end(self._ask(request, place, lambda _: None)).answer
        if answer.status is Status.OK:
            try:
                facts = checked(answer.fields["facts"], tuple[WorkFacts, ...])
            except UNREADABLE as error:
                return f"the worker's facts cannot be read: {error}"
            if [work.model for work in facts] == list(request.models):
                return facts
            return "the worker described other models than those that it was asked for"
        return legible(scrub_text(answer.reason))

    def _ask(
        self,
        request: _Request,
        place: LaunchPlace,
        on_round: OnRound,
        watch: counters.Watch | None = None,
        pauses: bool = False,
        template: int = 0,
    ) -> Turns[_Told]:
        """The answer of a worker, with the noise where `watch` is given and the worker lived."""
        key = _key(place, template)
        worker = self._templates.pop(key, None) if place.fork else None
        noise: Noise | None = None
        started = time.perf_counter()
        try:
            if worker is None:
                worker = self._started(place)
            if not worker.idle:
                worker.wait_until_ready(START_LIMIT_S)
                self.starting_s += time.perf_counter() - started
                if place.fork:
                    started = time.perf_counter()
            close = watch(worker.pid, place.gpus, place.fork) if watch else None
            place = replace(place, folder=self._origin.models) if self._shares else place
            answer = yield from worker.serve(request.op, request.to_json(), place, on_round, pauses)
            if close:
                noise = close(_usage(answer.fields))
            answer = self._proven(request, answer)
        except Ended as end:
            answer = Answer(end.status, end.reason)
        finally:
            if worker is not None:
                if place.fork and worker.idle:
                    self._templates[key] = worker
                else:
                    worker.kill()
        paused_s = worker.paused_s if worker is not None else 0.0
        if request.own and not isinstance(request, InspectRequest):
            answer = replace(answer, reason=advised(answer.status, answer.reason))
        return _Told(answer, noise, time.perf_counter() - started - paused_s)

    def _started(self, place: LaunchPlace) -> _Worker:
        """A new worker, or one for each rank, which may still import."""
        folder = None if self._shares else self._origin.models
        if place.processes > 1:
            return RankedWorkers(self._command, place, self._where, folder)
        return WorkerProcess(self._where.opened(self._command, place, 0, folder), place.log)

    def _proven(self, request: _Request, answer: Answer) -> Answer:
        """The answer with the listing of the files that the worker ran.

        It is `invalid` where the worker ran other files than those of `origin`.
        """
        fields = dict(answer.fields)
        files = fields.pop("files", None)
        if answer.status is not Status.OK:
            return replace(answer, fields=fields)
        reason = self._origin.refusal(files, request.own)
        if reason:
            return Answer(Status.INVALID, reason, fields)
        if files is not None:
            listing = self._origin.listing(files)
            fields |= {"code": digest_of(listing), "files": listing}
        return replace(answer, fields=fields)


def end_templates(templates: Templates) -> None:
    """End the processes of some templates."""
    for worker in templates.values():
        worker.kill()
    templates.clear()


def _key(place: LaunchPlace, template: int) -> tuple[Any, ...]:
    environments = (place.environment, *place.others)
    return (template, *(tuple(sorted(each.items())) for each in environments))


@dataclass(frozen=True, slots=True)
class _Told:
    """An answer, what disturbed the launch, and its seconds without pauses."""

    answer: Answer
    noise: Noise | None
    total_s: float


def _usage(told: Mapping[str, Any]) -> Usage | None:
    """The usage that the launch reported; None where it failed or an earlier revision ran it."""
    try:
        return Usage.from_json(told["usage"])
    except UNREADABLE:
        return None


def _record(request: LaunchRequest, told: _Told) -> LaunchRecord:
    asked = {
        "case": request.case.id,
        "launch": request.launch,
        "attempt": request.attempt,
        "seed": request.seed,
        "total_s": told.total_s,
    }
    reason = legible(scrub_text(told.answer.reason))
    ended = {**asked, "status": told.answer.status, "reason": reason}
    try:
        record = LaunchRecord.from_json({**told.answer.fields, **ended, "noise": None})
    except UNREADABLE as error:
        reason = f"the worker's result cannot be read: {error}"
        return LaunchRecord.from_json({**asked, "status": Status.FAILED, "reason": reason})
    return replace(record, noise=told.noise)
