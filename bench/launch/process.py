"""The parent's side of a worker process: sends requests, reads answers, ends it.

Requests are lines of JSON on the worker's standard input; answers come over a separate pipe. The
channel that carries both knows where the process runs.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from bench.launch.channel import EXIT_LIMIT_S, Channel
from bench.launch.ending import Ended, death, end
from bench.launch.placement import LaunchPlace
from bench.launch.stepwise import OnRound, Turns
from bench.schema.launch import Round, Status

_T = TypeVar("_T")


class _TimedOut(Ended):
    """The worker sent nothing until the deadline."""


class _Garbled(Ended):
    """The worker sent something that is not in the protocol."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended.

    Attributes:
        reason: one line; empty where the status is ok.
        fields: the fields of the result; empty where there is none.
    """

    status: Status
    reason: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_result(cls, message: Mapping[str, Any]) -> Self:
        """The answer of a `result` message, whose own status and reason are ignored."""
        ours = ("kind", "status", "reason")
        return cls(Status.OK, "", {k: v for k, v in message.items() if k not in ours})


class WorkerProcess:
    """One worker process, as its protocol sees it.

    Args:
        channel: to the process, which has started.
        log: the file of what it prints.

    Attributes:
        idle: the process is ready for a request.
        paused_s: seconds of pauses in the current or last request.
    """

    def __init__(self, channel: Channel, log: Path) -> None:
        self._channel = channel
        self._log = log
        self._forked: int | None = None
        self.idle = False
        self.paused_s = 0.0

    @property
    def pid(self) -> int:
        """Process id of the worker itself; forked launches are its children."""
        return self._channel.pid

    def wait_until_ready(self, limit_s: float) -> None:
        """Wait at most `limit_s` seconds for imports and data; raises `Ended` when they fail."""
        try:
            message = self._next(time.perf_counter() + limit_s)
        except _TimedOut:
            late = f"the worker did not start within {limit_s:g} s, whatever --timeout is"
            raise Ended(Status.TIMED_OUT, late) from None
        if message["kind"] == "failure":
            failure = _failure(message)
            raise Ended(failure.status, failure.reason)
        if message["kind"] != "ready":
            raise _unexpected(message)
        self.idle = True

    def serve(
        self,
        op: str,
        request: Mapping[str, Any],
        place: LaunchPlace,
        on_round: OnRound,
        pauses: bool,
    ) -> Turns[Answer]:
        """Request one measurement and follow it to its end.

        Messages that arrive before the deadline count, even where they are read later; later ones
        do not. A worker that is not ready for another request soon after its answer does not
        become `idle`.

        Raises:
            Ended: the worker ended without an answer, or sent something that is not in the
                protocol.
        """
        self.idle = False
        self.paused_s = 0.0
        self._log = place.log
        log = self._channel.log_of(place.log)
        asked = {"fork": place.fork, "pauses": pauses, "log": log, "request": request}
        moved = {} if place.folder is None else {"folder": str(place.folder.absolute())}
        self._send({"op": op, **asked, **moved})
        deadline = time.perf_counter() + place.timeout_s
        while True:
            try:
                message = self._next(deadline)
            except _TimedOut:
                limit = f"took longer than {place.timeout_s:g} s (--timeout)"
                late = Answer(Status.TIMED_OUT, limit)
                if self._forked is not None:
                    end(self._forked)
                    self._wait_for_exit(late)
                return late
            kind = message["kind"]
            if kind == "forked":
                self._note_fork(message)
            elif kind == "pause" and pauses:
                paused = time.perf_counter()
                yield
                pause_s = time.perf_counter() - paused
                self.paused_s += pause_s
                deadline += pause_s
                self._send({"op": "go_on"})
            elif kind == "round":
                on_round(_round(message))
            elif kind == "exit":
                return self._exited(message)
            elif kind in ("result", "failure"):
                answer = _failure(message) if kind == "failure" else Answer.of_result(message)
                if place.fork:
                    self._wait_for_exit(answer)
                return answer
            else:
                raise _unexpected(message)

    def _wait_for_exit(self, answer: Answer) -> None:
        """Wait for the template's message that the launch has ended, for at most 10 s.

        Raises:
            Ended: another message came after the launch's answer.
        """
        deadline = time.perf_counter() + EXIT_LIMIT_S
        while True:
            try:
                message = self._next(deadline)
            except Ended as end:
                if isinstance(end, _Garbled) and answer.status is not Status.TIMED_OUT:
                    raise
                return
            if message["kind"] == "exit":
                self._exited(message)
                return
            if message["kind"] == "forked":
                # A launch can answer before its template reports the fork.
                self._note_fork(message)
            elif answer.status is not Status.TIMED_OUT:
                raise _unexpected(message, " after its answer")

    def _note_fork(self, message: Mapping[str, Any]) -> None:
        self._forked = _read("a fork", lambda: int(message["pid"]))

    def _exited(self, message: Mapping[str, Any]) -> Answer:
        """The answer for a forked launch that has ended without one."""
        code = _read("an exit", lambda: int(message["code"]))
        self._forked = None
        self.idle = True
        ended = death(code, self._log)
        return Answer(ended.status, ended.reason)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._channel.send(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self._channel.how_it_ended(self._log) from error

    def _next(self, deadline: float) -> dict[str, Any]:
        try:
            line = self._channel.receive(max(0.0, deadline - time.perf_counter()))
        except queue.Empty:
            raise _TimedOut(Status.TIMED_OUT, "the worker did not answer in time") from None
        if line is None:
            raise self._channel.how_it_ended(self._log)
        try:
            message = json.loads(line)
            if isinstance(message["kind"], str):
                return dict(message)
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        shown = line[:80].decode(errors="backslashreplace").strip()
        raise _Garbled(Status.FAILED, f"the worker sent what is no message: {shown}")

    def last_words(self) -> str:
        """The last line that the worker or its last launch printed so far."""
        return self._channel.last_words(self._log)

    def kill(self) -> None:
        """End the worker, what a user's code started in it, and a launch that it forked."""
        self.signal_end()
        self.wait_for_end()

    def signal_end(self) -> None:
        """Kill the worker, what a user's code started in it, and a launch that it forked."""
        self._channel.signal_end(self._forked)

    def wait_for_end(self) -> None:
        """Wait for the end of the killed worker, for at most 10 s."""
        self._channel.wait_for_end()


def _round(message: Mapping[str, Any]) -> Round:
    return _read("a round", lambda: Round.from_json(message))


def _failure(message: Mapping[str, Any]) -> Answer:
    status = _read("a failure", lambda: Status(message["status"]))
    if status is Status.OK:
        raise _unexpected(message, " of status ok")
    return Answer(status, str(message.get("reason", "")))


def _read(what: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (TypeError, ValueError, KeyError) as error:
        raise _Garbled(
            Status.FAILED, f"the worker sent {what} that cannot be read: {error}"
        ) from error


def _unexpected(message: Mapping[str, Any], when: str = "") -> _Garbled:
    kind = str(message["kind"])[:80]
    return _Garbled(Status.FAILED, f"the worker sent a message of kind {kind!r}{when}")
