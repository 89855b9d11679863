"""What a launch reports of its rounds, and the rounds that it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.loops import launch_images
from support.workloads import ROWS

from bench.schema.case import Case
from bench.schema.errors import Invalid
from bench.schema.requests import LaunchRequest
from fmnist_models.arrays import Arrays
from fmnist_models.errors import UserError
from fmnist_models.stream import Stream

BATCH = 16
STEPS = -(-ROWS // BATCH)


def measured(
    name: str, loop: str = "fit", optimizer: str = "sgd", **more: Any
) -> tuple[list[dict[str, Any]], Any]:
    """The rounds of a launch, and its result."""
    from bench.worker.network import measure_network

    messages: list[dict[str, Any]] = []
    case = Case(f"support.workloads:{name}", optimizer, loop, "cpu", BATCH)
    request = LaunchRequest(case, 0, 1, 2, 7, **more)
    measure_network(request, launch_images(), messages.append, None)
    *rounds, result = messages
    return rounds, result


def test_a_step_of_its_own_has_trained_the_rows_that_it_was_given() -> None:
    rounds, result = measured("streamed_twice")
    assert [(told["samples"], told["updates"]) for told in rounds] == [(ROWS, STEPS)] * 2
    (told,) = result["warnings"]
    assert re.fullmatch(rf"train_step made {2 * STEPS} updates by \w+ in {STEPS} steps", told)


@pytest.mark.parametrize(("first_s", "wanted"), [(2.0003, False), (1.9997, True)])
def test_the_clock_of_the_first_process_ends_the_rounds_of_all(
    first_s: float, wanted: bool
) -> None:
    """By those of the others, the rounds took less or longer."""
    from bench.worker.network import _Rounds

    case = Case("relu_mlp", "sgd", "compiled", backend="jax", batch_size=32)
    case = replace(case, replicas=2, processes=2)
    request = LaunchRequest(case, 0, 1, 1, 7, min_seconds=2.0)
    loop: Any = SimpleNamespace(work=SimpleNamespace(model=None))
    evaluations: Any = SimpleNamespace(score="accuracy")
    device: Any = SimpleNamespace(of_first=lambda _: first_s)
    for rank, own_s in enumerate((first_s, 1.0, 3.0)):
        rounds = _Rounds(
            replace(request, rank=rank), evaluations, loop, device, lambda _: None, None
        )
        rounds._round, rounds._timed_s = 1, own_s
        assert rounds._wants_more() is wanted


def test_each_process_has_a_part_of_the_memory_for_its_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of them reads all data, also those that are cached from a stream."""
    from bench.worker import training

    found = []
    case = Case("support.workloads:plain", "sgd", "compiled", backend="torch", batch_size=32)
    case = replace(case, replicas=2, processes=2)
    request = LaunchRequest(case, 0, 1, 1, 7, cache_stream=True)
    stream = Stream("mine:f", lambda: None, 32, Arrays(np.ones((32, 4))), None, False)

    def data(_: Any, batch_size: int, free_bytes: int) -> Any:
        """Note the memory."""
        found.append(free_bytes)
        return stream, None, None

    def cached(_: Stream, free_bytes: Callable[[], int]) -> Any:
        """Note the memory, and end here."""
        found.append(free_bytes())
        raise KeyboardInterrupt

    task = SimpleNamespace(model=None, compiled=False, data=data)
    settings = SimpleNamespace(refuse_settings=lambda _: None)
    monkeypatch.setattr(training, "framework", lambda: settings)
    monkeypatch.setattr("bench.machine.hardware.memory_available_bytes", lambda: 8)
    monkeypatch.setattr(training, "task_of", lambda _: task)
    monkeypatch.setattr(Stream, "cached", cached)
    with pytest.raises(KeyboardInterrupt):
        training.built_work(request, launch_images(), device=None)  # type: ignore[arg-type]
    assert found == [4, 4]


@pytest.mark.parametrize("loop", ["fit", "multistep"])
def test_no_callback_ends_a_round_early(loop: str) -> None:
    rounds, result = measured("stopping", loop)
    assert [(told["samples"], told["updates"]) for told in rounds] == [(ROWS, STEPS)] * 2
    told = "a callback asked to end the training early, and the case went on"
    assert result["warnings"].count(told) == 1


def test_a_round_has_the_batches_that_the_stream_told() -> None:
    with pytest.raises(Invalid, match=f"round 1 made {STEPS - 1} updates, not {STEPS}"):
        measured("shrinking")


# So Keras says of a stream whose length it does not know.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("name", ["grain_dataset", "grain_loader", "twice_to_the_end"])
@pytest.mark.parametrize("loop", ["fit", "multistep"])
def test_a_stream_of_unknown_length_has_the_steps_that_had_data(name: str, loop: str) -> None:
    rounds, _ = measured(name, loop)
    assert [(told["samples"], told["updates"]) for told in rounds] == [(ROWS, STEPS)] * 2


@pytest.mark.parametrize("loop", ["fit", "multistep"])
def test_batches_of_other_shapes_fail_with_a_remedy(loop: str) -> None:
    told = "^round 1: support.workloads:changing_shape: train gave 5 batches of another shape .*pad"
    with pytest.raises(Invalid, match=told):
        measured("changing_shape", loop)
    told = "^round 1: support.workloads:uneven: train gave more than one batch of less than 16 rows"
    with pytest.raises(Invalid, match=told):
        measured("uneven", loop)


@pytest.mark.parametrize(("name", "rows"), [("plain", BATCH), ("compiled", 2000)])
def test_work_of_a_users_own_is_evaluated_in_batches_of_its_training(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    found: set[int] = set()
    evaluate = keras.Model.evaluate

    def noted(model: Any, *data: Any, batch_size: int, **words: Any) -> Any:
        """`evaluate`, after a note of its batch size."""
        found.add(batch_size)
        return evaluate(model, *data, batch_size=batch_size, **words)

    monkeypatch.setattr(keras.Model, "evaluate", noted)
    measured(name, optimizer="own" if name == "compiled" else "sgd")
    assert found == {rows}


def test_a_last_batch_that_the_model_does_not_take_is_one_line() -> None:
    told = (
        "^support.workloads:fixed_batch: test: its last batch has 6 rows, not 16, which the model "
        "does not take: give a multiple of 16 rows "
    )
    with pytest.raises(UserError, match=told):
        measured("fixed_batch")


def test_the_peak_of_memory_is_that_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an evaluation needs is left out: also its warm-up, before the first round."""
    import keras

    from bench.worker.memory import PeakMemory

    room = 2**30
    evaluate = keras.Model.evaluate

    def greedy(model: Any, *data: Any, **words: Any) -> Any:
        """`evaluate` that needs much memory for a moment."""
        assert np.ones(room, np.uint8).any()
        return evaluate(model, *data, **words)

    monkeypatch.setattr(keras.Model, "evaluate", greedy)
    _, result = measured("plain")
    rise = result["peak_host_memory_bytes"]
    if rise is None:
        pytest.skip("the system cannot reset the peak")
    assert rise < 0.9 * room
    memory = PeakMemory()
    np.ones(room, np.uint8).any()
    assert (memory.rise_bytes() or 0) >= 0.9 * room
