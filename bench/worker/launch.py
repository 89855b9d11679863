"""A launch of either kind."""

from __future__ import annotations

from bench.schema.case import SKLEARN_LOOP
from bench.schema.requests import LaunchRequest
from bench.worker.logistic import measure_logistic
from bench.worker.network import measure_network
from bench.worker.protocol import Emit, Pause
from fmnist_models.dataset import FashionMnist, TrainingData


def measure(
    request: LaunchRequest,
    raw: FashionMnist,
    data: TrainingData,
    emit: Emit,
    pause: Pause | None = None,
) -> None:
    """Run one launch; emits a `round` message each round and one `result` message.

    Args:
        request: which launch.
        raw: the images as they are.
        data: as networks are trained on them.
        emit: sends a message.
        pause: called before each round, for as long as something else has its turn.

    Raises:
        Invalid: samples, loss, weights, precision, placement or tracing are not as they must be.
        Unavailable: the device that the case names cannot be used.
    """
    if request.case.loop == SKLEARN_LOOP:
        measure_logistic(request, raw, emit)
    else:
        measure_network(request, data, emit, pause)
