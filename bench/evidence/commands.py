"""Runs commands of the suite in fresh processes, for their seconds and their memory."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.launch.origin import child_command
from bench.machine.loaded import CHECKOUT

CLI = child_command("bench")[1:]
_POLL_S = 0.02
# An inconclusive check ends with 3, after all of its work.
_DONE = (0, 3)


def compiled_once(folder: Path) -> dict[str, str]:
    """An environment in which Python keeps what it compiled in `folder`, as it does for users."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder)}


def seconds_of(words: Sequence[str | Path], environ: Mapping[str, str]) -> float:
    """Seconds of `python WORDS`, from its start to its end.

    Raises:
        RuntimeError: it failed.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=CHECKOUT,
        env=environ,
        capture_output=True,
        check=False,
    )
    elapsed = time.perf_counter() - started
    if done.returncode not in _DONE:
        raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr.decode()}")
    return elapsed


def memory_of(words: Sequence[str | Path], environ: Mapping[str, str], log: Path) -> int:
    """The most bytes that `python WORDS` had; `log` gets what it says.

    Raises:
        RuntimeError: it failed.
    """
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=CHECKOUT,
            env=environ,
            stdout=said,
            stderr=said,
        )
        most = peak_bytes(process)
    if process.returncode not in _DONE:
        raise RuntimeError(f"{words} ended with {process.returncode}: {log.read_text('utf-8')}")
    return most


def peak_bytes(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process; returns the most memory that it had, but for its last 20 ms.

    The system's own figure of an ended process counts that of the one that started it too.
    """
    peak_kib = 0
    while process.returncode is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text("ascii")
            peak_kib = max(peak_kib, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", status) or (0,)))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
    return 1024 * peak_kib
