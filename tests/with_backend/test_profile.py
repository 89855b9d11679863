"""Real profiles with JAX or PyTorch: what they hold and count, never how long it took."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import keras
import pytest
from support import ROOT
from support.loops import BATCH, SAMPLES, work

from bench.schema.profile import Phase, Variant
from bench.session.traces import read_traces
from bench.worker.framework import framework
from fmnist_models import optimizers
from fmnist_models.loops import compile_model

BACKEND = keras.backend.backend()
TITLE = {"jax": "JAX", "torch": "PyTorch"}[BACKEND]
LOOPS = {"jax": ("fit", "multistep", "compiled"), "torch": ("fit", "compiled")}[BACKEND]
ROWS, ROWS_A_STEP = 800, 100
# Of relu_mlp, for a sample: forward, and the gradients of both kernels and of the hidden layer.
FORWARD = 2 * (784 * 100 + 100 * 10)
BACKWARD = 2 * (784 * 100 + 2 * 100 * 10)


@pytest.fixture(scope="module")
def folder(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """relu_mlp in every loop, in bfloat16 where the loop is compiled."""
    root = tmp_path_factory.mktemp("profile")
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    for name, loops, precision in (
        ("plain", LOOPS[:-1], "float32"),
        ("mixed", LOOPS[-1:], "mixed_bfloat16"),
    ):
        words = ["--models", "relu_mlp", "--optimizers", "adam", "--backends", BACKEND]
        words += ["--loops", ",".join(loops), "--precisions", precision, "--devices", "cpu"]
        words += ["--batch-sizes", str(ROWS_A_STEP), "--data", str(small_data)]
        words += ["--seconds", "0.001", "--output", str(root / name)]
        done = subprocess.run(
            [sys.executable, "-m", "bench", "profile", *words],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (root / f"{name}.txt").write_text(done.stdout + done.stderr)
    return root


def place(folder: Path, loop: str) -> tuple[Path, str]:
    """The folder and the name of a case."""
    name, precision = ("mixed", "mixed_bfloat16") if loop == "compiled" else ("plain", "float32")
    return folder / name, f"relu_mlp-adam-{loop}-cpu-b{ROWS_A_STEP}-{precision}-{BACKEND}"


def rows(folder: Path, loop: str, table: str) -> list[dict[str, str]]:
    where, case = place(folder, loop)
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (where / table).open(newline="") as lines:
        for row in csv.DictReader(lines):
            found[row["case"]].append(row)
    return found[case]


@pytest.mark.parametrize("loop", LOOPS)
def test_shares_add_up_to_the_measured_step(folder: Path, loop: str) -> None:
    own = rows(folder, loop, "profile.csv")
    assert [row["phase"] for row in own] == [str(phase) for phase in Phase]
    assert math.fsum(float(row["share"]) for row in own) == pytest.approx(1)
    assert {row["steps"] for row in own} == {str(ROWS // ROWS_A_STEP)}
    assert "cannot be read" not in own[0]["warnings"]
    text = place(folder, loop)[0].with_suffix(".txt").read_text()
    assert f", {TITLE}\n" in text
    assert f"under {TITLE}'s profiler a step takes" in text
    assert f"Python, {TITLE} and libraries" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("loop", LOOPS)
def test_operations_have_phases_and_the_flops_of_the_layers(folder: Path, loop: str) -> None:
    own = rows(folder, loop, "operations.csv")
    assert math.fsum(float(row["share"]) for row in own) == pytest.approx(1)
    phases = {row["phase"] for row in own}
    assert {row["kind"] for row in own} == {{"jax": "XLA", "torch": "PyTorch"}[BACKEND]}
    if (BACKEND, loop) != ("torch", "compiled"):
        # Of one graph, PyTorch tells no phases.
        assert {"forward", "backward", "optimizer update"} <= phases
    flops = sum(float(row["flops_per_s"] or 0) * float(row["self_s"]) for row in own)
    assert flops == pytest.approx(ROWS * (FORWARD + BACKWARD), rel=1e-6)


@pytest.mark.parametrize("loop", LOOPS)
def test_memory_and_start_are_whole(folder: Path, loop: str) -> None:
    held = rows(folder, loop, "memory.csv")
    assert math.fsum(float(row["share"]) for row in held) == pytest.approx(1)
    assert f"Python, {TITLE} and libraries" in {row["holder"] for row in held}
    stages = {row["stage"]: float(row["seconds"]) for row in rows(folder, loop, "startup.csv")}
    names = ["interpreter", "import", "images", "build", "trace", "compile", "first steps"]
    assert list(stages) == names
    compiles = (BACKEND, loop) != ("torch", "fit")
    assert (stages["trace"] > 0, stages["compile"] > 0) == (compiles, compiles)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_trace_opens_and_names_case_and_phases(folder: Path, loop: str) -> None:
    where, case = place(folder, loop)
    with gzip.open(where / f"traces/{case}.json.gz", "rt") as text:
        told = text.read()
    events = json.loads(told)["traceEvents"]
    processes = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert f"{case} /host:CPU" in processes
    assert any(event["name"] == case for event in events)
    assert str(folder) not in told
    board = where / f"traces/plugins/profile/{case}/host.xplane.pb"
    assert board.exists() == (BACKEND == "jax")
    assert (where / f"traces/{case}-python.html").exists() == (loop == "fit")


class Burn(keras.layers.Layer):
    """Returns its input after so many products with itself, of which no gradient is computed."""

    def __init__(self, products: int) -> None:
        super().__init__()
        self._products = products

    def call(self, x: Any) -> Any:
        burned = keras.ops.stop_gradient(x)
        for _ in range(self._products):
            # The result needs each product, and stays small.
            burned = keras.ops.tanh(keras.ops.matmul(burned, keras.ops.transpose(burned) @ burned))
        return x + 1e-6 * burned


# Of a product of (rows, 32) with its transpose and itself.
WIDTH = 32
A_PRODUCT = 2 * (2 * WIDTH * WIDTH)


def burning(products: int) -> Any:
    dense = keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            dense(WIDTH, "tanh"),
            Burn(products),
            dense(10, "softmax"),
        ]
    )


def flops_of(loop: str, products: int, folder: Path) -> dict[Variant, float]:
    """FLOPs a sample of each variant, as its trace tells them: no clock."""
    device = framework().device("cpu", "float32")
    device.configure()
    keras.utils.set_random_seed(3)
    model = burning(products)
    compile_model(model, optimizers.create("adam"), loop)
    # Batches of one size: those of two have one name in JAX's trace.
    given = work(model, SAMPLES // 4, seed=5, shuffle=False)
    variants = framework().parts(given, loop, device)
    variants.warm_up()
    found = {}
    for variant in variants.names:
        place = folder / f"{products}-{variant}"
        with framework().tracing(place):
            variants.read(variant)
        trace = read_traces(place, place, folder / "read", variant, model.name)
        flops = sum((o.flops_per_s or 0) * o.self_s for o in trace.operations)
        found[variant] = flops / SAMPLES
    return found


@pytest.mark.parametrize("loop", [LOOPS[0], LOOPS[-1]])
def test_known_work_comes_back_in_the_phase_that_does_it(loop: str, tmp_path: Path) -> None:
    """By its FLOPs: each variant does what it says, and the compiler left nothing of it out."""
    assert SAMPLES % 4 == 0
    assert BATCH > WIDTH
    plain, burned = (flops_of(loop, products, tmp_path) for products in (0, 5))
    forward = 2 * (784 * WIDTH + WIDTH * 10)
    backward = 2 * (784 * WIDTH + 2 * WIDTH * 10)
    whole = [Variant.BACKWARD, Variant.OPTIMIZER, Variant.METRICS]
    # In `fit` the last variant has the input pipeline too, in `compiled` it has nothing else.
    whole += [] if loop == "compiled" else [Variant.INPUT]
    expected = {Variant.FORWARD: forward, **dict.fromkeys(whole, forward + backward)}
    assert plain == pytest.approx({v: expected.get(v, 0) for v in plain}, rel=1e-6)
    more = {variant: flops + 5 * A_PRODUCT for variant, flops in expected.items()}
    assert burned == pytest.approx({v: more.get(v, 0) for v in burned}, rel=1e-6)
