"""Compares the suite's readings of a real GPU with other measurements.

It tests the code for GPUs that needs no TensorFlow: NVML's facts, the processes on the card, the
energy, and that a child sees only its own device. Frameworks run in children,
`bench.evidence.gpu_child`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.analysis.noise import voids
from bench.launch.origin import child_command
from bench.machine import counters
from bench.machine.devices import inventory
from bench.machine.nvml import Gpu, Inventory, energy_counter, gpu_state, gpu_use, installed
from bench.machine.placement import child_environment
from bench.schema.case import Case
from fmnist_models.errors import UserError

# nvml.h, nvmlFieldValue: power now; nvmlDeviceGetPowerUsage may give the mean of a second.
_POWER_INSTANT = 186
_CHILD_LIMIT_S = 300
_SAMPLE_S = 0.002
NO_UUID = "GPU-00000000-0000-0000-0000-000000000000"
# Arguments of the child's load; None for no load.
LOADS: Mapping[str, Mapping[str, float] | None] = {
    "at rest": None,
    "products": {},
    "products with rests": {"rest_s": 0.05},
}


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


class Child:
    """A process that uses a framework on one device, restricted to it like a case's worker.

    Args:
        framework: `jax` or `torch`.
        device: the device, as a case spells it.
        machine: the machine's GPUs.
    """

    def __init__(self, framework: str, device: str, machine: Inventory) -> None:
        environment = child_environment(Case("relu_mlp", "adam", "fit", device), machine)
        # Otherwise the first child takes most of the memory, and none is left for another.
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self._framework = framework
        self._process = subprocess.Popen(
            [*child_command("bench.evidence.gpu_child"), framework],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request, and return its answer."""
        self.begin(**request)
        return self.answer()

    def begin(self, **request: Any) -> None:
        """Send a request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the child's answer.

        Raises:
            UserError: it ended without an answer.
        """
        assert self._process.stdout is not None
        watchdog = threading.Timer(_CHILD_LIMIT_S, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            code = self._process.wait()
            raise UserError(
                f"{self._framework} did not answer and ended with code {code}: see its output above"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the child."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(_CHILD_LIMIT_S)


@contextlib.contextmanager
def child(framework: str, device: str, machine: Inventory) -> Iterator[Child]:
    """A `Child` that ends with the context."""
    started = Child(framework, device, machine)
    try:
        yield started
    finally:
        started.close()


def the_gpu() -> tuple[Inventory, Gpu]:
    """The machine's GPUs, and the first one that may be used.

    Raises:
        UserError: there is none.
    """
    machine = inventory()
    if not machine.gpus:
        raise UserError(f"no GPU to look at: {machine.problem or 'none was found'}")
    return machine, machine.gpus[0]


def card_facts() -> dict[str, Any]:
    """The GPU's facts in environment.json and their NVML answers, with the UUID replaced."""
    import pynvml

    _, gpu = the_gpu()
    recorder = Recorder(pynvml)
    installed(recorder)
    state = gpu_state(gpu, recorder)
    gpu_use(gpu, recorder)
    text = json.dumps({"state": state, "answers": recorder.answers})
    facts: dict[str, Any] = json.loads(text.replace(gpu.uuid, NO_UUID))
    return facts


def framework_rows(frameworks: Sequence[str], device: str) -> list[dict[str, Any]]:
    """One row per framework, with its results in a child that may use only `device`."""
    machine, gpu = the_gpu()
    rows = []
    for framework in frameworks:
        with child(framework, device, machine) as asked:
            size = {} if device != "cpu" else {"size": 1024}
            told = asked.ask(op="probe", **size)
            use = gpu_use(gpu)
        tf32, memory = told["tf32"], told["memory"]
        rows.append(
            {
                "framework": framework,
                "version": told["version"],
                "device": device,
                "sees": " and ".join(told["devices"]),
                "uuid_is_the_cards": told["uuids"] == [gpu.uuid] if told["uuids"] else "",
                "pid_in_nvml": told["pid"] in (use.compute_pids or ()),
                "dispatch_share": told["waiting"]["dispatch_s"] / told["waiting"]["synced_s"],
                "error_tf32_off": tf32["off"]["relative_error"],
                "error_tf32_on": tf32["on"]["relative_error"],
                "flops_per_s_tf32_off": tf32["off"]["flops_per_s"],
                "flops_per_s_tf32_on": tf32["on"]["flops_per_s"],
                "allocated_bytes": memory["allocated_bytes"],
                "peak_rise_bytes": memory["rise_bytes"],
            }
        )
    return rows


def use_rows(framework: str, device: str, seconds: float) -> list[dict[str, Any]]:
    """The readings of a launch about the GPU: alone at rest, alone at work, with another process.

    Args:
        framework: the framework that makes the load.
        device: the device, as a case spells it.
        seconds: seconds of each situation.
    """
    machine, gpu = the_gpu()
    rows = []
    with child(framework, device, machine) as own:
        own.ask(op="load", seconds=0.1)

        def read(situation: str, work: bool) -> None:
            """Read one window of a launch."""
            close = counters.watch(own.pid, gpu)
            if work:
                own.begin(op="load", seconds=seconds)
                time.sleep(0.8 * seconds)
            else:
                time.sleep(seconds)
            noise = close(None)
            if work:
                own.answer()
            rows.append(
                {
                    "gpu": gpu.name,
                    "situation": situation,
                    "gpu_other_processes": noise.gpu_other_processes,
                    "gpu_clock_hz": noise.gpu_clock_hz,
                    "gpu_throttle_reasons": " ".join(noise.gpu_throttle_reasons or ("none",)),
                    "voids": voids(noise),
                }
            )

        read("alone, at rest", work=False)
        read("alone, at work", work=True)
        with child(framework, device, machine) as other:
            other.ask(op="load", seconds=0.1)
            other.begin(op="load", seconds=seconds)
            read("beside another", work=True)
            other.answer()
        read("alone again", work=True)
    return rows


def energy_rows(framework: str, device: str, seconds: float) -> list[dict[str, Any]]:
    """One row per load: joules by the energy counter and by power samples.

    Raises UserError where the GPU has no energy counter.
    """
    machine, gpu = the_gpu()
    read = energy_counter(gpu.uuid)
    if read is None:
        raise UserError(f"{gpu.name} has no energy counter that NVML can read")
    rows = []
    with child(framework, device, machine) as loaded:
        loaded.ask(op="load", seconds=1)
        for load, words in LOADS.items():
            if words is not None:
                # The power needs about a second to become constant.
                loaded.begin(op="load", seconds=seconds + 2, **words)
                time.sleep(1)
            samples, cost_s = _samples(gpu, read, seconds)
            if words is not None:
                loaded.answer()
            own = {"gpu": gpu.name, "load": load}
            rows.append({**own, **energy_row(samples), "counter_read_s": cost_s})
    return rows


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
        raise UserError("the energy counter was updated fewer than three times: raise --seconds")
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


def _samples(gpu: Gpu, read: Any, seconds: float) -> tuple[list[Sample], float]:
    """(samples taken for `seconds`, median seconds of reading the counter)."""
    import pynvml

    card = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
    samples: list[Sample] = []
    costs = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        joules = read()
        costs.append(time.perf_counter() - started)
        samples.append(Sample(started, joules, _watts(pynvml, card)))
        time.sleep(_SAMPLE_S)
    return samples, median(costs)


def _watts(nvml: Any, card: Any) -> float:
    try:
        (field,) = nvml.nvmlDeviceGetFieldValues(card, [_POWER_INSTANT])
        if field.nvmlReturn == 0:
            return float(field.value.uiVal) / 1e3
    except nvml.NVMLError:
        pass
    return float(nvml.nvmlDeviceGetPowerUsage(card)) / 1e3
