"""Measures a launch: of a network, or of the logistic baseline."""

from __future__ import annotations

from bench.schema.case import SKLEARN_LOOP
from bench.schema.requests import LaunchRequest
from bench.worker.logistic import measure_logistic
from bench.worker.network import measure_network
from bench.worker.protocol import Emit, Pause
from bench.worker.trying import try_batch
from fmnist_models.dataset import FashionMnist, TrainingData


def measure(
    request: LaunchRequest,
    raw: FashionMnist,
    data: TrainingData,
    emit: Emit,
    pause: Pause | None = None,
) -> None:
    """Run one launch; emits a `round` message after each round and one `result` message.

    A launch of one call has no rounds.

    Args:
        request: the launch.
        raw: the images as published.
        data: the images and labels in the form for networks.
        emit: sends a message.
        pause: called before each round; returns when this launch may go on.

    Raises:
        Invalid: samples, loss, weights, precision, placement or tracing are not as the case
            requires.
        Unavailable: the case's device cannot be used.
    """
    if request.case.loop == SKLEARN_LOOP:
        measure_logistic(request, raw, emit)
    elif request.one_call:
        try_batch(request, data, emit)
    else:
        measure_network(request, data, emit, pause)
