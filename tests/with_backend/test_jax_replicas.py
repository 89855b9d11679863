"""JAX on several replicas: virtual devices of one process, and real processes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from support import ROOT
from support.loops import distance, work
from support.replicas_jax import BATCH, RATE, ROWS

from bench.schema.errors import Unavailable
from bench.worker.framework import framework
from bench.worker.jax.replicas import data_parallel, meet
from fmnist_models.architectures import NETWORKS
from fmnist_models.errors import UserError
from fmnist_models.loops import compile_model
from fmnist_models.loops.jax.compiled import JaxCompiledLoop
from fmnist_models.replicas import Replicas

LOOPS = ["fit", "compiled"]
# (replicas, processes, rank)
SPREAD = [(2, 1, 0), (4, 1, 0), (2, 2, 0), (2, 2, 1)]


def free_meeting() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What 4 virtual devices of one process, and two processes, made of the same work."""
    folder = tmp_path_factory.mktemp("replicas")
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, "-m", "support.replicas_jax", str(folder)]
    meeting = free_meeting()
    started = [
        subprocess.Popen([*program, *told], env=environment, stderr=subprocess.PIPE, text=True)
        for told in (["4", "1", "0", "-"], *(["2", "2", rank, meeting] for rank in "01"))
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors[-3000:]
        yield folder
    finally:
        for process in started:
            process.kill()
            process.wait()


def told(folder: Path, replicas: int, processes: int, rank: int, loop: str) -> Any:
    found = json.loads((folder / f"{processes}-{rank}.json").read_text())
    return found[str(replicas)][loop]


def weights(folder: Path, loop: str, *which: int) -> list[NDArray[Any]]:
    found = np.load(folder / f"{loop}-{'-'.join(map(str, which))}.npz")
    return [found[name] for name in found.files]


@pytest.mark.parametrize("which", SPREAD)
@pytest.mark.parametrize("loop", LOOPS)
def test_replicas_train_as_one(folder: Path, loop: str, which: tuple[int, int, int]) -> None:
    """Statistics of BatchNormalization, which are the last weights, are of the whole batch."""
    alone, found = weights(folder, loop, 1, 1, 0), weights(folder, loop, *which)
    start = weights(folder, "start", 1, 1, 0)
    assert distance(weights(folder, "start", *which), start) == 0
    for own, expected, before in zip(found, alone, start, strict=True):
        assert distance([own], [expected]) < 1e-3 * distance([expected], [before])
    reported, expected = told(folder, *which, loop), told(folder, 1, 1, 0, loop)
    for log, other in zip(reported["logs"], expected["logs"], strict=True):
        assert log == pytest.approx(other, rel=1e-3)
    assert (reported["rows"], reported["updates"]) == (ROWS, 10)
    assert reported["per_replica"] == []


@pytest.mark.parametrize("which", [(4, 1, 0), (2, 2, 0), (2, 2, 1)])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_launch_on_replicas_reports_what_one_does(
    folder: Path, loop: str, which: tuple[int, int, int]
) -> None:
    """Validation data divide by the replicas, test data do not; no round compiles anything.

    The clock of the first process ends the launch: by that of the second, a round took less than
    a second.
    """
    found, alone = told(folder, *which, loop)["launch"], told(folder, 1, 1, 0, loop)["launch"]
    assert [message["kind"] for message in found] == ["round"] * 3 + ["result"]
    for message, expected in zip(found, alone, strict=True):
        for name in ("samples", "updates", "train_loss", "train_score", "val_loss", "val_score"):
            if expected.get(name) is not None:
                assert message[name] == pytest.approx(expected[name], rel=1e-3), name
    assert found[-1]["test_loss"] == pytest.approx(alone[-1]["test_loss"], rel=1e-3)
    assert found[-1]["test_score"] == alone[-1]["test_score"]
    assert found[-1]["initial_weights"] == alone[-1]["initial_weights"]
    assert found[-1]["all_reduce_bytes"] == 4 * found[-1]["parameters"]
    assert found[-1]["all_reduce_s"] > 0
    assert "all_reduce_s" not in alone[-1]


@pytest.mark.parametrize("which", SPREAD)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_shuffled_epoch_trains_each_sample_once(
    folder: Path, loop: str, which: tuple[int, int, int]
) -> None:
    """A sample's weight moved by what a step of its batch moves it, and in the order of one."""
    moved = np.array(told(folder, *which, loop)["by_sample"])
    in_full, in_last = 2 * RATE / BATCH, 2 * RATE / (ROWS % BATCH)
    assert np.isclose(moved, in_full, rtol=1e-4).sum() == ROWS - ROWS % BATCH
    assert np.isclose(moved, in_last, rtol=1e-4).sum() == ROWS % BATCH
    assert moved == pytest.approx(told(folder, 1, 1, 0, loop)["by_sample"], rel=1e-4)


@pytest.mark.parametrize("which", SPREAD)
def test_a_last_batch_that_does_not_divide(folder: Path, which: tuple[int, int, int]) -> None:
    """`compiled` trains it whole on each device, and Keras's fit cannot."""
    expected = told(folder, 1, 1, 0, "compiled")["uneven"]
    assert np.isclose(expected, 2 * RATE / 43, rtol=1e-4).sum() == 43
    assert told(folder, *which, "compiled")["uneven"] == pytest.approx(expected, rel=1e-4)
    count = which[0]
    reason = told(folder, *which, "fit")["uneven"]
    assert reason == (
        f"replicas {count}: the last batch has 43 rows, and Keras's fit on JAX divides each batch "
        f"by {count}: choose --loops compiled, or leave out {299 % count} of 299 rows"
    )


def test_what_is_on_one_device_alone_or_in_parts_is_misplaced(folder: Path) -> None:
    found = json.loads((folder / "1-0.json").read_text())
    assert found["misplaced"] == [
        "array of shape (3,) on cpu:0",
        "array of shape (4,) in parts on cpu:0, cpu:1, cpu:2, cpu:3",
    ]


def test_a_stream_that_cannot_be_shared_is_refused(folder: Path) -> None:
    reasons = [
        json.loads((folder / name).read_text())["streamed"] for name in ("1-0.json", "2-1.json")
    ]
    assert re.search(r"does not divide by 4 replicas: drop the smaller last batch, or", reasons[0])
    assert re.search(r"each of 2 processes would read all: add --cache-stream, or", reasons[1])


def test_each_replica_waits_for_its_share_of_a_batch(folder: Path) -> None:
    """As in a timed round; if each trained all rows, the wait would be too small a share."""
    found = json.loads((folder / "1-0.json").read_text())["waiting"]
    assert found["rows"] == [[BATCH, BATCH // 4]] * 2
    assert 0 < found["waiting_share"] < 1
    assert found["resident_step_s"] > 0


def test_a_port_that_is_taken_is_one_line() -> None:
    import jax

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        meeting = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"^the processes cannot meet at {meeting} \(.*port"):
            meet(jax, Replicas(2, 2, 0, meeting), is_gpu=True)


def test_the_program_of_an_epoch_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs the places of all variables, so these are made before it."""
    import jax

    made = []
    new_program = JaxCompiledLoop.new_program

    def counted(loop: JaxCompiledLoop) -> Any:
        """A new program."""
        made.append(len(loop.work.model.metrics_variables))
        return new_program(loop)

    monkeypatch.setattr(JaxCompiledLoop, "new_program", counted)
    model = NETWORKS["softmax"].builder()
    compile_model(model, keras.optimizers.SGD(), "compiled")
    with data_parallel(jax, jax.devices()[:1], Replicas(2)):
        compiled = JaxCompiledLoop(work(model, seed=5, replicas=Replicas(2)))
    assert made == [len(compiled.work.model.metrics_variables)] != [0]


def test_virtual_devices_come_before_any_other() -> None:
    import jax

    assert jax.devices()
    device = framework().device("cpu", "float32", Replicas(3))
    with pytest.raises(Unavailable, match=r"^JAX cannot make 3 CPUs: "):
        device.configure()
