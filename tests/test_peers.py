"""`python -m bench.peers`: its table, its mistakes, and one real launch of what is installed."""

from __future__ import annotations

import importlib.util
import json

import pytest
from rich.console import Console

from bench.errors import UserError
from bench.peers.__main__ import PEERS, chosen, table
from bench.peers.launch import PeerLaunch


def launch(seconds, accuracy=0.9):
    return PeerLaunch(1000, seconds, [0.3] * len(seconds), [accuracy] * len(seconds))


def test_the_table_tells_how_many_times_the_first_is_faster():
    measured = {
        (32, "compiled"): [launch([1.0, 2.0, 9.0]), launch([2.0, 2.0, 2.0], 0.91)],
        (32, "fit"): [launch([8.0]), launch([8.0])],
    }
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(measured, [32], ["compiled", "fit"], "softmax, sgd, float32"))
    rows = [line.split() for line in captured.get().splitlines()[2:]]
    assert rows[0] == ["32", "compiled", "500", "1.00", "0.900", "to", "0.910"]
    assert rows[1] == ["32", "fit", "125", "4.00", "0.900", "to", "0.900"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--peers", "caffe"], "unknown peer 'caffe': choose from compiled"),
        (["--peers", ","], "--peers ',': name at least one"),
        (["--peers", "fit,jax_scan", "--model", "softmax"], "jax_scan trains relu_mlp"),
        (["--peers", "fit", "--model", "resnet"], "unknown model 'resnet'"),
        (["--peers", "fit", "--precision", "float32,tf32"], "unknown precision 'float32,tf32'"),
        (["--peers", "fit", "--batch-sizes", "32,0"], "--batch-sizes 0: must be at least 1"),
        (
            ["--peers", "fit", "--batch-sizes", "many"],
            "--batch-sizes 'many': must be a whole number",
        ),
        (["--peers", "fit", "--batch-sizes", "32", "--data", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(program, words, told):
    done = program("bench.peers", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_was_measured_is_shown_when_the_rest_is_missing():
    measured = {(32, "compiled"): [], (32, "fit"): [launch([8.0])], (128, "compiled"): []}
    measured[128, "fit"] = []
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(measured, [32, 128], ["compiled", "fit"], "softmax, sgd, float32"))
    rows = [line.split() for line in captured.get().splitlines()[2:]]
    assert rows == [["32", "fit", "125", "0.900", "to", "0.900"]]


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else 1)
    with pytest.raises(UserError, match=r"torch is not installed: pip install \.\[peers\]"):
        chosen("compiled,torch_eager")


@pytest.mark.parametrize("name", list(PEERS))
def test_a_launch_trains_every_sample_in_each_round(name, program, small_data):
    for package in PEERS[name]:
        # Not imported here: JAX would warn of every later fork of this process.
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} comes with the extra peers only")
    training = {"batch_size": 96, "seed": 1}
    request = {"name": name, "training": training, "rounds": 3, "folder": str(small_data)}
    done = program("bench.peers.launch", json.dumps(request))
    assert done.returncode == 0, done.stderr
    measured = PeerLaunch(**json.loads(done.stdout.splitlines()[-1]))
    assert measured.samples == 800
    assert len(measured.seconds) == len(measured.losses) == len(measured.accuracies) == 3
    assert measured.losses[-1] < measured.losses[0]
    assert 0.5 < measured.accuracies[-1] <= 1
