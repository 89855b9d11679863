"""Every peer does the same work: the same start, order, samples and updates, in each framework.

Each training runs in a process of its own, with its framework and the environment of a launch. It
is compared with NumPy in float64.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import ROOT

from bench.machine.hardware import cpu_affinity
from bench.machine.nvml import Inventory
from bench.machine.placement import child_environment
from bench.peers.known import LOSS_ONLY, NAMES, OTHERS, PEERS, SKLEARN
from bench.peers.training import initial_weights, order_of
from bench.peers.turns import Measured, Plan, environment, measure
from bench.schema.case import Case

CASE = Case("relu_mlp", "adam", "compiled", threads=1)
BATCH, SEED, EPOCHS, SAMPLES = 32, 7, 4, 200
BATCHES = (96, 200, 900)
# Of these the order of samples is known; `fit` draws its own.
ORDERED = [name for name, peer in PEERS.items() if peer.loop in ("", "compiled")]
ORDERED.remove("bare_fit")
# optax and PyTorch add Adam's epsilon after they correct the second moment, Keras, TensorFlow's
# kernel and scikit-learn before: the "epsilon hat" of Kingma and Ba.
EPSILON_AFTER = ("jax_scan", "torch_eager", "torch_compiled")
# Trains as `bench.peers.launch` does, with and without the accuracy, and keeps the weights.
TRAIN = """
import importlib, sys
from types import SimpleNamespace
import numpy as np
from bench.peers.known import PEERS
from bench.peers.launch import suite_loop
from bench.peers.training import Training, order_of
from fmnist_models.dataset import TrainingData
name, folder, *accuracies = sys.argv[1:]
given = np.load(f"{folder}/given.npz")
pixels, y = given["pixels"], given["y"]
x = pixels.astype(np.float32) / np.float32(255)
data = TrainingData(x, y, x, y, x, y, pixels)

def train(training):
    told = []
    if PEERS[name].loop:
        loop = suite_loop(PEERS[name].loop, data, training)
        loop.train(SimpleNamespace(
            window_opens=lambda: None,
            window_closes=lambda: None,
            epoch_ends=lambda logs: told.append((logs["loss"], logs.get("accuracy"))) or True,
        ), 4)
        return told, loop.work.model.get_weights()
    peer = importlib.import_module(f"bench.peers.{PEERS[name].module}")
    by_hand = peer.build(data.flat(), training)
    told += [by_hand.epoch(order_of(7, number, len(x))) for number in range(4)]
    return told, by_hand.weights()

for accuracy in accuracies:
    told, weights = train(Training(32, 7, accuracy=accuracy == "True"))
    kept = {f"w{place}": value for place, value in enumerate(weights)}
    found = [value for _, value in told if value is not None]
    losses = [loss for loss, _ in told]
    np.savez(f"{folder}/{accuracy}.npz", losses=losses, accuracies=found, **kept)
"""


def skip_what_is_missing(name: str) -> None:
    """Frameworks are not imported here: JAX would warn of every later fork of this process."""
    if reason := NAMES[name].why_not(CASE, Inventory()):
        pytest.skip(reason)


def run(code: str, name: str, threads: int, *words: str) -> str:
    """What some code prints in a process with the environment of a peer's launch."""
    case = Case("relu_mlp", "adam", "compiled", threads=threads)
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(name, case, Inventory()) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_numpy(
    x: NDArray[np.float64], y: NDArray[np.int32], epsilon_after: bool
) -> tuple[list[NDArray[Any]], list[float], list[float]]:
    """Weights, and each epoch's mean loss and accuracy, of 784-100-10 with ReLU and Adam."""
    w = [value.astype(np.float64) for value in initial_weights(SEED)]
    first, second = [0 * value for value in w], [0 * value for value in w]
    steps, losses, accuracies = 0, [], []
    for epoch in range(EPOCHS):
        order = order_of(SEED, epoch, len(x))
        loss_sum = hits = 0
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
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
                correction = np.sqrt(1 - 0.999**steps)
                epsilon = 1e-7 if epsilon_after else 1e-7 / correction
                size = np.sqrt(second[place]) / correction + epsilon
                w[place] = w[place] - 1e-3 * first[place] / (1 - 0.9**steps) / size
        losses.append(loss_sum / len(order))
        accuracies.append(hits / len(order))
    return w, losses, accuracies


def distance(some: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]]) -> float:
    pairs = zip(some, others, strict=True)
    return float(np.sqrt(sum(((a.astype(np.float64) - b) ** 2).sum() for a, b in pairs)))


def accuracies_of(name: str) -> list[bool]:
    """Whether a peer computes the accuracy: it is tried with and without, if it can."""
    return [False] if name == SKLEARN else [True, False]


@pytest.mark.parametrize("name", ORDERED)
def test_a_peer_ends_with_the_weights_of_numpy(name: str, tmp_path: Path) -> None:
    skip_what_is_missing(name + LOSS_ONLY)
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (SAMPLES, 28, 28), dtype=np.uint8)
    y = random.integers(0, 10, SAMPLES).astype(np.int32)
    np.savez(tmp_path / "given.npz", pixels=pixels, y=y)
    run(TRAIN, name + LOSS_ONLY, 1, name, str(tmp_path), *map(str, accuracies_of(name)))
    x = pixels.reshape(SAMPLES, -1) / 255
    w, losses, accuracies = by_numpy(x, y, name in EPSILON_AFTER)
    start = initial_weights(SEED)
    assert distance(start, w) > 1
    for accuracy in accuracies_of(name):
        told = np.load(tmp_path / f"{accuracy}.npz")
        ended = [told[f"w{place}"] for place in range(4)]
        assert distance(ended, w) <= 1e-4 * distance(start, w)
        np.testing.assert_allclose(told["losses"], losses, rtol=1e-4)
        if accuracy:
            np.testing.assert_allclose(told["accuracies"], accuracies, atol=1e-6)
        else:
            assert told["accuracies"].size == 0


BY_ITSELF = """
import importlib, sys
import numpy as np
import tensorflow as tf
from bench.peers.known import PEERS
from bench.peers.training import Training
from fmnist_models.dataset import TrainingData
x, y = np.zeros((64, 28, 28), np.float32), np.zeros(64, np.int32)
data = TrainingData(x, y, x, y, x, y, x.astype(np.uint8))
module = importlib.import_module(f"bench.peers.{PEERS[sys.argv[1]].module}")
if hasattr(module, "train"):
    module.train(data, Training(32, 7), 1, lambda: None)
else:
    module.build(data.flat(), Training(32, 7))
print(tf.config.experimental.tensor_float_32_execution_enabled())
"""


@pytest.mark.parametrize(
    "name", [n for n, p in PEERS.items() if p.framework == "tensorflow" and not p.loop]
)
def test_tensorflow_by_hand_computes_in_float32_on_a_gpu_too(name: str) -> None:
    """By itself it would take TF32 there, and the suite's loops do not."""
    skip_what_is_missing(name + LOSS_ONLY)
    assert run(BY_ITSELF, name + LOSS_ONLY, 1, name).split()[-1] == "False"


@pytest.mark.parametrize("name", list(PEERS))
def test_a_launch_trains_every_sample_in_each_round(name: str, small_data: Path) -> None:
    """With and without the accuracy: in batches of 96 and a rest, in four of 200, and in one that
    is smaller than asked for."""
    skip_what_is_missing(name + LOSS_ONLY)
    names = [name if accuracy else name + LOSS_ONLY for accuracy in accuracies_of(name)]
    found: list[Measured] = []
    measure(Plan(names, BATCHES, 1, 1, 3, CASE, str(small_data)), Inventory(), found.append)
    assert sorted((m.name, m.found.batch_size) for m in found) == sorted(
        (each, batch) for each in names for batch in BATCHES
    )
    for each in found:
        measured = each.found
        assert measured.samples == 800
        assert len(measured.seconds) == len(measured.cpu_seconds) == len(measured.losses) == 3
        assert measured.losses[-1] < measured.losses[0]
        assert measured.device == "cpu"
        packages = PEERS[name].distributions
        assert all(f"{package} " in measured.software for package in packages)
        if each.name.endswith(LOSS_ONLY):
            assert measured.accuracies == []
        else:
            assert len(measured.accuracies) == 3
            assert 0.4 < measured.accuracies[-1] <= 1


@pytest.mark.parametrize("name", list(PEERS))
def test_a_peer_has_the_environment_of_the_suites_case(name: str) -> None:
    """So the same variables limit the threads of a framework, by hand and behind Keras."""
    peer = PEERS[name]
    case = Case("relu_mlp", "adam", "compiled", threads=3)
    found = environment(name + LOSS_ONLY, case, Inventory())
    if peer.framework in OTHERS:
        assert found["OPENBLAS_NUM_THREADS"] == found["OMP_NUM_THREADS"] == "3"
        return
    suites = Case("relu_mlp", "adam", "fit", threads=3, backend=peer.framework)
    assert found == child_environment(suites, Inventory())
    assert found["KERAS_BACKEND"] == peer.framework


# How many threads compute products, in each framework's own words; XLA's and TensorFlow's are told
# by the names of the process's threads.
THREADS = {
    "tensorflow": """
import tensorflow as tf
a = tf.ones((2000, 2000))
tf.function(lambda a: a @ a, jit_compile=True)(a).numpy()
import pathlib
names = [task.read_text().strip() for task in pathlib.Path("/proc/self/task").glob("*/comm")]
print(sum("XLAEigen" in name for name in names))
""",
    "jax": """
import jax.numpy as jnp
a = jnp.ones((2000, 2000))
(a @ a).block_until_ready()
import pathlib
names = [task.read_text().strip() for task in pathlib.Path("/proc/self/task").glob("*/comm")]
print(sum("XLAEigen" in name for name in names))
""",
    "torch": "import torch; print(torch.get_num_threads())",
    SKLEARN: """
import numpy, sklearn.neural_network
from threadpoolctl import threadpool_info
print(*{pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the names of threads")
@pytest.mark.skipif(
    len(cpu_affinity() or ()) < 2, reason="PyTorch and OpenBLAS have no more threads than CPUs"
)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["tensorflow_xla", "jax_scan", "torch_eager", SKLEARN])
def test_threads_limit_every_framework(name: str, threads: int) -> None:
    skip_what_is_missing(name + LOSS_ONLY)
    assert run(THREADS[PEERS[name].framework], name + LOSS_ONLY, threads).split() == [str(threads)]
