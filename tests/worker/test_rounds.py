"""What a launch reports of its rounds, and the rounds that it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from support.loops import launch_images
from support.workloads import ROWS

from bench.schema.case import Case
from bench.schema.errors import Invalid
from bench.schema.requests import LaunchRequest

BATCH = 16
STEPS = -(-ROWS // BATCH)


def measured(name: str, loop: str = "fit", **more: Any) -> tuple[list[dict[str, Any]], Any]:
    """The rounds of a launch, and its result."""
    from bench.worker.network import measure_network

    messages: list[dict[str, Any]] = []
    case = Case(f"support.workloads:{name}", "sgd", loop, "cpu", BATCH)
    request = LaunchRequest(case, 0, 1, 2, 7, **more)
    measure_network(request, launch_images(), messages.append, None)
    *rounds, result = messages
    return rounds, result


def test_a_step_of_its_own_has_trained_the_rows_that_it_was_given() -> None:
    rounds, result = measured("streamed_twice")
    assert [(told["samples"], told["updates"]) for told in rounds] == [(ROWS, STEPS)] * 2
    assert f"train_step made {2 * STEPS} updates by sgd in {STEPS} steps" in result["warnings"]


@pytest.mark.parametrize("loop", ["fit", "multistep"])
def test_no_callback_ends_a_round_early(loop: str) -> None:
    rounds, result = measured("stopping", loop)
    assert [(told["samples"], told["updates"]) for told in rounds] == [(ROWS, STEPS)] * 2
    told = "a callback asked to end the training early, and the case went on"
    assert result["warnings"].count(told) == 1


def test_a_round_has_the_batches_that_the_stream_told() -> None:
    with pytest.raises(Invalid, match=f"round 1 made {STEPS - 1} updates, not {STEPS}"):
        measured("shrinking")


@pytest.mark.parametrize("loop", ["fit", "multistep"])
def test_batches_of_other_shapes_fail_with_a_remedy(loop: str) -> None:
    told = "^round 1: support.workloads:changing_shape: train gave 5 batches of another shape .*pad"
    with pytest.raises(Invalid, match=told):
        measured("changing_shape", loop)
    told = "^round 1: support.workloads:uneven: train gave more than one batch of less than 16 rows"
    with pytest.raises(Invalid, match=told):
        measured("uneven", loop)
