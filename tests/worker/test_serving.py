"""What a user's code does in a launch stays in that launch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import psutil
import pytest
from support import ROOT

from bench.launch.launcher import CAN_FORK

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="no fork here")
# A template whose launches run CODE as a user's function would.
TEMPLATE = """
from bench.worker import serve

def measure(op, request, emit, pause):
    import sys
    exec(request["code"])

serve._prepare = lambda folder: measure
serve.main()
"""
SLEEPER = "subprocess.Popen(['sleep', '600']).pid"
FORKED = "multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,))"


def served(*codes: str) -> list[dict[str, Any]]:
    """The messages of a template that served a launch of each code, in their order."""
    read, write = os.pipe()
    fixed = {"op": "launch", "fork": True, "pauses": False, "log": os.devnull}
    asked = [{**fixed, "request": {"code": code, "models": [], "cases": []}} for code in codes]
    done = subprocess.run(
        [sys.executable, "-c", TEMPLATE, "--channel", str(write)],
        input="".join(json.dumps(request) + "\n" for request in asked),
        text=True,
        pass_fds=(write,),
        cwd=ROOT,
        check=False,
    )
    os.close(write)
    assert done.returncode == 0
    with os.fdopen(read) as channel:
        return [json.loads(line) for line in channel]


def test_a_function_cannot_read_the_requests_of_others() -> None:
    told = served("input('rate? ')", "sys.stdin.close()", "emit({'kind': 'pause'})")
    kinds = [message["kind"] for message in told if message["kind"] != "forked"]
    assert kinds == ["ready", "failure", "exit", "exit", "pause", "exit"]
    reason = next(message["reason"] for message in told if "reason" in message)
    assert reason == "EOFError: EOF when reading a line"


@pytest.mark.parametrize("end", ["", "os._exit(3)", "raise SystemExit"])
def test_what_a_launch_started_ends_with_it(end: str) -> None:
    code = f"""
import multiprocessing, subprocess, sys, time, os
other = {FORKED}
other.start()
emit({{"kind": "pids", "pids": [{SLEEPER}, other.pid]}})
{end}
"""
    told = served(code, "emit({'kind': 'next'})")
    (pids,) = [message["pids"] for message in told if message["kind"] == "pids"]
    assert not [pid for pid in pids if psutil.pid_exists(pid) and runs(pid)]
    assert "next" in [message["kind"] for message in told]


def test_the_system_ends_a_launch_first_where_memory_lacks() -> None:
    told = served("emit({'kind': open('/proc/self/oom_score_adj').read().strip()})")
    assert "1000" in [message["kind"] for message in told]


def runs(pid: int) -> bool:
    """Whether a process runs; one whose parent has ended may wait to be collected."""
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
