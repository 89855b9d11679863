"""How a worker process is reached: it is started, sent lines, listened to, and ended.

`bench.launch.process` speaks the worker's protocol over a channel and does not know on which
machine the worker runs. Here is the channel to a process of this machine.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from bench.launch.ending import Ended, death, end, end_group, last_words
from bench.launch.meeting import meeting_point
from bench.launch.placement import LaunchPlace
from bench.schema.errors import explained
from bench.schema.launch import Status

# Limit from an answer or a kill to the end of the process, which then has no more work.
EXIT_LIMIT_S = 10.0


class Channel(Protocol):
    """A worker process that was started, wherever it runs."""

    @property
    def pid(self) -> int:
        """Its process id, on its own machine."""

    def log_of(self, log: Path) -> str:
        """The path at which the worker writes what is to be the file `log` here."""

    def send(self, line: bytes) -> None:
        """Write a line to its standard input; raises OSError where it reads no more."""

    def receive(self, timeout_s: float) -> bytes | None:
        """Its next line; None where it has closed its pipe; raises `queue.Empty` if none comes."""

    def how_it_ended(self, log: Path) -> Ended:
        """Why a worker ended that has closed its pipe.

        Args:
            log: what it printed.
        """

    def last_words(self, log: Path) -> str:
        """The last line that it printed so far."""

    def signal_end(self, forked: int | None) -> None:
        """Kill it, what a user's code started in it, and the launch `forked` from it."""

    def wait_for_end(self) -> None:
        """Wait for the end of the killed worker, for at most 10 s."""


class Where(Protocol):
    """The machines on which the processes of a launch run."""

    def opened(
        self, command: Sequence[str], place: LaunchPlace, rank: int, folder: Path | None
    ) -> Channel:
        """Start one process of a launch.

        Args:
            command: the command of a worker.
            place: that of the whole launch.
            rank: the number of the process among those of the launch, from 0.
            folder: its working folder; None for the parent's.

        Raises:
            Ended: it cannot be started.
            UserError: its log cannot be written.
        """

    def meeting(self) -> AbstractContextManager[str]:
        """`HOST:PORT` at which the processes of a launch can meet within the context."""

    def named(self, rank: int, processes: int) -> str:
        """Words that follow a rank and tell where it runs; empty where all run here."""


class Here:
    """The machine of this process alone."""

    def opened(
        self, command: Sequence[str], place: LaunchPlace, rank: int, folder: Path | None
    ) -> Channel:
        """Start one process of a launch."""
        return LocalChannel(command, place.of_rank(rank), folder)

    def meeting(self) -> AbstractContextManager[str]:
        """A port of this machine alone, which no other can reach."""
        return meeting_point(os.environ)

    def named(self, rank: int, processes: int) -> str:
        """Nothing."""
        return ""


class LocalChannel:
    """A process of this machine, the pipe that it writes to, and the thread that reads it.

    Args:
        command: the command of a worker.
        place: its environment and its log.
        folder: its working folder; None for the parent's.

    Raises:
        Ended: the process cannot be started.
        UserError: the log cannot be written.
    """

    def __init__(
        self, command: Sequence[str], place: LaunchPlace, folder: Path | None = None
    ) -> None:
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
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(read,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id of the worker itself; forked launches are its children."""
        return self._process.pid

    @property
    def waiting(self) -> int:
        """The number of lines that came and were not received."""
        return self._lines.qsize()

    def _read(self, pipe: int) -> None:
        with os.fdopen(pipe, "rb") as lines:
            for line in lines:
                # A worker that is killed can leave half a line.
                if line.endswith(b"\n"):
                    self._lines.put(line)
        self._lines.put(None)

    def log_of(self, log: Path) -> str:
        """The path itself, wherever the worker stands."""
        return str(log.absolute())

    def send(self, line: bytes) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def receive(self, timeout_s: float) -> bytes | None:
        """Its next line; None where it has closed its pipe."""
        return self._lines.get(timeout=timeout_s)

    def how_it_ended(self, log: Path) -> Ended:
        """Why a worker ended that has closed its pipe."""
        try:
            return death(self._process.wait(EXIT_LIMIT_S), log)
        except subprocess.TimeoutExpired:
            return Ended(Status.FAILED, "the worker closed its channel and went on")

    def last_words(self, log: Path) -> str:
        """The last line that it printed so far."""
        return last_words(log)

    def signal_end(self, forked: int | None) -> None:
        """Kill it, what a user's code started in it, and the launch `forked` from it."""
        with contextlib.suppress(OSError):
            self._process.kill()
        end_group(self._process.pid)
        if forked is not None:
            end(forked)

    def wait_for_end(self) -> None:
        """Wait for the end of the killed worker, for at most 10 s.

        A process that hangs in a system call ends only when the call returns.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_LIMIT_S)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def _inheritable(write: int) -> tuple[str, dict[str, Any]]:
    """The pipe's number in the child, and the Popen arguments that pass only this handle.

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
