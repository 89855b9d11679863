"""Ways to be faster and wrong, and what catches each.

results/evidence/sabotage.md is this table, as this file prints it:
`PYTHONPATH=tests python tests/evidence/test_sabotage.py`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Program, TypeIn
from support.stored import CASES, FIRST, cut_results, stored

from bench.schema.plan import RunSettings

FILE = ROOT / "results/evidence/sabotage.md"
OWN_MODELS = """
import keras


def layers(**more):
    return [keras.Input((784,)), keras.layers.Dense(10, "softmax", name="output", **more)]


class Halved(keras.Sequential):
    def train_step(self, data):
        return super().train_step([part[:50] for part in data])


class Still(keras.Sequential):
    def compile(self, optimizer, **settings):
        optimizer.learning_rate = 0.0
        super().compile(optimizer=optimizer, **settings)


def halved():
    return Halved(layers())


def still():
    return Still(layers())


def exploding():
    model = keras.Sequential(layers())
    model.set_weights([weights * float("nan") for weights in model.get_weights()])
    return model


def narrow():
    return keras.Sequential(layers(dtype="float16"))


def computing_narrow():
    return keras.Sequential(layers(dtype="mixed_float16"))
"""


@dataclass(frozen=True)
class Sabotage:
    """What was done, what catches it, with which exit code, and the line it prints."""

    done: str
    caught_by: str
    code: int
    line: str
    how: Any


def own(builder: str, reason: str) -> str:
    """A line of `run` about a model of the user's own."""
    return f"own:{builder}-sgd-compiled-cpu-b100-float32: invalid: {reason}"


# `how` is a builder's name for `run`, else what `stored` makes of the candidate of a `check`.
WORKER = "every launch; `run`"
SABOTAGES = (
    Sabotage(
        "half of each batch skipped",
        WORKER,
        2,
        own("halved", "round 1 trained 400 samples, not 800"),
        "halved",
    ),
    Sabotage(
        "learning rate 0",
        WORKER,
        2,
        own("still", "the weights did not change: nothing was learned"),
        "still",
    ),
    Sabotage(
        "NaN in the weights",
        WORKER,
        2,
        own(
            "exploding",
            "the training loss became nan in round 1: lower the learning rate, or clip the "
            "gradients",
        ),
        "exploding",
    ),
    Sabotage(
        "float16 weights in a float32 case",
        WORKER,
        2,
        own("narrow", "output/kernel is float16, not float32"),
        "narrow",
    ),
    Sabotage(
        "float16 products in a float32 case",
        WORKER,
        2,
        own("computing_narrow", "output computes in float16, not float32"),
        "computing_narrow",
    ),
    Sabotage(
        "half the time, labels wrong",
        "accuracy; `check`",
        1,
        f"{FIRST} and 3 more: regression: accuracy fell by 75.0 points",
        {"accuracy": {case.id: 0.1 for case in CASES}, "slower": {case.id: -0.5 for case in CASES}},
    ),
    Sabotage(
        "another data set",
        "digest of the files; `check`",
        3,
        "fmnist-bench: error: now trained on data of SHA-256 eeeeeeeeeeee..., base/run0 on "
        "dddddddddddd...: compare runs of the same --data",
        {"dataset_digest": "e" * 64},
    ),
    Sabotage(
        "fewer launches",
        "settings; `check`",
        3,
        f"fmnist-bench: error: {FIRST} has launches 2 in now and 3 in base/run0: measure it "
        "with the same --launches",
        {"settings": RunSettings(launches=2)},
    ),
    Sabotage(
        "a slow case left out",
        "cases of the baseline; `check`",
        3,
        f"{FIRST}: missing: in the baseline, but not measured in now",
        {"cases": CASES[1:]},
    ),
    Sabotage(
        "results.csv cut short",
        "reading; `check`",
        2,
        "fmnist-bench: error: now/results.csv line 5 is cut short or too long: take it "
        "from a copy, or delete it, for its rows follow from the run's other files",
        {"cut": True},
    ),
    Sabotage(
        "a baseline of another machine",
        "hardware; `check`",
        3,
        "fmnist-bench: error: now ran on the CPU Xeon, base/run0 on EPYC: a baseline serves "
        "one machine; fmnist-bench compare sets two side by side",
        {"cpu": {"model": "Xeon", "cores_logical": 2}},
    ),
)
OF_RUNS = [s for s in SABOTAGES if isinstance(s.how, str)]
OF_CHECKS = [s for s in SABOTAGES if not isinstance(s.how, str)]


def table() -> str:
    lines = [
        "# Faster and wrong",
        "",
        "What was done to a run or its folder, what catches it, the exit code and the line that "
        "says so. `tests/evidence/test_sabotage.py` does each of them again.",
        "",
        "| done | caught by | exit code | line |",
        "|---|---|---|---|",
        *(f"| {s.done} | {s.caught_by} | {s.code} | `{s.line}` |" for s in SABOTAGES),
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("sabotage", OF_CHECKS, ids=lambda s: s.done)
def test_a_check_catches_it(
    type_in: TypeIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sabotage: Sabotage
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(6):
        stored(Path("base") / f"run{seed}", seed)
    how = dict(sabotage.how)
    cut = how.pop("cut", False)
    now = stored(Path("now"), 20, **how)
    if cut:
        cut_results(now)
    code, out, err = type_in("check", "--baseline", "base", "now")
    assert code == sabotage.code, out + err
    assert sabotage.line in (out + err).splitlines()


def test_launches_catch_it(program: Program, tmp_path: Path, small_data: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_MODELS)
    done = program(
        "bench",
        "run",
        "--data",
        small_data,
        "--models",
        ",".join(f"own:{s.how}" for s in OF_RUNS),
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
        "--devices",
        "cpu",
        "--output",
        "run",
    )
    with (tmp_path / "run/results.csv").open(newline="") as lines:
        found = [f"{r['case']}: {r['status']}: {r['reason']}" for r in csv.DictReader(lines)]
    assert found == [s.line for s in OF_RUNS]
    assert {s.code for s in OF_RUNS} == {done.returncode}
    assert {s.line for s in OF_RUNS} <= set(done.stdout.splitlines())


def test_the_table_is_the_one_that_is_published() -> None:
    assert FILE.read_text("utf-8") == table()


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201 - that is all it is asked for
