"""The manual's sbatch script, run by a real Slurm: a controller and two nodes on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from support import ROOT

from bench.schema.launch import Status
from bench.store.fleet_folder import node_runs
from bench.store.measured import read_run

SCRIPT = ROOT / "docs/how-to/fleet.sbatch"
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
# Administrators' programs are not on everybody's path.
FOUND = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in DAEMONS}
pytestmark = [
    pytest.mark.skipif(
        not all(FOUND.values()),
        reason="no Slurm here: apt-get install --no-install-recommends slurm-wlm munge",
    ),
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a test's own Slurm runs as root"
    ),
]
NODES = ("n1", "n2")
PATIENCE_S = 300
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
FirstJobId={first_job}
KillWait=2
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""
# How busy the machine of the tests is must decide none of them; on a node, nobody else can say so.
QUIET = """\
from bench.machine import counters
from support import quiet

counters.watch = quiet.watch
"""


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports


def awaited(seen: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not seen():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a user of a cluster with two nodes, which are this machine."""
    folder = tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
    key = folder / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    controller, *ports = free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1"
        for node, port in zip(NODES, ports, strict=True)
    )
    configuration = folder / "slurm.conf"
    facts = {"host": host, "controller": controller, "folder": folder, "nodes": nodes}
    # Its number decides the job's port, and the folder of its logs.
    configuration.write_text(CONFIGURATION.format(first_job=os.getpid(), **facts))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    munge = [f"--{what}-file={folder}/munged.{what}" for what in ("pid", "log", "seed")]
    commands = [
        # It would rather not use a folder of mine alone.
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge"],
        ["slurmctld", "-D"],
        *(["slurmd", "-D", "-N", node] for node in NODES),
    ]
    commands[0] += munge
    daemons: list[subprocess.Popen[bytes]] = []
    with (folder / "daemons.log").open("wb") as log:
        try:
            for name, *words in commands:
                start = [str(FOUND[name]), *words]
                daemons.append(subprocess.Popen(start, env=environment, stdout=log, stderr=log))
                if name == "munged":
                    awaited((folder / "munge").exists, (folder / "daemons.log").read_text())
            awaited(lambda: idle(environment) == len(NODES), "the nodes of Slurm are not idle")
            yield environment
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(PATIENCE_S)


def idle(environment: Mapping[str, str]) -> int:
    asked = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    told = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    return len(told.stdout.split())


def job(number: str, environment: Mapping[str, str]) -> Mapping[str, str]:
    """What Slurm says of a job."""
    asked = ["scontrol", "--oneliner", "show", "job", number]
    told = subprocess.check_output(asked, env=environment, text=True)
    return dict(word.split("=", 1) for word in told.split() if "=" in word)


def running_in(session: Path) -> list[psutil.Process]:
    """The processes that work in a folder of Ray's."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if str(session) in " ".join(each.info["cmdline"] or ())]


def test_the_script_measures_on_each_node_and_ends_all(
    tmp_path: Path, small_data: Path, slurm: Mapping[str, str]
) -> None:
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    (quiet / "sitecustomize.py").write_text(QUIET)
    command = Path(sys.executable).parent
    environment = {
        **slurm,
        "PATH": f"{command}:{slurm['PATH']}",
        "PYTHONPATH": f"{quiet}:{ROOT}:{ROOT / 'tests'}",
        "HOME": str(tmp_path),
    }
    options = ["--models=logistic", f"--data={small_data}", f"--output={tmp_path / 'fleet'}"]
    start = [str(FOUND["sbatch"]), "--parsable", str(SCRIPT), *options]
    number = subprocess.check_output(start, cwd=tmp_path, env=environment, text=True).strip()
    session = Path(f"/tmp/fleet-{number}")
    try:
        awaited(lambda: job(number, slurm)["JobState"] in ENDED, "the job did not end")
        told = (tmp_path / f"fleet-{number}.log").read_text()
        assert job(number, slurm)["ExitCode"] == "0:0", told
        runs = {name: read_run(folder) for name, folder in node_runs(tmp_path / "fleet").items()}
        assert list(runs) == list(NODES)
        assert all(
            row["status"] == Status.OK for run in runs.values() for row in run.rows.values()
        ), told
        awaited(lambda: not running_in(session), f"daemons of Ray are left: {session}")
    finally:
        shutil.rmtree(session, ignore_errors=True)
