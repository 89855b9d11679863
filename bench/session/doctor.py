"""`fmnist-bench doctor`: checks this machine and the framework behind Keras in under a minute.

The parent checks the machine; a child, `bench.worker.probe`, checks the framework.
`bench.verdicts.validity` judges the numbers.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.backends import DEFAULT, KNOWN
from bench.backends.facts import Backend
from bench.launch.origin import child_command
from bench.machine import hardware
from bench.machine.cuda import SEE_DOCTOR
from bench.machine.devices import inventory, resolve
from bench.machine.nvml import Inventory, gpu_state
from bench.machine.placement import child_environment, wanted_backend
from bench.schema.case import Case
from bench.schema.errors import Unavailable
from bench.verdicts import validity
from bench.verdicts.validity import Check, Report, Verdict, not_applicable

PROBE = child_command("bench.worker.probe")
PROBE_LIMIT_S = 180.0
_NOISE_S = 1.0
_STEPS = ("device", "placement", "waiting", "TF32", "memory counter")
# With log level 0, and 1 for the loader, TensorFlow prints the names of libraries that fail.
_TELL_ALL = {
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_CPP_VMODULE": "dso_loader=1,cudart_stub=1,cuda_diagnostics=1",
}


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The output of the child process.

    Attributes:
        steps: facts by the name of their step.
        log: everything that it and the framework printed on stderr.
        ending: how it ended, where it hung or failed; else empty.
    """

    steps: Mapping[str, Mapping[str, Any]]
    log: str = ""
    ending: str = ""


def diagnose(device: str = "cpu", backend: str | None = None) -> Report:
    """Check the machine, and a framework on `device` in a child process.

    Args:
        device: as a case spells it.
        backend: the framework; None for the first one that is installed.

    Raises:
        UserError: `device` is no name of a device, or `backend` none of a framework.
    """
    case = Case("softmax", "sgd", "fit", device=device, backend=backend or wanted_backend())
    framework = KNOWN[case.backend]
    machine = inventory()
    found = _machine_checks()
    try:
        gpu = resolve(device, machine)
    except Unavailable as reason:
        probed = _probe("none", replace(case, device="cpu"), machine)
        missing = Check("device", Verdict.FAILED, str(reason), _how_to_have_it(machine))
        others = [not_applicable(name, "no such device") for name in _STEPS[1:]]
        return Report(device, (*found, *versions(probed, framework), missing, *others))
    at_rest = None if gpu is None else validity.gpu_at_rest(gpu_state(gpu))
    probed = _probe(device, case, machine)
    found += framework_checks(probed, framework, is_gpu=gpu is not None)
    if at_rest is not None:
        if len(machine.gpus) > 1:
            found.append(validity.several_gpus([each.name for each in machine.gpus]))
        found += [at_rest, *_cuda_checks(machine, probed, framework)]
    return Report(device, tuple(found))


def _how_to_have_it(machine: Inventory) -> str:
    if machine.hidden:
        return "change or unset CUDA_VISIBLE_DEVICES"
    if machine.gpus:
        return "name a device that is there"
    return "install the NVIDIA driver until nvidia-smi -L lists it; containers: --gpus all"


def versions(probed: ProbeResult, framework: Backend) -> list[Check]:
    """Whether the framework can be imported in a supported version, and what else it sees."""
    facts = probed.steps.get("versions", {"error": probed.ending or "the child told nothing"})
    name = "versions"
    if "error" in facts:
        told = f"{framework.title} cannot be imported: {facts['error']}"
        remedy = f"{framework.install}, in this very environment"
        return [Check(name, Verdict.FAILED, told, remedy)]
    version = facts[framework.packages[0]]
    finding = f"Python {facts['python']}, {framework.title} {version}, Keras {facts['keras']}"
    if reason := framework.unsupported(facts.get):
        _, _, remedy = reason.rpartition(": ")
        return [Check(name, Verdict.FAILED, f"{finding}: not supported", remedy)]
    found = [Check(name, Verdict.OK, finding)]
    if untested := framework.untested(facts.get):
        pins = " ".join(untested)
        told = f"{finding}: the suite is tested with {pins}"
        found = [Check(name, Verdict.WARNING, told, f"pip install {pins}")]
    if others := facts.get("others"):
        told = f"{', '.join(others)}: untried, so no case can name it"
        found.append(Check("other accelerators", Verdict.NOT_APPLICABLE, told))
    return found


def framework_checks(probed: ProbeResult, framework: Backend, *, is_gpu: bool) -> list[Check]:
    """The verdict on each step of the child; a step that was not reached is not applicable."""
    found = versions(probed, framework)
    again = f"reinstall or update {framework.title}"
    for name in _STEPS:
        facts = probed.steps.get(name.split()[0].lower())
        if facts is None:
            found.append(not_applicable(name, "not reached"))
        elif reason := facts.get("unavailable"):
            told = reason.removesuffix(f": {SEE_DOCTOR}")
            found.append(
                Check(name, Verdict.FAILED, told, "see the rows driver and CUDA libraries")
            )
        elif error := facts.get("error"):
            found.append(Check(name, Verdict.FAILED, error, again))
        else:
            found.append(_step_check(name, facts, framework, is_gpu))
    if probed.ending:
        last = ", ".join([*probed.steps][-1:]) or "none"
        told = f"it {probed.ending}; the last finished step: {last}"
        found.append(Check(f"{framework.title} process", Verdict.FAILED, told, again))
    return found


def _step_check(name: str, facts: Mapping[str, Any], framework: Backend, is_gpu: bool) -> Check:
    if name == "device":
        model = facts["device_name"] or hardware.cpu_model()
        return Check(name, Verdict.OK, f"{framework.title} sees it: {model}")
    if name == "placement":
        return validity.placement(facts["misplaced"], facts["name"])
    if name == "waiting":
        return validity.synchronization(
            facts["dispatch_s"], facts["synced_s"], facts["read_s"], framework.title
        )
    if name == "TF32":
        if not is_gpu:
            return not_applicable(name, "a CPU has none")
        capability = facts["compute_capability"]
        capable = capability is None or tuple(capability) >= (8, 0)
        return validity.tf32(facts["errors"], capable, framework.title)
    where = "device" if is_gpu else "host"
    return validity.memory_counter(facts["allocated_bytes"], facts["rise_bytes"], where)


def _cuda_checks(machine: Inventory, probed: ProbeResult, framework: Backend) -> list[Check]:
    told = probed.steps.get("versions", {})
    found = "device_name" in probed.steps.get("device", {})
    libraries = validity.cuda_libraries(probed.log, found)
    if "error" in told and libraries.verdict is Verdict.WARNING:
        libraries = not_applicable(libraries.name, f"{framework.title} cannot be imported")
    elif framework.name != DEFAULT:
        # Only TensorFlow's log names those that it could not open.
        libraries = not_applicable(libraries.name, f"{framework.title} brings its own")
    driver = validity.driver(
        machine.driver_version, machine.cuda_driver_version, told.get("cuda"), framework.title
    )
    return [driver, libraries]


def _machine_checks() -> list[Check]:
    import psutil

    reads = [time.perf_counter() for _ in range(20_000)]
    steps = [after - before for before, after in itertools.pairwise(reads)]
    resolution = min(
        (step for step in steps if step > 0), default=time.get_clock_info("perf_counter").resolution
    )
    limit = hardware.cgroup_memory_limit_bytes()
    available = psutil.virtual_memory().available
    affinity = hardware.cpu_affinity()
    return [
        validity.timer(resolution, time.get_clock_info("perf_counter").monotonic),
        _noise(),
        validity.cpus(len(affinity or ()) or os.cpu_count() or 1, hardware.cgroup_cpu_quota()),
        validity.memory(min(available, limit or available)),
        validity.temporary_space(shutil.disk_usage(tempfile.gettempdir()).free),
    ]


def _noise() -> Check:
    """Repeat a fixed computation for about a second, and judge how much it varies."""
    before = _stolen_and_total()
    samples: list[float] = []
    end = time.perf_counter() + _NOISE_S
    while time.perf_counter() < end or len(samples) < 10:
        started = time.perf_counter()
        sum(number * number for number in range(100_000))
        samples.append(time.perf_counter() - started)
    after = _stolen_and_total()
    steal = None
    if before and after and after[1] > before[1]:
        steal = (after[0] - before[0]) / (after[1] - before[1])
    return validity.noise(samples, steal)


def _stolen_and_total() -> tuple[int, int] | None:
    """(stolen, all) ticks of CPU time: proc(5), /proc/stat; None where not known."""
    try:
        first = Path("/proc/stat").read_text("ascii").splitlines()[0]
    except OSError:
        return None
    # user nice system idle iowait irq softirq steal; guest time is within user.
    ticks = [int(number) for number in first.split()[1:9]]
    return ticks[7], sum(ticks)


def _probe(device: str, case: Case, machine: Inventory) -> ProbeResult:
    environ = child_environment(case, machine) | _TELL_ALL
    try:
        ended = subprocess.run(
            [*PROBE, device],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        ending = f"hung for {PROBE_LIMIT_S:.0f} s"
        return ProbeResult(_steps(late.stdout), _decoded(late.stderr), ending)
    code = ended.returncode
    # A negative code is the signal that ended it.
    ending = f"ended with code {code}" if code else ""
    return ProbeResult(_steps(ended.stdout), _decoded(ended.stderr), ending)


def _steps(output: bytes | None) -> dict[str, dict[str, Any]]:
    """The facts by step; an unfinished last line is left out."""
    whole = _decoded(output).rpartition("\n")[0]
    messages = [json.loads(line) for line in whole.splitlines()]
    return {message.pop("step"): message for message in messages}


def _decoded(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", "replace")
