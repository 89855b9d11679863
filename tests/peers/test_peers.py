"""`python -m bench.peers`: its table, its mistakes, and one real launch of what is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from support import ROOT, Program

from bench.peers.__main__ import PEERS, chosen, table
from bench.peers.launch import PeerLaunch
from fmnist_models.errors import UserError


def launch(seconds: list[float], accuracy: float = 0.9) -> PeerLaunch:
    return PeerLaunch(1000, seconds, [0.3] * len(seconds), [accuracy] * len(seconds))


def test_the_table_tells_how_many_times_the_first_is_faster() -> None:
    measured = {
        (32, "compiled"): [launch([1.0, 2.0, 9.0]), launch([2.0, 2.0, 2.0], 0.91)],
        (32, "fit"): [launch([8.0]), launch([8.0])],
    }
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(measured, [32], ["compiled", "fit"], "softmax, sgd, float32"))
    rows = [line.split() for line in captured.get().splitlines()[2:]]
    same = ["1.00", "(1.00", "to", "1.00)"]
    assert rows[0] == ["32", "compiled", "500", *same, "0.900", "to", "0.910"]
    assert rows[1] == ["32", "fit", "125", "4.00", "(4.00", "to", "4.00)", "0.900", "to", "0.900"]


def test_a_ratio_is_the_median_over_pairs_of_launches_with_its_range() -> None:
    measured = {
        (32, "compiled"): [launch([1.0]), launch([2.0]), launch([4.0])],
        (32, "fit"): [launch([3.0]), launch([4.0]), launch([20.0])],
    }
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(measured, [32], ["compiled", "fit"], "softmax, sgd, float32"))
    assert "3.00 (2.00 to 5.00)" in captured.get()


def test_peers_without_accuracy_are_compared_among_themselves() -> None:
    def bare(seconds: list[float]) -> PeerLaunch:
        return PeerLaunch(1000, seconds, [0.3])

    names = ["compiled", "jax_scan", "compiled_loss", "jax_scan_loss"]
    seconds = {"compiled": 2.0, "jax_scan": 6.0, "compiled_loss": 1.0, "jax_scan_loss": 1.5}
    measured = {
        (32, name): [bare([s]) if name.endswith("_loss") else launch([s])]
        for name, s in seconds.items()
    }
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(measured, [32], names, "relu_mlp, adam, float32"))
    rows = [line.split() for line in captured.get().splitlines()[2:]]
    assert [row[3] for row in rows] == ["1.00", "3.00", "1.00", "1.50"]
    assert rows[3][-1] == "1.50)"


def test_without_another_that_reports_no_accuracy_there_is_no_ratio_to_mislead() -> None:
    measured = {(32, "compiled"): [launch([1.0])], (32, "jax_scan_loss"): [launch([2.0])]}
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(measured, [32], ["compiled", "jax_scan_loss"], "relu_mlp"))
    assert "2.00" not in captured.get()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--peers", "caffe"], "unknown peer 'caffe': choose from compiled"),
        (["--peers", ","], "--peers ',': a value is empty"),
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
def test_a_mistake_is_one_line_and_exit_code_2(
    program: Program, words: list[str], told: str
) -> None:
    done = program("bench.peers", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_was_measured_is_shown_when_the_rest_is_missing() -> None:
    measured = {(32, "compiled"): [], (32, "fit"): [launch([8.0])], (128, "compiled"): []}
    measured[128, "fit"] = []
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(measured, [32, 128], ["compiled", "fit"], "softmax, sgd, float32"))
    rows = [line.split() for line in captured.get().splitlines()[2:]]
    assert rows == [["32", "fit", "125", "0.900", "to", "0.900"]]


def in_jax(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own: JAX would warn of every later fork of this one."""
    for package in PEERS["jax_scan"]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} comes with the extra peers only")
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("wide", ["0", "1"])
def test_the_installed_jax_computes_what_a_release_computed_wrong(wide: str) -> None:
    code = "from bench.peers import jax_scan; jax_scan.refuse_wrong_results()"
    done = in_jax(code, JAX_ENABLE_X64=wide)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("jax.jit = lambda f: lambda x: f(x).at[-1].multiply(0.998)", "product and sum in float32"),
        (
            "jax.numpy.arctan = lambda x, right=jax.numpy.arctan: right(x) * (x.size < 50)",
            "the arctan of 50 values in float32",
        ),
    ],
)
def test_a_jax_that_computes_wrong_results_is_refused_in_one_line(
    broken: str, told: str, small_data: Path
) -> None:
    request = {
        "name": "jax_scan",
        "training": {"batch_size": 96, "seed": 1},
        "rounds": 1,
        "folder": str(small_data),
    }
    argument = json.dumps(request)
    code = (
        "import jax, sys; from bench.peers import jax_scan, launch; "
        f"{broken}; sys.argv = ['launch', {argument!r}]; launch.main()"
    )
    done = in_jax(code)
    assert done.returncode == 2
    assert told in done.stderr
    assert "so its speed cannot be compared" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def numpy_losses(
    weights: Sequence[NDArray[Any]],
    x: NDArray[Any],
    y: NDArray[Any],
    orders: Iterable[NDArray[Any]],
    batch: int,
) -> list[tuple[float, float]]:
    """Mean loss and accuracy of each epoch of 784-100-10 with ReLU and Adam, in float64."""
    x = x.astype(np.float64)
    w = [value.astype(np.float64) for value in weights]
    first, second = [0 * value for value in w], [0 * value for value in w]
    steps, told = 0, []
    for order in orders:
        loss_sum = hits = 0
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            hidden = np.maximum(x[rows] @ w[0] + w[1], 0)
            logits = hidden @ w[2] + w[3]
            shifted = logits - logits.max(axis=1, keepdims=True)
            chance = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
            right = (np.arange(len(rows)), y[rows])
            loss_sum -= np.log(chance[right]).sum()
            hits += (logits.argmax(axis=1) == y[rows]).sum()
            error = chance.copy()
            error[right] -= 1
            error /= len(rows)
            back = (error @ w[2].T) * (hidden > 0)
            slopes = [x[rows].T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
            steps += 1
            for place, slope in enumerate(slopes):
                first[place] = 0.9 * first[place] + 0.1 * slope
                second[place] = 0.999 * second[place] + 0.001 * slope**2
                size = np.sqrt(second[place] / (1 - 0.999**steps)) + 1e-7
                w[place] = w[place] - 1e-3 * first[place] / (1 - 0.9**steps) / size
        told.append((loss_sum / len(order), hits / len(order)))
    return told


def test_the_jax_peer_trains_as_numpy_does(tmp_path: Path) -> None:
    """Each epoch's loss rests on every weight that the epochs before it left."""
    code = """
import numpy as np
from types import SimpleNamespace
from bench.peers.jax_scan import build, initial_weights
from bench.peers.launch import Training
given = np.load("given.npz")
start = initial_weights(7)
data = SimpleNamespace(train_x=given["x"], train_y=given["y"])
told = {}
for accuracy in (True, False):
    epoch = build(data, Training(32, 7, accuracy=accuracy))
    told[accuracy] = [epoch(order) for order in given["orders"]]
assert [loss for loss, _ in told[True]] == [loss for loss, nothing in told[False]]
assert all(nothing is None for _, nothing in told[False])
weights = {f"{layer}_{part}": start[layer][part] for layer in start for part in start[layer]}
np.savez("told.npz", told=told[True], **weights)
"""
    random = np.random.default_rng(3)
    x = random.random((200, 784), dtype=np.float32)
    y = random.integers(0, 10, 200).astype(np.int32)
    orders = np.array([random.permutation(200) for _ in range(4)], dtype=np.int32)
    np.savez(tmp_path / "given.npz", x=x, y=y, orders=orders)
    done = in_jax(f"import os; os.chdir({str(tmp_path)!r})\n{code}")
    assert done.returncode == 0, done.stderr
    told = np.load(tmp_path / "told.npz")
    weights = [told[name] for name in ("hidden_w", "hidden_b", "output_w", "output_b")]
    np.testing.assert_allclose(told["told"], numpy_losses(weights, x, y, orders, 32), rtol=1e-3)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else 1)
    with pytest.raises(UserError, match=r"torch is not installed: pip install \.\[peers\]"):
        chosen("compiled,torch_eager")


@pytest.mark.parametrize("name", list(PEERS))
def test_a_launch_trains_every_sample_in_each_round(
    name: str, program: Program, small_data: Path
) -> None:
    for package in PEERS[name]:
        # Not imported here: JAX would warn of every later fork of this process.
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} comes with the extra peers only")
    training = {"batch_size": 96, "seed": 1, "accuracy": not name.endswith("_loss")}
    name = name.removesuffix("_loss")
    request = {"name": name, "training": training, "rounds": 3, "folder": str(small_data)}
    done = program("bench.peers.launch", json.dumps(request))
    assert done.returncode == 0, done.stderr
    measured = PeerLaunch(**json.loads(done.stdout.splitlines()[-1]))
    assert measured.samples == 800
    assert len(measured.seconds) == len(measured.losses) == 3
    assert measured.losses[-1] < measured.losses[0]
    if training["accuracy"]:
        assert len(measured.accuracies) == 3
        assert 0.5 < measured.accuracies[-1] <= 1
    else:
        assert measured.accuracies == []


def test_a_product_is_compared_within_each_process_and_names_the_cores() -> None:
    from bench.peers.products import _table

    readings = {
        ("forward 784x100", 32, "YNNPACK"): [
            ((2e-5, 1.0), (2e-5, 1.9)),
            ((4e-5, 1.0), (8e-5, 1.9)),
        ],
        ("forward 784x100", 32, "Eigen"): [((2e-5, 1.0), (6e-5, 1.0))],
    }
    console = Console(width=120)
    with console.capture() as captured:
        console.print(_table(readings))
    row = captured.get().splitlines()[1].split()
    assert row == [
        *("forward", "784x100", "32", "20", "on", "1.0"),
        *("1.50", "(1.00", "to", "2.00)", "on", "1.9"),
        *("3.00", "(3.00", "to", "3.00)", "on", "1.0"),
    ]


def test_each_product_of_a_step_is_measured(program: Program) -> None:
    done = program("bench.peers.products", "--worker", "--batch-sizes", "8")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [name for name, *_ in told] == [
        "forward 784x100",
        "forward 100x10",
        "input gradient 100x10",
        "weight gradient 784x100",
        "weight gradient 100x10",
    ]
    assert all(seconds > 0 and cores > 0 for _, _, *both in told for seconds, cores in both)
