"""Tries whether a case fits the memory, inside the worker's process."""

from __future__ import annotations

from functools import partial

from bench.schema.requests import LaunchRequest
from bench.worker.evaluation import Evaluations
from bench.worker.framework import framework
from bench.worker.memory import PeakMemory, peaks_of
from bench.worker.protocol import Emit
from bench.worker.training import built_work, warm_up
from bench.worker.window import Window
from fmnist_models.dataset import TrainingData
from fmnist_models.loops import LOOPS


def try_batch(request: LaunchRequest, images: TrainingData, emit: Emit) -> None:
    """Make all that a launch has in memory, and train until the first call returns.

    The message has the peaks only. Errors are those of `launch.measure`.
    """
    case = request.case
    device = framework().device(case.device, case.precision)
    device.configure()
    memory = PeakMemory()
    built = built_work(request, images, device)
    loop = LOOPS[case.loop](built.work)
    warm_up(built, loop)
    peaks = partial(peaks_of, memory, device)
    Evaluations(built, case.batch_size, peaks, scored=request.steps is None).warm_up()
    loop.train(Window(device), 1)
    emit({"kind": "result", **peaks()})
