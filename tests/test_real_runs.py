"""The whole suite against real TensorFlow, on a small slice of the real images."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from support import ROOT, Program, quiet

OWN_MODELS = """
import time

import keras
import tensorflow as tf

SLEEP_S = 2.0


def plain():
    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(),
                             keras.layers.Dense(10, "softmax")])


class Sleepy(keras.Sequential):
    def train_step(self, data):
        with tf.control_dependencies([tf.py_function(lambda: time.sleep(SLEEP_S), [], [])]):
            data = tf.nest.map_structure(tf.identity, data)
        return super().train_step(data)


def sleepy():
    return Sleepy([keras.Input((784,)), keras.layers.Dense(10, "softmax")])


def unmoved():
    return keras.Sequential([keras.Input((784,)), keras.layers.Dense(10),
                             keras.layers.Rescaling(0.0), keras.layers.Softmax()])


def frozen():
    model = plain()
    model.trainable = False
    return model


class OwnStep(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=predicted)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, predicted)
        return {metric.name: metric.result() for metric in self.metrics}


class OwnCall(OwnStep):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(16, "relu")
        self.out = keras.layers.Dense(10, "softmax", dtype="float32")

    def call(self, x):
        return self.out(self.hidden(x))

    def test_step(self, data):
        x, y = data
        return {"error": self.compute_loss(y=y, y_pred=self(x))}


def own_call():
    return OwnCall()


def cleared():
    keras.utils.clear_session()
    return plain()


def leaving():
    raise SystemExit(3)


def crashing():
    import os
    os.abort()
"""


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (Path(folder) / "results.csv").open(newline="") as lines:
        return {row["case"]: row for row in csv.DictReader(lines)}


@pytest.fixture(scope="module")
def documented(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Every loop and precision that a CPU has, and the logistic baseline."""
    import os
    import subprocess

    folder = tmp_path_factory.mktemp("documented")
    done = subprocess.run(
        [
            *quiet.PROGRAM,
            "bench",
            "run",
            "--data",
            str(small_data),
            "--models",
            "relu_mlp,logistic",
            "--optimizers",
            "adam",
            "--loops",
            "fit,multistep,compiled,sklearn",
            "--batch-sizes",
            "96",
            "--precisions",
            "float32,mixed_float16,tf32",
            "--epochs",
            "2",
            "--launches",
            "1",
            "--output",
            "run",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run", done.stdout


def test_every_case_is_a_row(documented: tuple[Path, str]) -> None:
    rows = rows_of(documented[0])
    assert len(rows) == 3 * 3 + 1
    by_status = {
        status: [c for c, r in rows.items() if r["status"] == status]
        for status in ("ok", "skipped")
    }
    assert len(by_status["ok"]) == 7
    assert all("tf32" in case for case in by_status["skipped"])


def test_a_run_may_hold_two_frameworks(program: Program, small_data: Path, tmp_path: Path) -> None:
    words = "--models relu_mlp --optimizers adam --loops fit,multistep,compiled --devices cpu"
    words += " --batch-sizes 96 --precisions float32 --epochs 2 --launches 1 --output run"
    done = program(
        "bench", "run", "--data", small_data, *words.split(), "--backends", "tensorflow,jax"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(tmp_path / "run")
    ids = [f"relu_mlp-adam-{loop}-cpu-b96-float32" for loop in ("fit", "multistep", "compiled")]
    assert set(rows) == {*ids, *(f"{case}-jax" for case in ids)}
    assert {row["status"] for row in rows.values()} == {"ok"}
    # TensorFlow on a CPU leaves `fit` to its own kernels, JAX compiles each step.
    assert [rows[f"{ids[0]}{end}"]["jit_compile"] for end in ("", "-jax")] == ["false", "true"]
    for case in ids:
        one, other = rows[case], rows[f"{case}-jax"]
        same = ("data_digest", "model_digest", "initial_weights")
        assert [one[name] for name in same] == [other[name] for name in same]
        assert len(one["initial_weights"]) == 64
        assert one["parameters"] == other["parameters"]
        assert abs(float(one["val_score"]) - float(other["val_score"])) < 0.2
    told = json.loads((tmp_path / "run/environment.json").read_text("utf-8"))
    assert {c["backend"] for c in told["ceilings"]} == {"tensorflow", "jax"}


def test_rows_hold_what_was_trained(documented: tuple[Path, str]) -> None:
    row = rows_of(documented[0])["relu_mlp-adam-compiled-cpu-b96-float32"]
    assert row["parameters"] == "79510"
    assert row["jit_compile"] == "true"
    assert int(row["rounds"]) >= 20
    assert float(row["warmup_s"]) > 0
    assert int(row["peak_host_memory_bytes"]) > 0
    assert row["peak_device_memory_bytes"] == ""
    assert 0.1 < float(row["val_score"]) <= 1
    assert rows_of(documented[0])["relu_mlp-adam-fit-cpu-b96-float32"]["jit_compile"] == "false"


def test_rounds_count_the_partial_batch(documented: tuple[Path, str]) -> None:
    with (documented[0] / "rounds.csv").open(newline="") as lines:
        rounds = [r for r in csv.DictReader(lines) if "sklearn" not in r["case"]]
    assert {r["samples"] for r in rounds} == {"800"}
    assert {r["updates"] for r in rounds} == {str(math.ceil(800 / 96))}


def test_nothing_names_the_machine_or_its_user(documented: tuple[Path, str]) -> None:
    import getpass
    import platform

    text = (documented[0] / "environment.json").read_text()
    assert str(Path.home()) not in text.replace(f'"{Path.home()}"', "") or str(Path.home()) == "/"
    for name in (platform.node(), getpass.getuser()):
        if len(name) > 4:
            assert name not in text
    described = json.loads(text)
    assert described["versions"]["tensorflow"]
    assert described["software"]["built_with_xla"] is True
    assert len(described["dataset_digest"]) == 64


def test_the_screen_fits_80_columns_and_names_the_files(documented: tuple[Path, str]) -> None:
    screen = documented[1]
    for name in ("results.csv", "rounds.csv", "environment.json", "comparison.png", "report.html"):
        assert name in screen
    lines = screen.splitlines()
    tables = lines[lines.index(next(line for line in lines if line.strip() == "cpu, float32")) :]
    tables = tables[: next(n for n, line in enumerate(tables) if "warning:" in line)]
    assert len(tables) >= 10
    assert max(map(len, tables)) <= 80
    assert (documented[0] / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "relu_mlp-adam-fit-cpu-b96-float32" in (documented[0] / "report.html").read_text("utf-8")


def test_a_known_sleep_in_every_step_is_timed_within_two_percent(
    program: Program, tmp_path: Path, small_data: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN_MODELS)
    done = program(
        "bench",
        "run",
        "--data",
        small_data,
        "--models",
        "own:sleepy",
        "--optimizers",
        "sgd",
        "--loops",
        "fit",
        "--batch-sizes",
        "400",
        "--precisions",
        "float32",
        "--epochs",
        "2",
        "--output",
        "run",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "run/rounds.csv").open(newline="") as lines:
        seconds = [float(row["seconds"]) for row in csv.DictReader(lines)]
    truth = 2 * 2.0  # steps of an epoch, each with a sleep so long that a busy machine adds < 2 %
    assert min(seconds) >= truth
    # The quietest round: a busy machine may delay any one of them, but adds to it only.
    assert min(seconds) <= truth * 1.02


BAD_MODELS = {
    "unmoved": ("invalid", "the weights did not change"),
    "frozen": ("invalid", "round 1 made 0 updates, not 8"),
    "leaving": ("failed", "called sys.exit(3)"),
    "crashing": ("failed", "killed by SIGABRT"),
    "absent": ("failed", "own has no function 'absent'"),
}


def test_a_bad_model_is_a_row_with_its_reason_and_the_others_go_on(
    program: Program, tmp_path: Path, small_data: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN_MODELS)
    models = ",".join(f"own:{builder}" for builder in (*BAD_MODELS, "plain"))
    done = program(
        "bench",
        "run",
        "--data",
        small_data,
        "--models",
        models,
        "--optimizers",
        "sgd",
        "--loops",
        "compiled",
        "--batch-sizes",
        "100",
        "--precisions",
        "float32",
        "--epochs",
        "1",
        "--launches",
        "1",
        "--output",
        "run",
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    rows = {row["model"]: row for row in rows_of(tmp_path / "run").values()}
    assert rows.pop("own:plain")["status"] == "ok"
    for builder, (status, reason) in BAD_MODELS.items():
        assert rows[f"own:{builder}"]["status"] == status
        assert reason in rows[f"own:{builder}"]["reason"]


def test_own_steps_calls_and_precisions_are_rows_of_their_own(
    program: Program, tmp_path: Path, small_data: Path
) -> None:
    """A sub-classed model that is not built, with steps of its own that tell no accuracy, trains
    in every loop; one that is float32 in a mixed case is no row of that precision."""
    (tmp_path / "own.py").write_text(OWN_MODELS)
    done = program(
        "bench",
        "run",
        "--data",
        small_data,
        "--models",
        "own:own_call,own:cleared",
        "--optimizers",
        "sgd",
        "--loops",
        "fit,multistep,compiled",
        "--batch-sizes",
        "96",
        "--precisions",
        "mixed_bfloat16",
        "--epochs",
        "1",
        "--launches",
        "1",
        "--output",
        "run",
    )
    assert done.returncode == 2, done.stdout + done.stderr
    rows = rows_of(tmp_path / "run").values()
    own = [row for row in rows if row["model"] == "own:own_call"]
    assert [row["status"] for row in own] == ["ok"] * 3, [row["reason"] for row in own]
    # 784 x 16 twice, and 16 x 10 three times in float32.
    products = 2 * 784 * 16
    share = products / (products + 3 * 16 * 10)
    assert [float(row["precision_share"]) for row in own] == [pytest.approx(share)] * 3
    assert all(float(row["val_score"]) > 0 and row["val_loss"] == "" for row in own)
    # The first layer has no gradient of its input.
    counted = 2 * (products + 3 * 16 * 10)
    assert [row["flops_per_sample"] for row in own] == [str(counted)] * 3
    assert all(float(row["roofline_fraction"]) > 0 for row in own)
    assert all(row["products_fraction"] == "" for row in own)
    for row in rows:
        if row["model"] == "own:cleared":
            assert row["status"] == "invalid"
            assert "0% of the multiply-adds are in bfloat16" in row["reason"]
            assert "clear_session" in row["reason"]


def test_forked_and_fresh_launches_agree(
    program: Program, tmp_path: Path, small_data: Path
) -> None:
    """The same seed trains the same model, and needs about the same memory."""
    words = (
        "bench",
        "run",
        "--data",
        small_data,
        "--models",
        "relu_mlp",
        "--optimizers",
        "adam",
        "--loops",
        "compiled",
        "--batch-sizes",
        "64",
        "--precisions",
        "float32",
        "--epochs",
        "2",
        "--launches",
        "1",
    )
    for name, more in {"forked": (), "fresh": ("--fresh",)}.items():
        done = program(*words, "--output", name, *more)
        assert done.returncode == 0, done.stdout + done.stderr
    (forked,), (fresh,) = (rows_of(tmp_path / name).values() for name in ("forked", "fresh"))
    assert forked["val_loss"] == fresh["val_loss"]
    assert forked["test_score"] == fresh["test_score"]
    rises = [int(row["peak_host_memory_bytes"]) for row in (forked, fresh)]
    assert max(rises) <= 1.25 * min(rises)


def test_pytest_tells_the_same_seconds_to_the_digit(
    program: Program, tmp_path: Path, small_data: Path
) -> None:
    words = (
        "pytest",
        ROOT / "bench",
        "--benchmark-only",
        "-p",
        "no:cacheprovider",
        "--data",
        small_data,
        "--models",
        "softmax",
        "--optimizers",
        "sgd,adam",
        "--loops",
        "fit",
        "--devices",
        "cpu",
        "--batch-sizes",
        "100",
        "--precisions",
        "float32,tf32",
        "--epochs",
        "2",
        "-k",
        "adam",
    )
    done = program(
        *words,
        "--fmnist-output",
        tmp_path / "run",
        "--benchmark-json=out.json",
        "--benchmark-storage=saved",
        "--benchmark-autosave",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped, 2 deselected" in done.stdout
    told = json.loads((tmp_path / "out.json").read_text())
    (entry,) = told["benchmarks"]
    with (tmp_path / "run/rounds.csv").open(newline="") as lines:
        seconds = [row["seconds"] for row in csv.DictReader(lines)]
    assert [repr(value) for value in entry["stats"]["data"]] == seconds
    assert entry["group"] == "softmax adam, batch 100, float32, cpu"
    assert entry["extra_info"]["test_score"] > 0
    assert told["machine_info"]["versions"]["tensorflow"]
    assert "node" not in told["machine_info"]

    compared = program(
        *words,
        "--fmnist-output",
        tmp_path / "again",
        "--benchmark-storage=saved",
        "--benchmark-compare",
        "--benchmark-compare-fail=min:100000%",
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "(0001" in compared.stdout


def test_collecting_is_quick_because_it_imports_no_tensorflow(program: Program) -> None:
    bench = ROOT / "bench"
    done = program(
        "pytest",
        bench,
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        PYTHONPROFILEIMPORTTIME="1",
    )
    assert done.returncode == 0, done.stdout
    assert "relu_mlp-adam-compiled-cpu-b32-float32" in done.stdout
    assert "logistic-sklearn-cpu-b1-float64" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"tensorflow", "keras", "matplotlib", "pandas", "scipy", "sklearn"}


def test_a_mistake_is_pytests_usage_error(program: Program, tmp_path: Path) -> None:
    bench = ROOT / "bench"
    done = program("pytest", bench, "--models", "resnet", "-p", "no:cacheprovider")
    assert done.returncode == 4
    assert "unknown model 'resnet'" in done.stderr
    done = program("pytest", bench, "--resume", tmp_path / "absent", "-p", "no:cacheprovider")
    assert done.returncode == 4
    assert "absent: there is no such folder" in done.stderr
