"""The processes of one launch whose replicas have a process each, as if they were one worker.

Each process is a worker of its own, asked for the same launch with another rank. They train in
lockstep, so one that ends or hangs stops all. A round is one round of each; the launch ends with
the answer of the first rank, or with the failure that came first. A kill counts as the first,
whenever it is told, because connections that break make the siblings fail: but not an abort, by
which frameworks end a process whose sibling has failed.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.launch.agreement import one_answer, one_round
from bench.launch.channel import Where
from bench.launch.ending import Ended
from bench.launch.placement import LaunchPlace
from bench.launch.process import Answer, WorkerProcess
from bench.launch.stepwise import OnRound, Turns
from bench.schema.launch import Round, Status

# A process that dies takes its siblings' connections with it. Whose end was first is known only
# after all of them have told theirs, which they do within so many seconds, or they are ended.
GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class _Event:
    """What one process did: `kind` is `round`, `pause` or `end`."""

    rank: int
    kind: str
    what: Any = None


class RankedWorkers:
    """Workers of one launch, one for each rank, with the interface of a `WorkerProcess`.

    Args:
        command: the command of a worker.
        place: the environment and the log of each.
        where: the machines on which they run.
        folder: their working folder; None for the parent's.

    Attributes:
        idle: all are ready for a request.
        paused_s: seconds of pauses in the current or last request.

    Raises:
        Ended: one cannot be started; those before it are ended.
        UserError: a log cannot be written.
    """

    def __init__(
        self, command: Sequence[str], place: LaunchPlace, where: Where, folder: Path | None = None
    ) -> None:
        self._workers: list[WorkerProcess] = []
        self._where = where
        self.paused_s = 0.0
        try:
            for rank in range(place.processes):
                channel = where.opened(command, place, rank, folder)
                self._workers.append(WorkerProcess(channel, place.of_rank(rank).log))
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Process id of the first rank's worker."""
        return self._workers[0].pid

    @property
    def idle(self) -> bool:
        """Whether all are ready for a request."""
        return all(worker.idle for worker in self._workers)

    def wait_until_ready(self, limit_s: float) -> None:
        """Wait at most `limit_s` seconds for the imports of all; raises `Ended` when one fails."""
        deadline = time.perf_counter() + limit_s
        for rank, worker in enumerate(self._workers):
            if not worker.idle:
                with self._named(rank):
                    worker.wait_until_ready(max(0.0, deadline - time.perf_counter()))

    @contextlib.contextmanager
    def _named(self, rank: int) -> Iterator[None]:
        """Within the context, what ends a process is told with its rank."""
        try:
            yield
        except Ended as end:
            raise Ended(end.status, self._of(rank, end.reason)) from end

    def _of(self, rank: int, reason: str) -> str:
        return f"rank {rank} of {len(self._workers)}{self._at(rank)}: {reason}"

    def _at(self, rank: int) -> str:
        return self._where.named(rank, len(self._workers))

    def serve(
        self,
        op: str,
        request: Mapping[str, Any],
        place: LaunchPlace,
        on_round: OnRound,
        pauses: bool,
    ) -> Turns[Answer]:
        """Request one measurement of all ranks, and follow it to its end.

        Raises:
            Ended: a process ended without an answer, or sent something that is not in the
                protocol.
        """
        self.paused_s = 0.0
        events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        go_on = [threading.Event() for _ in self._workers]
        given_up = threading.Event()
        threads = []
        with self._where.meeting() as meeting:
            for rank, worker in enumerate(self._workers):
                asked = {**request, "rank": rank, "meeting": meeting}
                serve = partial(worker.serve, op, asked, place.of_rank(rank), pauses=pauses)
                told = (rank, serve, events, go_on[rank], given_up)
                threads.append(threading.Thread(target=_follow, args=told, daemon=True))
                threads[-1].start()
            try:
                answer = yield from self._together(events, go_on, on_round, place)
            finally:
                given_up.set()
                for event in go_on:
                    event.set()
                if not all(worker.idle for worker in self._workers):
                    self.kill()
                for thread in threads:
                    thread.join()
        return answer

    def _together(
        self,
        events: queue.SimpleQueue[_Event],
        go_on: Sequence[threading.Event],
        on_round: OnRound,
        place: LaunchPlace,
    ) -> Turns[Answer]:
        """Report each round that all have ended, pause once all pause, and end with all."""
        rounds: dict[int, dict[int, Round]] = {}
        pausing: set[int] = set()
        ends: dict[int, Answer | Ended] = {}
        # How far each rank has come; one that hangs stops the others a round later at most.
        reached = [0] * len(self._workers)
        deadline = time.perf_counter() + place.timeout_s + GRACE_S
        while len(ends) < len(self._workers):
            try:
                event = events.get(timeout=max(0.0, deadline - time.perf_counter()))
            except queue.Empty:
                break
            reached[event.rank] += 1
            if event.kind == "round":
                of_number = rounds.setdefault(event.what.round, {})
                of_number[event.rank] = event.what
                if len(of_number) == len(self._workers):
                    on_round(one_round(rounds.pop(event.what.round)))
            elif event.kind == "pause":
                pausing.add(event.rank)
                if len(pausing) == len(self._workers):
                    pausing.clear()
                    began = time.perf_counter()
                    yield
                    paused_s = time.perf_counter() - began
                    self.paused_s += paused_s
                    deadline += paused_s
                    for resumed in go_on:
                        resumed.set()
            elif not isinstance(event.what, Answer | Ended):
                raise event.what
            else:
                ends[event.rank] = event.what
                if _is_bad(event.what):
                    deadline = min(deadline, time.perf_counter() + GRACE_S)
        return self._answer(ends, reached, place)

    def _answer(
        self, ends: Mapping[int, Answer | Ended], reached: Sequence[int], place: LaunchPlace
    ) -> Answer:
        """The answer of the launch, from the ends of its processes in their order.

        Raises:
            Ended: one of them ended without an answer.
        """
        every = range(len(self._workers))
        late = [r for r in every if r not in ends or ends[r].status is Status.TIMED_OUT]
        bad = {r: end for r, end in ends.items() if _is_bad(end) and r not in late}
        if late and not bad:
            # Before the first round, none is known to have come further.
            least = min(reached[rank] for rank in late)
            behind = [rank for rank in late if reached[rank] == least]
            words = {rank: self._workers[rank].last_words() for rank in behind}
            told = "; ".join(
                f"rank {rank}{self._at(rank)} last printed: {said}" for rank, said in words.items()
            )
            of = f"of {len(self._workers)}: took longer than {place.timeout_s:g} s (--timeout)"
            named = f"rank{'s' * (len(behind) > 1)} {', '.join(map(str, behind))}"
            return Answer(Status.TIMED_OUT, f"{named} {of}; {told}")
        if bad:
            worst = min(bad, key=lambda rank: _may_follow(bad[rank]))
            first = bad[worst]
            reason = self._of(worst, first.reason)
            if isinstance(first, Ended):
                raise Ended(first.status, reason)
            return replace(first, reason=reason)
        answers = [ends[rank] for rank in every]
        return one_answer([answer for answer in answers if isinstance(answer, Answer)])

    def kill(self) -> None:
        """End all workers, what a user's code started in them, and the launches they forked.

        All are told to end before one is waited for, which may hang in a system call.
        """
        for worker in self._workers:
            worker.signal_end()
        for worker in self._workers:
            worker.wait_for_end()


def _follow(
    rank: int,
    serve: Callable[..., Turns[Answer]],
    events: queue.SimpleQueue[_Event],
    go_on: threading.Event,
    given_up: threading.Event,
) -> None:
    """Follow one worker to its end, in a thread of its own, and tell what it does."""
    steps = serve(on_round=lambda round_: events.put(_Event(rank, "round", round_)))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            events.put(_Event(rank, "end", end.value))
            return
        except Exception as error:  # noqa: BLE001 - a thread that ends untold leaves all to wait
            events.put(_Event(rank, "end", error))
            return
        events.put(_Event(rank, "pause"))
        go_on.wait()
        go_on.clear()
        if given_up.is_set():
            steps.close()
            return


def _is_bad(end: Answer | Ended) -> bool:
    return isinstance(end, Ended) or end.status is not Status.OK


def _may_follow(end: Answer | Ended) -> bool:
    """Whether a process may have ended so because another one had ended before."""
    return end.status is not Status.KILLED or "SIGABRT" in end.reason
