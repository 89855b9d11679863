"""Ends processes, and tells in words how one ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path

from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Status

# A line of TensorFlow's or XLA's log that is not the one before an abort: `W0000 00:00:17...`,
# `2026-01-31 12:00:00.123456: E external/...`, and what follows or precedes such a line.
_LOG_LINE = re.compile(
    r"[IWE]\d{4} |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |"
    r"WARNING: All log messages before absl|To enable the following instructions: "
)

# What errors of memory are called; other errors may speak of memory too.
_OF_MEMORY = re.compile(
    r"by SIGKILL\b|MemoryError|RESOURCE_?EXHAUSTED|\bOOM\b|out.of.memory|ALLOC_FAILED|bad_alloc"
    r"|can't allocate memory",
    re.IGNORECASE,
)


class Ended(Exception):
    """The worker or its launch ended without a result."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def death(code: int, log: Path) -> Ended:
    """How a process ended that gave no result.

    Args:
        code: its exit code; -N for signal N.
        log: what it printed.
    """
    if code < 0:
        number = -code
        known = {int(known): known.name for known in signal.Signals}
        name = known.get(number, f"signal {number}")
        hint = " (out of memory?)" if number == getattr(signal, "SIGKILL", 9) else ""
        if number == signal.SIGABRT:
            # Libraries print the reason before they call abort().
            hint = f": {last_words(log)}"
        return Ended(Status.KILLED, f"killed by {name}{hint}")
    if code == 0:
        hint = "no result, as after os._exit(0) in a model"
        return Ended(Status.FAILED, f"the worker ended with code 0 and {hint}")
    # Python itself ends with 1.
    hint = "" if code == 1 else " (os._exit?)"
    return Ended(Status.FAILED, f"the worker ended with code {code}{hint}: {last_words(log)}")


def advised(status: Status, reason: str) -> str:
    """The reason of a launch of a user's own work, with what helps where no code of it told."""
    if status is Status.TIMED_OUT:
        return f"{reason}: raise --timeout, or add --steps N where a stream never ends"
    if status is Status.KILLED:
        return f"{reason}: name smaller --batch-sizes or give fewer rows where memory lacks"
    return reason


def lacked_memory(record: LaunchRecord, case: Case) -> bool:
    """Whether a launch ended for lack of memory, whatever the user's functions are called."""
    reason = record.reason
    for name in case.own:
        reason = reason.replace(name, "")
    failed = record.status in (Status.FAILED, Status.KILLED)
    return failed and bool(_OF_MEMORY.search(reason))


def end(pid: int) -> None:
    """Kill a fork and what it started; all of them may have ended by themselves."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    end_group(pid)


def end_group(pid: int) -> None:
    """Kill all processes of the group that a process leads, or led before it ended."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def last_words(log: Path) -> str:
    """The last line that a process printed.

    Lines of TensorFlow's log are left out, which have nothing to do with most ends.
    """
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    own = [line for line in lines if not _LOG_LINE.match(line)]
    return own[-1].strip() if own else "it printed nothing"
