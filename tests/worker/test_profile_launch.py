"""Real profiles of a small slice: what they hold, never how long it took."""

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

import pytest
from support import ROOT

from bench.schema.profile import Phase

pytest.importorskip("xprof", reason="the extra `profile` is not installed")
pytest.importorskip("pyinstrument", reason="the extra `profile` is not installed")

LOOPS = ("fit", "multistep", "compiled")
OWN_MODELS = """
import keras


class Regular(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


def regular():
    return Regular([keras.Input((28, 28)), keras.layers.Flatten(),
                    keras.layers.Dense(8, "relu", kernel_regularizer="l2"),
                    keras.layers.BatchNormalization(), keras.layers.Dropout(0.1),
                    keras.layers.Dense(10, "softmax")])


def failing():
    raise RuntimeError("no such network")
"""


@pytest.fixture(scope="module")
def folder(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """relu_mlp in every loop, an own model with all that a step may hold, and one that fails."""
    root = tmp_path_factory.mktemp("profile")
    (root / "own_models.py").write_text(OWN_MODELS)
    temporary = root / "tmp"
    temporary.mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "COLUMNS": "80",
        "PYTHONPATH": os.pathsep.join([str(root), str(ROOT)]),
    }
    for name, words in {
        "plain": ("--models", "relu_mlp", "--loops", ",".join(LOOPS), "--precisions", "float32"),
        "own": (
            "--models",
            "own_models:regular,own_models:failing",
            "--loops",
            "compiled",
            "--precisions",
            "mixed_bfloat16",
        ),
    }.items():
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "bench",
                "profile",
                *words,
                "--optimizers",
                "adam",
                "--devices",
                "cpu",
                "--batch-sizes",
                "96",
                "--data",
                str(small_data),
                "--seconds",
                "0.001",
                "--output",
                str(root / name),
            ],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        (root / f"{name}.txt").write_text(done.stdout + done.stderr)
        (root / f"{name}.code").write_text(str(done.returncode))
    return root


def rows(folder: Path, name: str) -> dict[str, list[dict[str, str]]]:
    """The rows of a table by case."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (folder / name).open(newline="") as lines:
        for row in csv.DictReader(lines):
            found[row["case"]].append(row)
    return found


def case_of(loop: str) -> str:
    return f"relu_mlp-adam-{loop}-cpu-b96-float32"


def test_it_ends_well_and_says_what_it_found(folder: Path) -> None:
    text = (folder / "plain.txt").read_text()
    assert (folder / "plain.code").read_text() == "0", text
    assert "relu_mlp/adam, cpu, batch 96, float32" in text
    assert max(map(len, text.splitlines()[:14])) <= 80
    assert "Traceback" not in text
    assert (folder / "plain/profile.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "plain/results.csv").exists()
    assert not [path for path in (folder / "plain").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("loop", LOOPS)
def test_shares_add_up_to_the_measured_step(folder: Path, loop: str) -> None:
    own = rows(folder / "plain", "profile.csv")[case_of(loop)]
    assert [row["phase"] for row in own] == [str(phase) for phase in Phase]
    assert math.fsum(float(row["share"]) for row in own) == pytest.approx(1)
    assert math.fsum(float(row["seconds_per_step"]) for row in own) == pytest.approx(
        float(own[0]["step_s"])
    )
    # 800 images in 8 whole batches of 96 and one of 32.
    assert {row["steps"] for row in own} == {"9"}
    assert float(own[0]["trace_overhead"]) > -1
    assert (own[0]["sampler_overhead"] == "") == (loop != "fit")


def test_xlas_own_products_are_named_with_their_flops(folder: Path) -> None:
    own = rows(folder / "plain", "operations.csv")[case_of("compiled")]
    assert {row["kind"] for row in own} >= {"XLA"}
    products = [row for row in own if row["flops_per_s"]]
    assert {row["phase"] for row in products} == {"forward", "backward"}
    whole = max(products, key=lambda row: float(row["self_s"]))
    assert int(whole["count"]) >= 8
    # Forward and weight gradient of the wide layer, at 96 rows or 32.
    flops = sum(float(r["flops_per_s"]) * float(r["self_s"]) for r in products)
    assert flops == pytest.approx(800 * 2 * (2 * 784 * 100 + 3 * 100 * 10), rel=1e-6)


def test_operations_of_fit_have_phases_and_shares(folder: Path) -> None:
    own = rows(folder / "plain", "operations.csv")[case_of("fit")]
    phases = {row["phase"] for row in own}
    assert {"forward", "backward", "optimizer update", "input pipeline"} <= phases
    assert math.fsum(float(row["share"]) for row in own) == pytest.approx(1)
    assert all(float(row["self_s"]) <= float(row["total_s"]) + 1e-12 for row in own)


@pytest.mark.parametrize("loop", LOOPS)
def test_memory_and_start_are_whole(folder: Path, loop: str) -> None:
    held = rows(folder / "plain", "memory.csv")[case_of(loop)]
    assert math.fsum(float(row["share"]) for row in held) == pytest.approx(1)
    by_name = {row["holder"]: int(row["bytes"]) for row in held}
    assert by_name["weights"] >= 79_510 * 4
    assert by_name["optimizer slots"] >= 2 * 79_510 * 4
    assert (by_name["images kept for the loop"] > 0) == (loop == "compiled")
    start = rows(folder / "plain", "startup.csv")[case_of(loop)]
    stages = {row["stage"]: float(row["seconds"]) for row in start}
    assert list(stages) == [
        "interpreter",
        "import",
        "images",
        "build",
        "trace",
        "compile",
        "first steps",
    ]
    assert stages["trace"] > 0
    assert (stages["compile"] > 0) or loop == "fit"


@pytest.mark.parametrize("loop", LOOPS)
def test_the_trace_opens_and_names_case_and_phases(folder: Path, loop: str) -> None:
    case = case_of(loop)
    with gzip.open(folder / f"plain/traces/{case}.json.gz", "rt") as text:
        events = json.load(text)["traceEvents"]
    processes = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert any(name.startswith(case) for name in processes)
    assert any(event["name"] == case for event in events)
    phases = {event.get("cat") for event in events}
    assert {"forward", "backward", "optimizer update"} <= phases
    board = folder / f"plain/traces/plugins/profile/{case}/host.xplane.pb"
    assert 0 < board.stat().st_size < 20_000_000
    from xprof.convert import raw_to_tool_data

    # It is still a trace that xprof, and so TensorBoard, reads.
    told, _ = raw_to_tool_data.xspace_to_tool_data([str(board)], "framework_op_stats", {})
    assert len(json.loads(told)[0]["rows"]) > 1
    assert str(folder).encode() not in board.read_bytes()
    stack = folder / f"plain/traces/{case}-python.html"
    assert stack.exists() == (loop == "fit")


def test_a_stream_is_taken_apart_by_calls_of_several_steps(tmp_path: Path) -> None:
    """The example's 40 batches are less than one call takes."""
    words = ["--models", f"{ROOT}/examples/augmented.py:digits", "--loops", "multistep"]
    words += ["--optimizers", "adam", "--precisions", "float32", "--seconds", "0.001"]
    words += ["--devices", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "profile", *words, "--output", str(tmp_path / "found")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path / "found", "profile.csv")
    (own,) = found.values()
    assert {row["steps"] for row in own} == {"40"}
    assert math.fsum(float(row["share"]) for row in own) == pytest.approx(1)


def test_an_own_step_and_mixed_precision_are_taken_apart_as_well(folder: Path) -> None:
    text = (folder / "own.txt").read_text()
    assert (folder / "own.code").read_text() == "2", text
    found = rows(folder / "own", "profile.csv")
    (broken,) = found["own_models:failing-adam-compiled-cpu-b96-mixed_bfloat16"]
    assert (broken["status"], broken["reason"]) == (
        "failed",
        "model 'own_models:failing': the function, called without arguments, "
        "raised RuntimeError: no such network (own_models.py, line 18)",
    )
    own = found["own_models:regular-adam-compiled-cpu-b96-mixed_bfloat16"]
    assert len(own) == len(Phase)
    assert math.fsum(float(row["share"]) for row in own) == pytest.approx(1)
