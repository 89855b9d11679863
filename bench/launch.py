"""One launch, from the request to its record: which worker is asked, and what it answers.

Whatever happens to a worker (an exception, a crash, the out-of-memory killer, a hang)
comes back as a `LaunchRecord` with a status and a reason.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bench import counters
from bench.environment import scrub_text
from bench.noise import Noise, Usage
from bench.profile_record import ProfileRecord, ProfileRequest, Readings
from bench.record import CeilingsRequest, LaunchRecord, LaunchRequest, Status
from bench.roofline import Ceilings
from bench.worker_process import CHECKOUT, Ended, LaunchPlace, OnRound, Turns, WorkerProcess

WORKER: tuple[str, ...] = (sys.executable, "-m", "bench.worker")
START_LIMIT_S = 300.0
CAN_FORK = sys.platform == "linux"
_T = TypeVar("_T")


class Launcher:
    """Runs launches, one at a time; templates are kept, one for each environment and number.

    Launches of two launchers may take turns, a round each (`turns`).

    Args:
        worker: the command of a worker; another interpreter's measures that one.
        data: folder of IDX files in place of the embedded ones.
        suite: the checkout that the worker imports; another revision's measures that one.
        watch: reads what disturbs each launch; None for `counters.watch`.

    Attributes:
        starting_s: seconds spent so far until workers were ready: imports and data.
    """

    def __init__(
        self,
        worker: Sequence[str] = WORKER,
        data: str | None = None,
        suite: Path = CHECKOUT,
        watch: counters.Watch | None = None,
    ) -> None:
        self._command = [*worker, *(("--data", data) if data else ())]
        self._suite = suite
        self._watch = watch or counters.watch
        self._templates: dict[tuple[Any, ...], WorkerProcess] = {}
        self.starting_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._templates.values():
            worker.kill()
        self._templates.clear()

    def get_ready(self, place: LaunchPlace, template: int = 0) -> None:
        """Start the template that `turns` will need, without waiting for it: those of two
        launchers import side by side. What goes wrong is said when the template is needed."""
        key = _key(place, template)
        if place.fork and key not in self._templates:
            with contextlib.suppress(Ended):
                self._templates[key] = WorkerProcess(self._command, place, self._suite)

    def run(self, request: LaunchRequest, place: LaunchPlace, on_round: OnRound) -> LaunchRecord:
        """Measure one launch; `on_round` is called as each round ends.

        Never raises for what goes wrong in the worker; KeyboardInterrupt passes through,
        after the worker was killed.
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

        With `pauses` it stands still before each round, until it is taken up again; a worker
        of an earlier revision knows no pauses. Closing what comes back ends the launch. A
        `template` of another number is another process, that imported everything by itself.
        """
        answers, total_s = yield from self._ask(
            "launch", request, place, on_round, self._watch, pauses, template
        )
        return _record(request, answers, total_s)

    def ceilings(self, request: CeilingsRequest, place: LaunchPlace) -> Ceilings | str:
        """Measure what the machine does at best; the reason where that could not be done."""
        answers, _ = to_the_end(self._ask("ceilings", request, place, lambda _: None))
        if answers["status"] == Status.OK:
            return Ceilings.from_json(answers["ceilings"])
        return scrub_text(answers["reason"])

    def profile(self, request: ProfileRequest, place: LaunchPlace) -> ProfileRecord:
        """Profile one case; whatever goes wrong in the worker is the record's reason."""
        answers, total_s = to_the_end(self._ask("profile", request, place, lambda _: None))
        readings = answers.get("readings")
        return ProfileRecord(
            request.case,
            Status(answers["status"]),
            scrub_text(answers.get("reason", "")),
            None if readings is None else Readings.from_json(readings),
            total_s,
        )

    def _ask(
        self,
        op: str,
        request: LaunchRequest | CeilingsRequest | ProfileRequest,
        place: LaunchPlace,
        on_round: OnRound,
        watch: counters.Watch | None = None,
        pauses: bool = False,
        template: int = 0,
    ) -> Turns[tuple[dict[str, Any], float]]:
        """What a worker answers, at least a status, and the seconds that it took, pauses
        left out.

        With `watch`, the answers of a worker that lived to the end hold the `noise` as well.
        """
        key = _key(place, template)
        worker = self._templates.pop(key, None) if place.fork else None
        answers: dict[str, Any] = {}
        started = time.perf_counter()
        try:
            if worker is None:
                worker = WorkerProcess(self._command, place, self._suite)
            if not worker.idle:
                worker.wait_until_ready(START_LIMIT_S)
                self.starting_s += time.perf_counter() - started
                if place.fork:
                    started = time.perf_counter()
            close = watch(worker.pid, place.gpu) if watch else None
            yield from worker.serve(op, request.to_json(), place, on_round, answers, pauses)
            if close:
                answers["noise"] = close(_usage(answers))
        except Ended as end:
            answers.setdefault("status", end.status)
            answers.setdefault("reason", end.reason)
        finally:
            if worker is not None:
                if place.fork and worker.idle:
                    self._templates[key] = worker
                else:
                    worker.kill()
        paused_s = worker.paused_s if worker is not None else 0.0
        return answers, time.perf_counter() - started - paused_s


def _key(place: LaunchPlace, template: int) -> tuple[Any, ...]:
    return (template, *sorted(place.environment.items()))


def to_the_end(steps: Turns[_T]) -> _T:
    """What a measurement comes to that nothing else takes turns with."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _usage(answers: Mapping[str, Any]) -> Usage | None:
    """What the launch reported of itself; None where it failed, or is of another revision."""
    told = answers.get("usage")
    return None if told is None else Usage.from_json(told)


def _record(request: LaunchRequest, answers: dict[str, Any], total_s: float) -> LaunchRecord:
    noise: Noise | None = answers.pop("noise", None)
    record = LaunchRecord.from_json(
        {
            **answers,
            "case": request.case.id,
            "launch": request.launch,
            "attempt": request.attempt,
            "seed": request.seed,
            "reason": scrub_text(answers.get("reason", "")),
            "total_s": total_s,
        }
    )
    return replace(record, noise=noise)
