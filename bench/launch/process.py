"""The parent's side of a worker process: starts it, sends requests, reads answers, ends it.

Requests are lines of JSON on the worker's standard input; answers come over a separate pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from bench.launch.ending import Ended, death, end, end_group
from bench.launch.placement import LaunchPlace
from bench.launch.stepwise import OnRound, Turns
from bench.schema.errors import explained
from bench.schema.launch import Round, Status

# Limit from an answer or a kill to the end of the process, which then has no more work.
EXIT_LIMIT_S = 10.0
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
    """One worker process, its channel and the thread that reads it.

    Args:
        command: the command of a worker.
        place: its environment and its log.
        folder: its working folder; None for the parent's.

    Attributes:
        idle: the process is ready for a request.
        paused_s: seconds of pauses in the current or last request.

    Raises:
        Ended: the process cannot be started.
        UserError: the log cannot be written.
    """

    def __init__(
        self, command: Sequence[str], place: LaunchPlace, folder: Path | None = None
    ) -> None:
        self._log = place.log
        self._forked: int | None = None
        self.idle = False
        self.paused_s = 0.0
        with explained(place.log.parent):
            log = place.log.open("ab")
        read, write = os.pipe()
        argument, extra = _inheritable(write)
        try:
            with log:
                self._process = subprocess.Popen(
                    [*command, "--channel", argument],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(place.environment),
                    cwd=folder,
                    **extra,
                )
        except OSError as error:
            os.close(read)
            reason = f"cannot start {command[0]}: {error.strerror or error}"
            raise Ended(Status.FAILED, reason) from error
        finally:
            os.close(write)
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(read,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id of the worker itself; forked launches are its children."""
        return self._process.pid

    def _read(self, channel: int) -> None:
        with os.fdopen(channel, "rb") as lines:
            for line in lines:
                # A worker that is killed can leave half a line.
                if line.endswith(b"\n"):
                    self._messages.put(line)
        self._messages.put(None)

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
        log = str(place.log.absolute())
        asked = {"fork": place.fork, "pauses": pauses, "log": log, "request": request}
        self._send({"op": op, **asked})
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
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._end_of_process() from error

    def _next(self, deadline: float) -> dict[str, Any]:
        try:
            line = self._messages.get(timeout=max(0.0, deadline - time.perf_counter()))
        except queue.Empty:
            raise _TimedOut(Status.TIMED_OUT, "the worker did not answer in time") from None
        if line is None:
            raise self._end_of_process()
        try:
            message = json.loads(line)
            if isinstance(message["kind"], str):
                return dict(message)
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        shown = line[:80].decode(errors="backslashreplace").strip()
        raise _Garbled(Status.FAILED, f"the worker sent what is no message: {shown}")

    def _end_of_process(self) -> Ended:
        """Why a worker with a closed channel ended."""
        try:
            return death(self._process.wait(EXIT_LIMIT_S), self._log)
        except subprocess.TimeoutExpired:
            return Ended(Status.FAILED, "the worker closed its channel and went on")

    def kill(self) -> None:
        """End the worker, what a user's code started in it, and a launch that it forked."""
        self.signal_end()
        self.wait_for_end()

    def signal_end(self) -> None:
        """Kill the worker, what a user's code started in it, and a launch that it forked."""
        with contextlib.suppress(OSError):
            self._process.kill()
        end_group(self._process.pid)
        if self._forked is not None:
            end(self._forked)

    def wait_for_end(self) -> None:
        """Wait for the end of the killed worker, for at most 10 s.

        A process that hangs in a system call ends only when the call returns.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_LIMIT_S)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


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


def _inheritable(write: int) -> tuple[str, dict[str, Any]]:
    """The channel's number in the child, and the Popen arguments that pass only this handle.

    The child gets a process group of its own. So Ctrl-C reaches only the parent, which then ends
    the launch properly.
    """
    if sys.platform == "win32":
        import msvcrt

        handle = msvcrt.get_osfhandle(write)
        os.set_handle_inheritable(handle, True)
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        group = subprocess.CREATE_NEW_PROCESS_GROUP
        return str(handle), {"startupinfo": startup, "creationflags": group}
    return str(write), {"pass_fds": (write,), "start_new_session": True}
