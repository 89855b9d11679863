"""The guard of the memory ends a launch, and not the template that it was forked from."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from bench.launch.guard import MemoryGuard
from bench.machine import hardware

# A worker with a process of its own, which tells how that process ended.
WORKER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("began", flush=True)
print(child.wait(), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("forks", [False, True])
def test_a_fresh_launch_is_killed_with_what_it_started_and_a_template_lives(
    monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    monkeypatch.setattr(hardware, "memory_available_bytes", lambda: 0)
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == b"began\n"
        close = MemoryGuard().watch(worker.pid, {}, forks)
        if forks:
            assert worker.stdout.readline() == b"-9\n"
            assert worker.poll() is None
            worker.kill()
        # Ends where nobody holds the pipe any more.
        worker.communicate(timeout=60)
        close(None)
    assert worker.returncode == -signal.SIGKILL
