"""TensorFlow on several replicas: real ones, virtual devices of the CPU in one process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from support import ROOT
from support.loops import distance

from fmnist_models.loops.tensorflow.replicas import shares_of

ROWS = 140


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each scenario of `support.replicas_tensorflow` found."""
    file = tmp_path_factory.mktemp("replicas") / "found"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "support.replicas_tensorflow", os.fspath(file)]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return pickle.loads(file.read_bytes())


def apart(some: dict[str, Any], other: dict[str, Any]) -> float:
    """How far weights are apart, in parts of the distance that they travelled."""
    return float(distance(some["after"], other["after"]) / distance(some["before"], some["after"]))


@pytest.mark.parametrize(
    ("work", "count", "like"),
    [
        ("plain", 4, "plain"),
        ("own", 2, "plain"),
        ("stream", 2, "plain"),
        ("together", 2, "together"),
    ],
)
def test_replicas_train_what_one_trains(
    found: dict[str, Any], work: str, count: int, like: str
) -> None:
    """The last batch, which is smaller, and the evaluation are part of it."""
    one, several = found["parity"][like, 1], found["parity"][work, count]
    assert several["digest"] == one["digest"] or work == "own"
    assert apart(one, several) < 1e-5
    assert several["judged"] == pytest.approx(one["judged"], rel=1e-5)
    for logs, those in zip(several["logs"], one["logs"], strict=True):
        # The step of its own leaves Keras's running loss alone.
        assert logs["accuracy"] == pytest.approx(those["accuracy"])
        assert work == "own" or logs["loss"] == pytest.approx(those["loss"], rel=1e-5)


def test_rows_are_those_of_all_replicas_and_a_call_is_one(found: dict[str, Any]) -> None:
    given = {key: set(scenario["counted"]) for key, scenario in found["parity"].items()}
    assert given.pop(("own", 2)) == {(ROWS, (3, ROWS), 0)}
    assert set().union(*given.values()) == {(ROWS, None, 0)}


def test_a_trace_of_all_replicas_is_one_and_leaves_nothing_behind(found: dict[str, Any]) -> None:
    for key, scenario in found["parity"].items():
        assert scenario["traced_again"] == 0, key
        assert scenario["events"] == ["open", "close", "end"] * 2
        assert scenario["call"] == "Layer.__call__"
        assert scenario["compiles"] is False
        if key[1] > 1:
            assert scenario["traces"] == 1


def test_products_belong_to_the_layers_that_make_them(found: dict[str, Any]) -> None:
    """Also where replicas meet within a layer, as in BatchNormalization(synchronized=True)."""
    scenarios = found["parity"]
    one = scenarios["plain", 1]["products"][:5]
    assert len({name for name, _ in one}) == 2
    for key, scenario in scenarios.items():
        forward = [name for name, forward in scenario["products"] if forward]
        backward = [name for name, forward in scenario["products"] if not forward]
        first, output = sorted(set(forward))
        assert first.startswith("dense"), key
        assert output == "output"
        # A gradient of each input and each kernel, without that of the images.
        assert backward.count("output") == 2 * forward.count("output")
        assert backward.count(first) == forward.count(first)


def test_the_flops_of_a_sample_are_those_of_one_replica(found: dict[str, Any]) -> None:
    told = {key: scenario["flops"] for key, scenario in found["parity"].items()}
    assert {counted.flops_per_sample for counted in told.values()} == {51136.0}
    assert [counted.warnings for counted in told.values()] == [()] * len(told)


def test_the_warm_up_and_a_snapshot_put_every_copy_back(found: dict[str, Any]) -> None:
    """Of weights, slots and generators; those of `alone` differ between replicas meanwhile."""
    assert found["parity"]["alone", 2]["diverged"] > 1e-3
    for key, scenario in found["parity"].items():
        assert scenario["diverged"] == 0.0 or key[0] == "alone"
        assert scenario["changed"]
        assert (scenario["kept"], scenario["restored"]) == (0.0, 0.0)
        assert scenario["misplaced"] == []


def test_a_launch_on_four_replicas(found: dict[str, Any]) -> None:
    rounds, (result,) = found["launch"][:-1], found["launch"][-1:]
    assert [(r["samples"], r["updates"]) for r in rounds] == [(100, 4)]
    assert result["warnings"] == []
    assert result["precision_share"] == 1.0
    assert result["all_reduce_bytes"] == 79510 * 4
    assert result["all_reduce_s"] > 0
    assert np.isfinite(result["test_loss"])


def test_how_long_the_steps_of_a_stream_wait(found: dict[str, Any]) -> None:
    waits = found["waits"]
    assert 0 < waits["waiting_share"] < 1
    assert waits["resident_step_s"] > 0
    assert waits["restored"] == 0.0


def test_what_differs_from_one_replica_is_told(found: dict[str, Any]) -> None:
    told = found["warnings"]
    for name in ("nothing", "one batch", "normalized together", "variable of TensorFlow"):
        assert told[name] == [], name
    assert told["uneven"] == [
        "the last batch has 3 rows, of which the 2 replicas train 2, 1: in its update a row weighs "
        "0.75 to 1.5 of what it weighs with one replica, as 3 does not divide by 2"
    ]
    assert told["normalized"] == [
        "norm: each replica has statistics of its own rows "
        "(BatchNormalization(synchronized=True) has those of the whole batch)"
    ]
    assert told["drops"] == [
        "drop: each replica draws the same random numbers for its share, where one draws for the "
        "whole batch"
    ]
    (clips,) = told["clips"]
    assert clips.startswith("SGD(clipnorm=1.0) clips the gradients of each replica")
    (scales,) = told["scales"]
    assert "first replica alone" in scales
    (mean,) = told["mean"]
    assert "let the loss return a value for each row" in mean
    (own,) = told["own step"]
    assert "gradients of 2 replicas are added up" in own
    (compiler,) = told["compiler"]
    assert "not those of several" in compiler
    (stream,) = told["stream"]
    assert "do not divide by 2" in stream


def test_replicas_drop_the_same_places_of_their_shares(found: dict[str, Any]) -> None:
    first, second = found["draws"]
    for replicas in (first, second):
        assert np.array_equal(*replicas)
    assert not np.array_equal(first[0], second[0])


def test_what_replicas_cannot_train_is_one_line(found: dict[str, Any]) -> None:
    told = found["warnings"]
    assert "gathers the gradients of 2 steps" in told["gathers"]
    assert "jit_compile=True, and XLA cannot reach" in told["compiled"]
    assert "they train 2, 2, 1, 0, and none is too few: leave out 5 of 69 rows" in told["too few"]
    assert "less than a batch, and do not divide by 4" in told["less than a batch"]
    assert "is not on every replica, as it was made elsewhere" in told["elsewhere"]
    assert told["a strategy of its own"].endswith(": leave the strategy to --replicas")
    for name in (
        "a strategy of its own",
        "gathers",
        "compiled",
        "too few",
        "less than a batch",
        "elsewhere",
    ):
        assert "\n" not in told[name]


def test_a_copy_on_a_wrong_device_or_on_none_is_misplaced(found: dict[str, Any]) -> None:
    devices = found["devices"]
    assert devices["variable"] == devices["both"] == []
    assert devices["stray"][0].startswith("stray on ")
    assert devices["stray"][0].endswith("device:CPU:3")
    assert " and " in devices["twice"][0]
    assert devices["one"][0].endswith("device:CPU:0")
    assert devices["made elsewhere"][0].endswith("device:CPU:3")


def test_an_all_reduce_is_timed_between_several(found: dict[str, Any]) -> None:
    assert found["devices"]["all_reduce_s"] > 0
    assert found["devices"]["of_one"] is None
    assert found["devices"]["name"] == "/CPU:0"


@pytest.mark.parametrize(
    ("rows", "replicas", "shares"),
    [(384, 4, [96] * 4), (5, 4, [2, 2, 1, 0]), (3, 2, [2, 1]), (0, 2, [0, 0])],
)
def test_the_shares_of_a_batch(rows: int, replicas: int, shares: list[int]) -> None:
    """As TensorFlow 2.21 splits the batches of arrays and of a `tf.data.Dataset`."""
    assert shares_of(rows, replicas) == shares
