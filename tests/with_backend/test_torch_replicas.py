"""PyTorch on several replicas, a process for each: real processes, which meet by gloo."""

from __future__ import annotations

import os
import pickle
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from support import ROOT
from support.backends import own
from support.loops import distance, penalized, work
from support.own_step_torch import OwnStep

from bench.worker.framework import framework
from fmnist_models.architectures import NETWORKS
from fmnist_models.errors import Unsupported
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Work
from fmnist_models.loops.torch.parallel import share_of
from fmnist_models.replicas import Replicas

SCENARIOS = (
    "uneven",
    "single",
    "staged",
    "scaled",
    "overflowing",
    "normalized",
    "counting",
    "dropped",
    "facts",
)


def processes_of(count: int, folder: Path, *scenarios: str) -> list[Any]:
    """What each of so many processes made of the scenarios."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    files = [folder / f"{count}-{rank}.pickle" for rank in range(count)]
    command = [sys.executable, "-m", "support.ranks_torch"]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(count), meeting, str(file), *scenarios],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, file in enumerate(files)
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [pickle.loads(file.read_bytes()) for file in files]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one replica made of all scenarios."""
    return processes_of(1, tmp_path_factory.mktemp("one"), *SCENARIOS)[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each of two replicas made of all scenarios."""
    return processes_of(2, tmp_path_factory.mktemp("two"), *SCENARIOS)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each of four replicas made of two scenarios."""
    return processes_of(4, tmp_path_factory.mktemp("four"), "uneven", "single")


def assert_same(found: Any, alone: Any) -> None:
    """A replica ends as one that is alone, and reports the same."""
    assert distance(found["before"], alone["before"]) == 0
    assert distance(found["kept"], found["before"]) == 0
    travelled = distance(alone["after"], alone["before"])
    assert travelled > 0
    assert distance(found["after"], alone["after"]) < 1e-3 * travelled
    assert distance(found["optimizer"], alone["optimizer"]) < 1e-3 * travelled
    for log, expected in zip(found["logs"], alone["logs"], strict=True):
        assert log == pytest.approx(expected, rel=1e-3)
    for name in ("rows", "updates", "steps_a_call", "traced_again"):
        assert found[name] == alone[name], name
    assert found["traced_again"] == 0


@pytest.mark.parametrize("scenario", ["uneven", "single", "staged", "scaled"])
def test_two_replicas_train_as_one(scenario: str, one: Any, two: Any) -> None:
    """The last batch has 13 rows, or one; the loss has a scale."""
    for found in two:
        assert_same(found[scenario], one[scenario])
    assert distance(two[0][scenario]["after"], two[1][scenario]["after"]) == 0


@pytest.mark.parametrize("scenario", ["uneven", "single"])
def test_four_replicas_train_as_one(scenario: str, one: Any, four: Any) -> None:
    for found in four:
        assert_same(found[scenario], one[scenario])


def test_the_scenarios_are_what_they_say(one: Any) -> None:
    assert (one["uneven"]["rows"], one["single"]["rows"]) == (141, 97)


def test_updates_that_are_not_finite_are_left_out_by_all(two: Any) -> None:
    """A replica's own mean has less rows, so its gradients overflow earlier than those of one."""
    first, second = (found["overflowing"] for found in two)
    assert 0 < first["updates"] < 8
    for name in ("after", "optimizer"):
        assert distance(first[name], second[name]) == 0, name
    assert all(np.isfinite(weight).all() for weight in first["after"])


def test_gradients_go_through_distributed_data_parallel(one: Any, two: Any) -> None:
    """Its hook saw all of them in each of the ten steps."""
    weights = sum(weight.size for weight in one["uneven"]["before"])
    assert [found["uneven"]["buckets"] for found in two] == [[weights] * 10] * 2
    assert one["uneven"]["buckets"] == []


def test_gradients_come_in_stages(one: Any, two: Any) -> None:
    assert (one["staged"]["stages"], two[0]["staged"]["stages"]) == (1, 3)
    for found in two:
        assert distance(found["staged"]["others"], one["staged"]["others"]) == 0


def test_each_sample_is_trained_once_in_an_epoch(one: Any, two: Any) -> None:
    """96 of them in batches of 32, and 5 in the last one."""
    for found in (one, *two):
        numbers, counts = np.unique(np.round(found["counting"], 4), return_counts=True)
        assert numbers == pytest.approx([1 / 32, 1 / 5], abs=1e-4)
        assert counts.tolist() == [96, 5]


def test_statistics_of_replicas_are_told_and_those_of_the_first_are_kept(two: Any) -> None:
    first, second = (found["normalized"] for found in two)
    for name in ("after", "others"):
        assert distance(first[name], second[name]) == 0, name
    assert first["logs"] == second["logs"]
    assert all(np.isfinite(values).all() for values in first["others"])
    (told,) = first["warnings"]
    assert told.startswith("batch_normalization: each replica normalizes by the statistics of its")


def test_replicas_draw_other_random_numbers(one: Any, two: Any) -> None:
    """Else each would drop the same units for its rows."""
    assert two[0]["dropped"] == one["dropped"] != two[1]["dropped"]


def test_an_all_reduce_is_measured(one: Any, two: Any) -> None:
    assert one["facts"] is None
    assert all(found["facts"] > 0 for found in two)


def test_a_launch_reports_the_epoch_of_all_replicas(tmp_path: Path) -> None:
    first, second = (found["launched"] for found in processes_of(2, tmp_path, "launched"))
    (alone,) = (found["launched"] for found in processes_of(1, tmp_path, "launched"))
    # By the clock of the second one, a round took less than a second.
    assert [message["kind"] for message in second] == ["round"] * 3 + ["result"]
    for messages in (first, second):
        for told, expected in zip(messages, alone, strict=True):
            for name in ("samples", "updates", "parameters", "flops_per_sample", "data_digest"):
                assert told.get(name) == expected.get(name), name
            for name in ("train_loss", "train_score", "val_loss", "test_loss"):
                if expected.get(name) is not None:
                    assert told[name] == pytest.approx(expected[name], rel=1e-3), name
    assert first[-1]["all_reduce_s"] > 0
    assert first[-1]["all_reduce_bytes"] == 4 * first[-1]["parameters"]
    assert "all_reduce_s" not in alone[-1]


@pytest.mark.parametrize("rows", [1, 3, 8, 13, 32])
@pytest.mark.parametrize("count", [2, 4])
def test_shares_of_a_batch_are_all_of_it_once(rows: int, count: int) -> None:
    shares = [share_of(rows, Replicas(count, count, rank)) for rank in range(count)]
    taken = [row for first, here in shares for row in range(first, first + here)]
    assert taken == list(range(rows))
    assert max(here for _, here in shares) - min(here for _, here in shares) <= 1


TWO = Replicas(2, 2, 0, "nobody meets here")


def test_a_step_of_its_own_is_refused() -> None:
    loop = own(OwnStep, "compiled")
    alone = loop.work
    model = alone.model
    with pytest.raises(
        Unsupported, match=r"^the train_step or the metrics of model .*override compute_loss"
    ):
        LOOPS["compiled"](Work(model, alone.data, alone.batch_size, seed=5, replicas=TWO))


class Highest(keras.metrics.Metric):
    """The highest output, of which the sum over replicas is not that of all."""

    def __init__(self) -> None:
        super().__init__(name="highest")
        self.most = self.add_weight(name="most", shape=(), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.most.assign(keras.ops.maximum(self.most, keras.ops.max(y_pred)))

    def result(self) -> Any:
        return self.most.value


SUMS, WEIGHED = (
    keras.losses.SparseCategoricalCrossentropy(reduction=kind)
    for kind in ("sum", "mean_with_sample_weight")
)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"metrics": [Highest()]}, r"highest/most of model .* is no sum over rows"),
        ({"loss": SUMS}, r"the loss of model .* is not the mean over the rows"),
        ({"loss": WEIGHED}, r"the loss of model .* is not the mean over the rows"),
    ],
)
def test_what_replicas_cannot_join_is_refused(more: dict[str, Any], why: str) -> None:
    model = NETWORKS["softmax"].builder()
    compile_model(model, keras.optimizers.SGD(0.1), "compiled", **more)
    with pytest.raises(Unsupported, match=f"^{why}.*leave --replicas out"):
        LOOPS["compiled"](work(model, seed=5, replicas=TWO, class_weight={1: 9.0}))


def test_what_is_tried_before_leaves_no_trace() -> None:
    """Metrics of many kinds are sums, and the model is as it was."""
    model = penalized()
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(3)]
    compile_model(model, keras.optimizers.SGD(0.1), "compiled", metrics=metrics)
    before = [np.array(w) for w in model.get_weights()]
    loop = LOOPS["compiled"](work(model, seed=5, replicas=TWO))
    assert distance(before, model.get_weights()) == 0
    assert loop.watch.rows() == 0


class Averages(keras.layers.Layer):
    """Subtracts an average over the batches so far; counts them, and remembers a number too."""

    def build(self, shape: Any) -> None:
        none = {"trainable": False, "initializer": "zeros"}
        self.average = self.add_weight(shape=shape[1:], name="average", **none)
        self.steps = self.add_weight(shape=(), name="steps", **none)
        self.register_buffer("largest", torch.zeros(()))

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.average.assign(0.9 * self.average + 0.1 * keras.ops.mean(x, axis=0))
            self.steps.assign(self.steps + 1.0)
            self.largest.copy_(x.sum())
        return x - self.average


def test_a_state_that_replicas_change_by_rows_of_their_own_is_told() -> None:
    """What each changes in the same way is not, and BatchNormalization has a warning of its own."""
    inner = [keras.layers.Dense(8), Averages(name="mine"), keras.layers.BatchNormalization()]
    model = keras.Sequential(
        [keras.Input((784,)), *inner, keras.layers.Dense(10, activation="softmax")]
    )
    compile_model(model, keras.optimizers.SGD(0.1), "compiled")
    before = [np.array(w) for w in model.get_weights()]
    (told,) = LOOPS["compiled"](work(model, seed=5, replicas=TWO)).notes
    assert re.fullmatch(
        r"\w+/mine/average, mine/largest: each replica changes these by its own part of .*", told
    )
    assert distance(before, model.get_weights()) == 0
    plain = penalized()
    compile_model(plain, keras.optimizers.SGD(0.1), "compiled")
    assert LOOPS["compiled"](work(plain, seed=5, replicas=TWO)).notes == {}


def test_layers_with_no_statistics_are_not_named() -> None:
    model = penalized()
    model.layers[2].trainable = False
    compile_model(model, keras.optimizers.SGD(0.1), "compiled")
    assert framework().per_replica(work(model, seed=5, replicas=TWO)) == []


def test_layers_that_draw_random_numbers_are_told() -> None:
    """Those of each process are its own (`test_replicas_draw_other_random_numbers`)."""
    drops = keras.layers.Dropout(0.5, name="drop")
    model = keras.Sequential([keras.Input((784,)), drops, keras.layers.Dense(10, "softmax")])
    compile_model(model, keras.optimizers.SGD(0.1), "compiled")
    (told,) = framework().per_replica(work(model, seed=5, replicas=TWO))
    assert told.startswith("drop: each replica draws random numbers of its own")
