"""A fleet on a real cluster: three nodes on this machine, each with its own home and data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from bench.store.fleet_folder import node_runs
from bench.store.measured import read_run

pytest.importorskip("ray", reason="Ray is not installed")

_LIMIT_S = 300
SECRET = "hunter2hunter2"
# The smallest work: no framework is imported, and no ceilings are measured.
WORK = ("--models", "logistic", "--devices", "cpu")


@dataclass
class Machines:
    """Nodes that share no folder, as machines do not.

    Attributes:
        address: of the cluster.
        environment: of a driver.
    """

    cluster: Any
    folder: Path
    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def start(self, name: str, data: Path | None = None, path: Path = ROOT) -> None:
        """Start a node with a home, data and a lock of its own; `path` holds its modules."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        if not (home / "data").exists():
            shutil.copytree(data or self.data, home / "data")
        own = {
            "HOME": str(home),
            "FMNIST_DATA": str(home / "data"),
            "FMNIST_LOCK": str(home),
            "PYTHONPATH": str(path),
            "OPENBLAS_TOKEN": SECRET,
            "OMP_STACKSIZE": "4M",
            "RAY_worker_niceness": "0",
        }
        self.nodes[name] = self.cluster.add_node(
            node_name=name, num_cpus=1, object_store_memory=80_000_000, env_vars=own
        )

    def kill(self, name: str) -> None:
        """End a node as a power cut would."""
        self.cluster.remove_node(self.nodes.pop(name), allow_graceful=False)

    def fleet(self, *words: str) -> subprocess.Popen[str]:
        """Start `fmnist-bench fleet run` as a user would, elsewhere."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "bench", "fleet", "run", "--address", self.address, *words],
            cwd=home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def ended(fleet: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = fleet.communicate(timeout=_LIMIT_S)
    return fleet.returncode, out, err


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Iterator[Machines]:
    """A cluster whose head measures nothing, and three nodes that do."""
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("machines")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    environment = {**os.environ, "HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("FMNIST_DATA", None)
    found = Machines(cluster, folder, small_data, environment | {"COLUMNS": "80"})
    try:
        for name in ("n1", "n2", "n3"):
            found.start(name)
        yield found
    finally:
        cluster.shutdown()


def error_lines(err: str) -> int:
    """Lines of an error, beside the one that says which backend there is."""
    return len([line for line in err.splitlines() if not line.startswith("backend ")])


def launches(run: Path) -> list[dict[str, Any]]:
    file = run / "launches.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def ended_ok(run: Path) -> set[int]:
    """The numbers of the launches that ended ok, after however many disturbances."""
    return {launch["launch"] for launch in launches(run) if launch["status"] == "ok"}


def test_a_node_that_is_killed_under_load_and_the_rest_by_resume(
    machines: Machines,
) -> None:
    output = machines.folder / "home" / "fleet"
    fleet = machines.fleet(*WORK, "--launches", "3", "--output", "fleet")
    until = time.monotonic() + _LIMIT_S
    while not launches(output / "nodes" / "n2"):
        assert fleet.poll() is None, ended(fleet)
        assert time.monotonic() < until
        time.sleep(0.02)
    machines.kill("n2")
    code, out, err = ended(fleet)
    assert code == 2, (out, err)
    assert "n2: does not go on: the node has ended, or cannot be reached" in out
    assert "(raylet)" not in out + err
    runs = node_runs(output)
    kept = (runs["n2"] / "launches.jsonl").read_bytes()
    assert len(ended_ok(runs["n2"])) < 3
    for name in ("n1", "n3"):
        assert ended_ok(runs[name]) == set(range(3))
        assert f"{name}: done" in out

    machines.start("n2")
    code, out, err = ended(machines.fleet("--resume", "fleet"))
    assert (code, err) == (0, ""), (out, err)
    assert (runs["n2"] / "launches.jsonl").read_bytes().startswith(kept)
    for name, run in runs.items():
        measured = read_run(run)
        assert measured.environment["label"] == name
        assert ended_ok(run) == set(range(3))
    assert read_run(runs["n1"]).environment["variables"]["OMP_STACKSIZE"] == "4M"
    for file in output.rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file


def test_nodes_with_other_data_or_none_are_refused_before_anything_is_measured(
    machines: Machines, tmp_path: Path
) -> None:
    from fmnist_models import dataset

    few, data = tmp_path / "few", dataset.load(machines.data)
    few.mkdir()
    dataset.write(
        few,
        data.train_images[:500],
        data.train_labels[:500],
        data.test_images,
        data.test_labels,
    )
    machines.start("n4", few)
    try:
        code, _, err = ended(machines.fleet(*WORK, "--output", "unlike"))
        assert code == 2
        assert "node n4 has data of SHA-256" in err
        assert error_lines(err) == 1
        shutil.rmtree(machines.folder / "n4" / "data")
        code, _, err = ended(machines.fleet(*WORK, "--output", "unlike"))
        assert code == 2
        assert "node n4: " in err
        assert error_lines(err) == 1
        assert not (machines.folder / "home" / "unlike").exists()
    finally:
        machines.kill("n4")


def test_nodes_without_the_suite_are_sent_it(machines: Machines, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # An editable installation is found by a hook, which a site of this node's takes away.
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'ditable' not in repr(f)]\n"
        f"sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r} and 'editable' not in p]\n"
    )
    for name in ("n1", "n3"):
        machines.kill(name)
    machines.start("n5", path=hidden)
    try:
        code, out, err = ended(machines.fleet(*WORK, "--output", "sent"))
        assert code == 0, (out, err)
        assert "n5: fmnist-bench is not installed there, so this one was sent" in out
        assert ended_ok(node_runs(machines.folder / "home" / "sent")["n5"]) == {0}
    finally:
        machines.kill("n5")
