"""Ray's own daemons among the processes of a machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bench.machine import daemons
from bench.machine.daemons import ray_daemons_s

RAY = "/venv/lib/python3.11/site-packages/ray/"
# As `ps` shows them where Ray 2.60 runs.
DAEMONS: tuple[tuple[str, list[str]], ...] = (
    ("gcs_server", ["/x/ray/gcs_server", "--log_dir=/tmp"]),
    ("raylet", ["/x/ray/raylet"]),
    ("ray::IDLE", ["ray::IDLE", "", ""]),
    ("ray::IDLE_SpillWorker", ["ray::IDLE_SpillWorker"]),
    ("ray::DashboardAgent", ["ray::DashboardAgent"]),
    ("ray::DashboardA", ["ray::DashboardAgent"]),
    ("ray::RuntimeEnvAgent", ["ray::RuntimeEnvAgent"]),
    ("python", ["/venv/bin/python", "-u", f"{RAY}autoscaler/_private/monitor.py", "--logs-dir=/"]),
    ("python3.11", ["/venv/bin/python3.11", f"{RAY}dashboard/dashboard.py", "--port=8265"]),
    ("python", ["/venv/bin/python", "-u", f"{RAY}_private/log_monitor.py"]),
    ("python", ["/venv/bin/python", "-u", f"{RAY}_private/runtime_env/agent/main.py"]),
)
# What people run with Ray, on it, or beside it.
OTHERS: tuple[tuple[str, list[str]], ...] = (
    ("ray::OnNode.measure", ["ray::OnNode.measure"]),
    ("ray::train", ["ray::train"]),
    ("python", ["/venv/bin/python", "/venv/bin/ray", "status"]),
    ("python", ["/venv/bin/python", "/home/me/ray/monitor.py"]),
    ("python", ["/venv/bin/python", "plot.py", f"{RAY}_private/log_monitor.py"]),
    ("python", []),
    ("vim", ["vim", f"{RAY}_private/log_monitor.py"]),
    ("raylets", ["raylets"]),
)


@pytest.mark.parametrize(("name", "command"), DAEMONS + OTHERS)
def test_a_daemon_is_known_by_its_name_or_its_script(
    name: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Process:
        pid = 7

        def name(self) -> str:
            return name

        def cmdline(self) -> list[str]:
            return command

        def cpu_times(self) -> SimpleNamespace:
            return SimpleNamespace(user=1.0, system=0.5, children_user=99.0, children_system=99.0)

    monkeypatch.setattr(psutil, "process_iter", lambda: iter([Process()]))
    # The time of children that ended is not the daemon's: a raylet's are people's work.
    assert ray_daemons_s() == ({7: 1.5} if (name, command) in DAEMONS else {})


@pytest.mark.skipif(sys.platform != "linux", reason="a program's name is its file's on Linux")
def test_a_daemon_of_this_machine_is_seen(tmp_path: Path) -> None:
    program = tmp_path / "gcs_server"
    shutil.copy(str(shutil.which("sleep")), program)
    with subprocess.Popen([program, "60"]) as process:
        try:
            assert process.pid in ray_daemons_s()
        finally:
            process.kill()
    assert process.pid not in ray_daemons_s()


def test_a_process_that_ends_while_it_is_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        pid = 7

        def name(self) -> str:
            raise psutil.NoSuchProcess(7)

    monkeypatch.setattr(daemons, "_is_rays", lambda name, command: True)
    monkeypatch.setattr(psutil, "process_iter", lambda: iter([Gone()]))
    assert ray_daemons_s() == {}
