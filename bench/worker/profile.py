"""Profiles one case, inside the worker's process.

Only `bench.worker.serve` imports this module: it imports TensorFlow. Nothing that it measures is
stored as a timing of a run: a profile leaves parts of the work out and looks on while the rest
runs.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from pyinstrument import Profiler

from bench.schema.profile import Readings, Variant
from bench.schema.requests import STACK, STARTUP, STEPS, ProfileRequest
from bench.worker.counting import size_bytes
from bench.worker.memory import PeakMemory, resident_and_peak
from bench.worker.tensorflow.device import TensorFlowDevice
from bench.worker.tensorflow.variants import Variants
from bench.worker.training import built_work, check_precision
from bench.worker.window import Window
from fmnist_models.dataset import FashionMnist, TrainingData
from fmnist_models.loops import LOOPS
from fmnist_models.loops.base import Loop, Work, state_variables

# Steps of one reading: few enough that all variants see the same moment of the machine; of `fit`
# enough that the first call of a reading, 2 to 3 ms longer, is a few percent of it at most.
MOST_STEPS: Mapping[str, int] = {"fit": 100, "multistep": 300}
MOST_FIT_ROWS, LEAST_FIT_STEPS = 16_000, 25
# Steps of the saved trace: at most so many, so that the file is small enough to share.
TRACED_STEPS: Mapping[str, int] = {"fit": 20, "multistep": 100, "compiled": 100}
MOST_ROUNDS = 200
# The profilers' own cost is read in the first rounds.
OVERHEAD_ROUNDS = 5
_SAMPLE_EVERY_S = 0.001
_MOST_FUNCTIONS = 10


def profile_case(
    request: ProfileRequest,
    raw: FashionMnist,
    data: TrainingData,
    started_s: Mapping[str, float],
) -> Readings:
    """Everything that a launch can tell of where the time and the memory of a case go.

    Args:
        request: which case, and where its traces go.
        raw: the images as they are.
        data: as networks are trained on them.
        started_s: seconds that the process took until now, by stage.

    Raises:
        Invalid: a layer does not have the precision of the case.
        Unavailable: the device that the case names cannot be used.
    """
    case, folder = request.case, Path(request.folder)
    device = TensorFlowDevice(tf, case.device, case.precision)
    device.configure()
    PeakMemory()  # The peak of reading the images is no longer one.
    before, _ = resident_and_peak() or (None, None)
    began = time.perf_counter()
    built = built_work(case, request.seed, data, device)
    work = built.work
    loop = LOOPS[case.loop](work)
    built_s = time.perf_counter() - began
    with _session(folder / STARTUP):
        began = time.perf_counter()
        loop.warm_up()
        device.synchronize()
        first_s = time.perf_counter() - began
    check_precision(case, loop, built.left_policy)
    epoch = _whole_epoch(loop, device)
    memory = [*epoch.memory, *_before(before, _bytes_of(raw) + _bytes_of(data))]
    del loop

    read = _reading(work, case.loop)
    wall_s, cpu_s, stack = _rounds(request, Variants(read, case.loop, device))
    traced = _first(work, TRACED_STEPS[case.loop])
    _trace_steps(traced, request, device, folder / STEPS)
    return Readings(
        rows=read.samples,
        steps=read.steps,
        wall_s=wall_s,
        cpu_s=cpu_s,
        epoch_step_s=epoch.step_s,
        traced_steps=traced.steps,
        startup_s={**started_s, "build": built_s, "first steps": first_s},
        memory=memory,
        peak_host_bytes=epoch.peak_host,
        peak_device_bytes=epoch.peak_device,
        jit_compile=bool(work.model.jit_compile),
        model_name=work.model.name,
        device_name=device.device_name,
        stack=stack,
    )


@dataclass(frozen=True, slots=True)
class _Epoch:
    """One epoch over all images, before anything is left out."""

    step_s: float
    peak_host: int | None
    peak_device: int | None
    memory: list[tuple[str, str, int]]


def _whole_epoch(loop: Loop, device: TensorFlowDevice) -> _Epoch:
    device.reset_peak_memory()
    window = Window(device)
    loop.train(window, 1)
    _, peak_host = resident_and_peak() or (None, None)
    peak_device = device.peak_memory_bytes()
    memory = _holders(loop, "host" if peak_device is None else "device")
    return _Epoch(window.wall_s / loop.work.steps, peak_host, peak_device, memory)


def _reading(work: Work, loop: str) -> Work:
    """What one reading trains: all of an epoch, or the first steps of it."""
    steps = MOST_STEPS.get(loop, work.steps)
    if loop == "fit":
        steps = max(LEAST_FIT_STEPS, min(steps, MOST_FIT_ROWS // work.batch_size))
    return _first(work, steps)


def _rounds(
    request: ProfileRequest, variants: Variants
) -> tuple[dict[str, list[float]], dict[str, list[float]], list[tuple[str, float]]]:
    """Read every variant once a round, in random order, until enough was seen.

    Returns seconds and CPU seconds of a step by variant, and where Python's own stack was.
    """
    variants.warm_up()
    draw = random.Random(request.seed)
    wall_s: dict[str, list[float]] = {}
    cpu_s: dict[str, list[float]] = {}
    sampler = Profiler(interval=_SAMPLE_EVERY_S)

    def sampled() -> tuple[float, float]:
        """A step under the sampler, which adds up the rounds."""
        with sampler:
            return variants.read(Variant.STEP)

    def traced() -> tuple[float, float]:
        """A step under TensorFlow's profiler, whose file nobody wants."""
        with tempfile.TemporaryDirectory() as nowhere, _session(Path(nowhere)):
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


def _trace_steps(
    work: Work, request: ProfileRequest, device: TensorFlowDevice, folder: Path
) -> None:
    """Save a trace of a few warm steps, under the name of the case."""
    loop = LOOPS[request.case.loop](work)
    loop.warm_up()
    device.synchronize()
    with _session(folder), tf.profiler.experimental.Trace(request.case.id):
        loop.train(Window(device), 1)


@contextmanager
def _session(folder: Path) -> Iterator[None]:
    """TensorFlow's profiler: operations of the host, kernels and copies of a GPU."""
    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=2, python_tracer_level=0, device_tracer_level=1
    )
    tf.profiler.experimental.start(str(folder), options)
    try:
        yield
    finally:
        tf.profiler.experimental.stop()
        for file in folder.glob("plugins/profile/*/*.xplane.pb"):
            # The name of the machine, which is not for sharing, is the name of the file.
            shutil.move(file, folder / "host.xplane.pb")


def _first(work: Work, steps: int) -> Work:
    """The work of the first steps; all of it where they are no fewer."""
    if steps >= work.steps:
        return work
    rows = steps * work.batch_size
    pixels = None if work.pixels is None else work.pixels[:rows]
    return Work(
        work.model,
        work.x[:rows],
        work.y[:rows],
        work.batch_size,
        work.seed,
        work.shuffle,
        work.device,
        pixels,
    )


def _holders(loop: Loop, where: str) -> list[tuple[str, str, int]]:
    """What the training itself holds."""
    model = loop.work.model
    weights = {id(v): v for v in model.variables}
    slots = [v for v in state_variables(model) if id(v) not in weights]
    return [
        (where, "images kept for the loop", sum(map(size_bytes, loop.resident))),
        (where, "weights", sum(map(size_bytes, weights.values()))),
        (where, "optimizer slots", sum(map(size_bytes, slots))),
    ]


def _before(resident: int | None, dataset_bytes: int) -> list[tuple[str, str, int]]:
    """What the process held before the case: the images, and all that was imported."""
    found = [("host", "dataset", dataset_bytes)]
    if resident is not None:
        imported = max(0, resident - dataset_bytes)
        found.append(("host", "Python, TensorFlow and libraries", imported))
    return found


def _bytes_of(arrays: Any) -> int:
    """Bytes of all arrays of a slotted dataclass."""
    values = [getattr(arrays, name) for name in type(arrays).__slots__]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _functions(frame: Any) -> list[tuple[str, float]]:
    """The functions in which most samples were, and not in what they called."""
    own: dict[str, float] = {}
    pending = [] if frame is None else [frame]
    while pending:
        frame = pending.pop()
        # What is called `[self]` is the frame above it, which counts it already.
        real = [child for child in frame.children if not child.is_synthetic]
        pending += real
        name = f"{frame.function} ({Path(frame.file_path or '').name})"
        alone = frame.time - sum(child.time for child in real)
        own[name] = own.get(name, 0.0) + alone
    total = sum(own.values())
    top = sorted(own.items(), key=lambda item: -item[1])[:_MOST_FUNCTIONS]
    return [(name, seconds / total) for name, seconds in top] if total else []
