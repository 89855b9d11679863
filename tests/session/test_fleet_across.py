"""One case over the nodes of a real cluster, which are on this machine."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support import ROOT
from support.quiet import PROGRAM

from bench.store.measured import read_run
from fmnist_models import dataset

pytest.importorskip("ray", reason="Ray is not installed")

WORK = (
    *("--models", "softmax", "--optimizers", "sgd", "--loops", "fit", "--backends", "jax"),
    *("--batch-sizes", "64", "--precisions", "float32", "--devices", "cpu"),
    *("--epochs", "1", "--launches", "1"),
)
ID = "softmax-sgd-fit-cpu-b64-float32-jax-r2-p2"


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_a_case_trains_across_two_nodes_and_one_run_comes_home(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (400, 28, 28), dtype=np.uint8)
    labels = np.arange(400, dtype=np.uint8) % 10
    dataset.write(tmp_path / "data", images, labels, images, labels)
    output = tmp_path / "run"
    own = {"PYTHONPATH": str(ROOT), "FMNIST_LOCK": str(tmp_path), "HOME": str(tmp_path)}
    words = ("--local", "2", "--across", "--replicas", "2", *WORK)
    places = ("--output", output, "--data", tmp_path / "data")
    done = subprocess.run(
        [*PROGRAM, "bench", "fleet", "run", *words, *places],
        env={**os.environ, **own},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = read_run(output)
    assert list(run.rows) == [ID]
    row = run.rows[ID]
    assert (row["status"], row["replicas"], row["processes"]) == ("ok", 2, 2)
    assert "trained across 2 nodes: local-1, local-2" in row["warnings"]
    assert [node["name"] for node in run.environment["nodes"]] == ["local-1", "local-2"]
    (record,) = map(json.loads, (output / "launches.jsonl").read_text("utf-8").splitlines())
    # The all-reduce is timed over the nodes.
    assert record["all_reduce_s"] > 0
    assert run.environment["code"][record["code"]]["suite"]["bench/worker/network.py"]
    assert not list((output / "logs").iterdir())
