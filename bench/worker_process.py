"""The parent's end of a worker process: starts it, asks it, follows it, outlives it.

Requests go in as lines of JSON on its standard input; answers come back over a pipe of their own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.nvml import Gpu
from bench.record import Round, Status

OnRound = Callable[[Round], None]
_T = TypeVar("_T")
# A measurement under way; each pause is before a round, until it is taken up again.
Turns = Generator[None, None, _T]


@dataclass(frozen=True, slots=True)
class LaunchPlace:
    """Where and how a launch runs.

    Attributes:
        environment: the worker's whole environment.
        fork: fork from a template with this environment; otherwise a fresh process.
        log: file that takes what the launch prints.
        timeout_s: limit from the request to the end.
        gpu: that the launch uses; None on a CPU.
    """

    environment: Mapping[str, str]
    fork: bool
    log: Path
    timeout_s: float
    gpu: Gpu | None = None


class Ended(Exception):
    """The worker or its launch ended without a result."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _TimedOut(Ended):
    """Nothing came from the worker until the deadline."""


class WorkerProcess:
    """One worker process, its channel and the thread that reads it.

    It stands in `folder`; None for the parent's working folder.
    """

    def __init__(
        self, command: Sequence[str], place: LaunchPlace, folder: Path | None = None
    ) -> None:
        self._log = place.log
        self._forked: int | None = None
        self.idle = False
        self.paused_s = 0.0
        read, write = os.pipe()
        argument, extra = _inheritable(write)
        try:
            with place.log.open("ab") as log:
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
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(read,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the worker itself; the launches that it forks are its children."""
        return self._process.pid

    def _read(self, channel: int) -> None:
        with os.fdopen(channel, "rb") as lines:
            for line in lines:
                # A worker that was killed can leave half a line.
                with contextlib.suppress(json.JSONDecodeError):
                    self._messages.put(json.loads(line))
        self._messages.put(None)

    def wait_until_ready(self, limit_s: float) -> None:
        """Wait for imports and data; raises `Ended` when they fail."""
        message = self._next(time.perf_counter() + limit_s)
        if message["kind"] == "failure":
            raise Ended(Status(message["status"]), message["reason"])
        self.idle = True

    def serve(
        self,
        op: str,
        request: Mapping[str, Any],
        place: LaunchPlace,
        on_round: OnRound,
        answers: dict[str, Any],
        pauses: bool,
    ) -> Turns[None]:
        """Ask for one measurement and follow it to its end, filling `answers`."""
        self.idle = False
        self.paused_s = 0.0
        self._log = place.log
        self._send(
            {
                "op": op,
                "fork": place.fork,
                "pauses": pauses,
                "log": str(place.log.absolute()),
                "request": request,
            }
        )
        deadline = time.perf_counter() + place.timeout_s
        while True:
            try:
                message = self._next(deadline)
            except _TimedOut:
                limit = f"took longer than {place.timeout_s:g} s (--timeout)"
                answers.update(status=Status.TIMED_OUT, reason=limit)
                if self._forked is None:
                    return
                os.kill(self._forked, signal.SIGKILL)
                deadline = math.inf
                continue
            kind = message.pop("kind")
            if kind == "forked":
                self._forked = message["pid"]
            elif kind == "pause":
                paused = time.perf_counter()
                yield
                pause_s = time.perf_counter() - paused
                self.paused_s += pause_s
                deadline += pause_s
                self._send({"op": "go_on"})
            elif kind == "round":
                on_round(Round(**message))
            elif kind == "exit":
                self._forked = None
                self.idle = True
                if message["code"] != 0 and not answers:
                    raise self._death(message["code"])
                return
            else:
                answers.update({"status": Status.OK} if kind == "result" else {}, **message)
                if not place.fork:
                    return

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._death(self._process.wait(10)) from error

    def _next(self, deadline: float) -> dict[str, Any]:
        wait_s = None if deadline == math.inf else max(0.0, deadline - time.perf_counter())
        try:
            message = self._messages.get(timeout=wait_s)
        except queue.Empty:
            raise _TimedOut(Status.TIMED_OUT, "the worker did not start in time") from None
        if message is None:
            raise self._death(self._process.wait())
        return message

    def _death(self, code: int) -> Ended:
        if code < 0:
            number = -code
            known = {int(known): known.name for known in signal.Signals}
            name = known.get(number, f"signal {number}")
            hint = " (out of memory?)" if number == getattr(signal, "SIGKILL", 9) else ""
            return Ended(Status.KILLED, f"killed by {name}{hint}")
        last = _last_line(self._log)
        return Ended(Status.FAILED, f"the worker ended with code {code}: {last}")

    def kill(self) -> None:
        """End the worker and, where it is a template, the launch it forked."""
        self._process.kill()
        if self._forked is not None:
            # Linux does it by itself; the launch may have ended in this moment as well.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._forked, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def _inheritable(write: int) -> tuple[str, dict[str, Any]]:
    """The channel's number in the child, and what hands it over without anything else.

    The child gets a process group of its own, so that Ctrl-C reaches the parent alone,
    which then ends the launch in an orderly way.
    """
    if sys.platform == "win32":
        import msvcrt

        handle = msvcrt.get_osfhandle(write)
        os.set_handle_inheritable(handle, True)
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        group = subprocess.CREATE_NEW_PROCESS_GROUP
        return str(handle), {"startupinfo": startup, "creationflags": group}
    return str(write), {"pass_fds": (write,), "start_new_session": True}


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it printed nothing"
