"""Profiles one case, inside the worker's process.

Only `bench.worker.serve` imports this module, because it imports Keras. Its timings are never
stored as those of a run: a profile leaves parts of the work out and runs profilers.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pyinstrument import Profiler

from bench.backends import KNOWN
from bench.schema.case import Case
from bench.schema.profile import Readings, Variant
from bench.schema.requests import STACK, STARTUP, STEPS, ProfileRequest
from bench.worker.counting import size_bytes
from bench.worker.framework import Device, Parts, framework
from bench.worker.memory import PeakMemory, resident_and_peak
from bench.worker.training import Built, built_work, check_precision, warm_up
from bench.worker.window import Window
from fmnist_models.arrays import Arrays
from fmnist_models.dataset import FashionMnist, TrainingData
from fmnist_models.loops import LOOPS
from fmnist_models.loops.base import Loop, Work, state_variables
from fmnist_models.stream import Stream

# Steps of one reading: few, so that the machine is in the same state for all variants. For `fit`
# enough that the first call of a reading, which takes 2 to 3 ms longer, adds a few percent at most.
MOST_STEPS: Mapping[str, int] = {"fit": 100, "multistep": 300}
MOST_FIT_ROWS, LEAST_FIT_STEPS = 16_000, 25
# Most steps of the saved trace, so that the file is small enough to share.
TRACED_STEPS: Mapping[str, int] = {"fit": 20, "multistep": 100, "compiled": 100}
MOST_ROUNDS = 200
# Rounds, from the first on, in which the profilers' own cost is measured.
OVERHEAD_ROUNDS = 5
_SAMPLE_EVERY_S = 0.001
_MOST_FUNCTIONS = 10


def profile_case(
    request: ProfileRequest,
    raw: FashionMnist,
    data: TrainingData,
    started_s: Mapping[str, float],
) -> Readings:
    """Measure where the time and the memory of a case go; also writes its traces.

    Args:
        request: the case, and the folder of its traces.
        raw: the images as published.
        data: the images and labels in the form for networks.
        started_s: seconds of the process before the case, by stage.

    Raises:
        Invalid: the model does not have the precision of the case.
        UserError: the model cannot be built or compiled.
        Unavailable: the case's device cannot be used.
    """
    case = request.case
    device = framework().device(case.device, case.precision, request.replicas)
    device.configure()
    with device.replicated():
        return _profile(request, raw, data, started_s, device)


def _profile(
    request: ProfileRequest,
    raw: FashionMnist,
    data: TrainingData,
    started_s: Mapping[str, float],
    device: Device,
) -> Readings:
    case, folder = request.case, Path(request.folder)
    PeakMemory()  # Resets the peak, which reading the images has raised.
    before, _ = resident_and_peak() or (None, None)
    began = time.perf_counter()
    built = built_work(request, data, device)
    work = _with_known_steps(built.work, case.loop)
    loop = LOOPS[case.loop](work)
    built_s = time.perf_counter() - began
    first_s = _first_steps_s(built, loop, device, folder / STARTUP)
    check_precision(case, loop, built.left_policy)
    epoch = _whole_epoch(loop, device)
    own = 0 if built.task.images else _own_bytes(work)
    memory = [*epoch.memory, *_before(case, before, _bytes_of(raw) + _bytes_of(data) + own)]
    del loop

    read = _reading(work, case.loop)
    wall_s, cpu_s, stack = _rounds(request, framework().parts(read, case.loop, device))
    traced = _first(work, TRACED_STEPS[case.loop])
    _trace_steps(traced, request, device, folder / STEPS)
    return Readings(
        rows=_rows(read),
        steps=_steps(read),
        wall_s=wall_s,
        cpu_s=cpu_s,
        epoch_step_s=epoch.step_s,
        traced_steps=_steps(traced),
        startup_s={**started_s, "build": built_s, "first steps": first_s},
        memory=memory,
        peak_host_bytes=epoch.peak_host,
        peak_device_bytes=epoch.peak_device,
        jit_compile=bool(work.model.jit_compile),
        model_name=work.model.name,
        device_name=device.device_name,
        stack=stack,
    )


def _first_steps_s(built: Built, loop: Loop, device: Device, folder: Path) -> float:
    """Seconds of the warm-up, whose trace is saved to `folder`."""
    with framework().tracing(folder), framework().naming(loop.work.model):
        began = time.perf_counter()
        warm_up(built, loop)
        device.synchronize()
        return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class _Epoch:
    """Readings of one epoch of the whole loop over all images."""

    step_s: float
    peak_host: int | None
    peak_device: int | None
    memory: list[tuple[str, str, int]]


def _whole_epoch(loop: Loop, device: Device) -> _Epoch:
    device.reset_peak_memory()
    window = Window(device)
    loop.train(window, 1)
    _, peak_host = resident_and_peak() or (None, None)
    peak_device = device.peak_memory_bytes()
    memory = _holders(loop, "host" if peak_device is None else "device")
    return _Epoch(window.wall_s / _steps(loop.work), peak_host, peak_device, memory)


def _reading(work: Work, loop: str) -> Work:
    """The work of one reading: an epoch, or its first steps."""
    steps = MOST_STEPS.get(loop, _steps(work))
    if loop == "fit":
        steps = max(LEAST_FIT_STEPS, min(steps, MOST_FIT_ROWS // work.batch_size))
    return _first(work, steps)


def _rounds(
    request: ProfileRequest, variants: Parts
) -> tuple[dict[str, list[float]], dict[str, list[float]], list[tuple[str, float]]]:
    """Read every variant once in each round, in random order, until rounds and seconds suffice.

    Returns:
        seconds and CPU seconds of a step by variant, one value per round, and the functions of
        Python's stack with their shares of the samples.
    """
    variants.warm_up()
    draw = random.Random(request.seed)
    wall_s: dict[str, list[float]] = {}
    cpu_s: dict[str, list[float]] = {}
    sampler = Profiler(interval=_SAMPLE_EVERY_S)

    def sampled() -> tuple[float, float]:
        """Read a step under the sampler, which collects the samples of all rounds."""
        with sampler:
            return variants.read(Variant.STEP)

    def traced() -> tuple[float, float]:
        """Read a step under the framework's profiler; its file is deleted."""
        with tempfile.TemporaryDirectory() as nowhere, framework().tracing(Path(nowhere)):
            return variants.read(Variant.STEP)

    watched: dict[str, Callable[[], tuple[float, float]]] = {Variant.TRACED: traced}
    if request.case.loop == "fit":
        watched[Variant.SAMPLED] = sampled
    began, number = time.perf_counter(), 0
    while number < MOST_ROUNDS and (
        number < request.rounds or time.perf_counter() - began < request.seconds
    ):
        order: list[str] = [*variants.names, Variant.STEP]
        if number < min(OVERHEAD_ROUNDS, request.rounds):
            order += watched
        draw.shuffle(order)
        for name in order:
            wall, cpu = watched[name]() if name in watched else variants.read(Variant(name))
            wall_s.setdefault(name, []).append(wall)
            cpu_s.setdefault(name, []).append(cpu)
        number += 1
    stack: list[tuple[str, float]] = []
    if Variant.SAMPLED in wall_s:
        (Path(request.folder) / STACK).write_text(sampler.output_html(), "utf-8")
        stack = _functions(sampler.last_session.root_frame() if sampler.last_session else None)
    return wall_s, cpu_s, stack


def _trace_steps(work: Work, request: ProfileRequest, device: Device, folder: Path) -> None:
    """Save a trace of a few steps after the warm-up, with the name of the case."""
    loop, name = LOOPS[request.case.loop](work), request.case.file_name
    with framework().naming(work.model):
        loop.warm_up()
        device.synchronize()
        with framework().tracing(folder), framework().named_in_trace(name):
            loop.train(Window(device), 1)


def _with_known_steps(work: Work, loop: str) -> Work:
    """The work, with a known number of steps where it is a stream."""
    if not isinstance(work.data, Stream):
        return work
    return _first(work, MOST_STEPS[loop])


def _first(work: Work, steps: int) -> Work:
    """The work of the first `steps` steps; all of it where it has no more.

    Of a stream, these are whole calls of the train function, which goes on where they end.
    """
    if isinstance(work.data, Stream):
        call = int(work.model.steps_per_execution)
        steps = max(call, steps - steps % call)
    if work.steps is not None and steps >= work.steps:
        return work
    if isinstance(work.data, Stream):
        return replace(work, data=replace(work.data, steps=steps))
    return replace(work, data=work.data.first(steps * work.batch_size))


def _steps(work: Work) -> int:
    assert work.steps is not None
    return work.steps


def _rows(work: Work) -> int:
    return work.samples or _steps(work) * work.batch_size


def _holders(loop: Loop, where: str) -> list[tuple[str, str, int]]:
    """(place, holder, bytes) of the memory that the training holds."""
    model = loop.work.model
    weights = {id(v): v for v in model.variables}
    slots = [v for v in state_variables(model) if id(v) not in weights]
    return [
        (where, f"{_kept(loop.work)} kept for the loop", sum(map(size_bytes, loop.resident))),
        (where, "weights", sum(map(size_bytes, weights.values()))),
        (where, "optimizer slots", sum(map(size_bytes, slots))),
    ]


def _kept(work: Work) -> str:
    return "images" if work.batch.pixels is not None else "data"


def _before(case: Case, resident: int | None, dataset_bytes: int) -> list[tuple[str, str, int]]:
    """(place, holder, bytes) of the memory before the case: images and imports."""
    found = [("host", "dataset", dataset_bytes)]
    if resident is not None:
        imported = max(0, resident - dataset_bytes)
        found.append(("host", f"Python, {KNOWN[case.backend].title} and libraries", imported))
    return found


def _own_bytes(work: Work) -> int:
    """Bytes of a workload's own data in memory."""
    return work.data.nbytes if isinstance(work.data, Arrays) else 0


def _bytes_of(arrays: Any) -> int:
    """Bytes of all NumPy arrays of a slotted dataclass."""
    values = [getattr(arrays, name) for name in type(arrays).__slots__]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _functions(frame: Any) -> list[tuple[str, float]]:
    """(function, share of the samples) of the functions with most samples of their own."""
    own: dict[str, float] = {}
    pending = [] if frame is None else [frame]
    while pending:
        frame = pending.pop()
        # A frame `[self]` is the time of the frame above it, which is counted already.
        real = [child for child in frame.children if not child.is_synthetic]
        pending += real
        name = f"{frame.function} ({Path(frame.file_path or '').name})"
        alone = frame.time - sum(child.time for child in real)
        own[name] = own.get(name, 0.0) + alone
    total = sum(own.values())
    top = sorted(own.items(), key=lambda item: -item[1])[:_MOST_FUNCTIONS]
    return [(name, seconds / total) for name, seconds in top] if total else []
