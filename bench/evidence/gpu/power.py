"""What NVML says of a GPU: its energy beside its power samples, and its answers for a replay."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.machine.nvml import Gpu, energy_counter, gpu_state, gpu_use, installed
from fmnist_models.errors import UserError

# nvml.h, nvmlFieldValue: power now; nvmlDeviceGetPowerUsage may give the mean of a second.
_POWER_INSTANT = 186
_SAMPLE_S = 0.002
NO_UUID = "GPU-00000000-0000-0000-0000-000000000000"


class Recorder:
    """A wrapper of pynvml that records the answer of each call, so that a test can replay it.

    Attributes:
        answers: the answers, by the call's name and its arguments that are numbers or texts.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self.answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._nvml, name)
        if not name.startswith(("nvmlDevice", "nvmlSystem")):
            return found

        def call(*arguments: Any) -> Any:
            """Make NVML's call, and record its answer or error."""
            told = [str(value) for value in arguments if isinstance(value, int | str)]
            key = " ".join([name, *told])
            try:
                answer = found(*arguments)
            except self._nvml.NVMLError as error:
                self.answers[key] = {"error": error.value}
                raise
            self.answers[key] = _plain(answer)
            return answer

        return call


def _plain(answer: Any) -> Any:
    """An answer as JSON values: structures become objects."""
    if isinstance(answer, bytes):
        return answer.decode()
    if isinstance(answer, list | tuple):
        return [_plain(one) for one in answer]
    if answer is None or isinstance(answer, int | float | str):
        return answer
    fields = [name for name, _ in getattr(answer, "_fields_", ())]
    fields = fields or list(getattr(answer, "__dict__", ()))
    return {name: _plain(getattr(answer, name)) for name in fields}


@dataclass(frozen=True, slots=True)
class Sample:
    """The energy counter and the power of a card at one moment."""

    at_s: float
    joules: float
    watts: float


def card_facts(gpu: Gpu) -> dict[str, Any]:
    """The GPU's facts in environment.json and their NVML answers, with the UUID replaced."""
    import pynvml

    recorder = Recorder(pynvml)
    installed(recorder)
    state = gpu_state(gpu, recorder)
    gpu_use(gpu, recorder)
    text = json.dumps({"state": state, "answers": recorder.answers})
    facts: dict[str, Any] = json.loads(text.replace(gpu.uuid, NO_UUID))
    return facts


def energy_row(samples: Sequence[Sample]) -> dict[str, Any]:
    """The columns for the samples of one load.

    The energy is taken between the first and the last update of the counter. The power samples are
    integrated over the same time by the trapezoidal rule. Raises UserError where the counter was
    updated fewer than three times.
    """
    moves = [
        place
        for place in range(1, len(samples))
        if samples[place].joules != samples[place - 1].joules
    ]
    if len(moves) < 3:
        raise UserError("the energy counter was updated fewer than three times")
    within = samples[moves[0] : moves[-1] + 1]
    by_power = sum(
        (b.at_s - a.at_s) * (a.watts + b.watts) / 2 for a, b in itertools.pairwise(within)
    )
    times = [samples[place].at_s for place in moves]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    joules = within[-1].joules - within[0].joules
    return {
        "seconds": within[-1].at_s - within[0].at_s,
        "counter_j": joules,
        "power_samples_j": by_power,
        "counter_over_samples": joules / by_power,
        "update_median_s": median(gaps),
        "update_longest_s": max(gaps),
    }


def samples(gpu: Gpu, seconds: float, stopped_w: float | None = None) -> list[Sample]:
    """Samples of the energy counter and the power, taken for `seconds`.

    Args:
        gpu: the GPU.
        seconds: how long.
        stopped_w: the fault: the power that each sample repeats.

    Raises:
        UserError: the GPU has no energy counter.
    """
    read = energy_counter(gpu.uuid)
    if read is None:
        raise UserError(f"{gpu.name} has no energy counter that NVML can read")
    found: list[Sample] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        at_s = time.perf_counter()
        watts = power_now(gpu) if stopped_w is None else stopped_w
        found.append(Sample(at_s, read() or 0.0, watts))
        time.sleep(_SAMPLE_S)
    return found


def power_now(gpu: Gpu, nvml: Any = None) -> float:
    """The power of a GPU in watts, after `energy_counter` has started NVML."""
    import pynvml

    api = nvml or pynvml
    return _watts(api, api.nvmlDeviceGetHandleByUUID(gpu.uuid))


def _watts(nvml: Any, card: Any) -> float:
    try:
        (field,) = nvml.nvmlDeviceGetFieldValues(card, [_POWER_INSTANT])
        if field.nvmlReturn == 0:
            return float(field.value.uiVal) / 1e3
    except nvml.NVMLError:
        pass
    return float(nvml.nvmlDeviceGetPowerUsage(card)) / 1e3
