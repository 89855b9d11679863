"""The verdicts of `doctor`: pure functions from readings to findings and remedies."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bench.machine.cuda import driver_is_too_old
from bench.schema.errors import ExitCode
from bench.schema.noise import SLOWED_BY

INSTALL_CUDA = 'pip install "tensorflow[and-cuda]" (Linux, and Windows inside WSL2)'
_GIB = 2**30
# Relative errors of a product of factors 1 + 2^-12: TF32 rounds the 2^-12 away, float32 keeps it.
_TF32_LOSES, _FLOAT32_KEEPS = 1e-4, 1e-6


class Verdict(StrEnum):
    """The verdict of one check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding, with its remedy; the remedy is empty where none is needed."""

    name: str
    verdict: Verdict
    finding: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one device, in the order in which they are shown."""

    device: str
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """2 if a check failed, else 0; a warning changes nothing."""
        failed = any(check.verdict is Verdict.FAILED for check in self.checks)
        return ExitCode.WRONG_USE_OR_FAILED_CASE if failed else ExitCode.PASSED


def not_applicable(name: str, why: str) -> Check:
    """A check that does not apply here, with the reason."""
    return Check(name, Verdict.NOT_APPLICABLE, why)


def several_gpus(names: Sequence[str]) -> Check:
    """Whether the GPUs that replicas would train on are alike.

    Args:
        names: the model of each GPU, at least two.
    """
    count = {name: names.count(name) for name in names}
    finding = f"{len(names)}: " + ", ".join(f"{many} x {name}" for name, many in count.items())
    if len(count) > 1:
        told = f"{finding}; with --replicas, each step waits for the slowest"
        return Check("GPUs", Verdict.WARNING, told, "choose alike ones by CUDA_VISIBLE_DEVICES")
    return Check("GPUs", Verdict.OK, f"{finding}; --replicas trains on several of them at once")


def timer(resolution_s: float, monotonic: bool) -> Check:
    """Whether `perf_counter` resolves steps of some microseconds and never goes back."""
    finding = f"perf_counter resolves {_seconds(resolution_s)}"
    if not monotonic:
        return Check(
            "timer", Verdict.FAILED, f"{finding}, but can go back", "use another system or Python"
        )
    if resolution_s > 1e-6:
        return Check("timer", Verdict.WARNING, finding, "trust rounds of many milliseconds only")
    return Check("timer", Verdict.OK, finding)


def noise(samples_s: Sequence[float], steal: float | None) -> Check:
    """How much repetitions of one fixed computation vary.

    Args:
        samples_s: seconds of each repetition, at least two.
        steal: share of CPU time that a hypervisor gave to others at that time; None if unknown.
    """
    deciles = statistics.quantiles(samples_s, n=10)
    spread = (deciles[-1] - deciles[0]) / statistics.median(samples_s)
    finding = f"a fixed computation varies by {spread:.1%} (80% of {len(samples_s)} repetitions)"
    remedies = []
    if steal is not None and steal >= 0.01:
        finding += f"; the hypervisor took {steal:.1%} of the CPU time"
        remedies.append("use a machine of your own")
    if spread >= 0.03:
        remedies.append("stop other programs, plug in, set the governor to performance")
    verdict = Verdict.WARNING if remedies else Verdict.OK
    advice = "; ".join(remedies) + "; or measure more launches" if remedies else ""
    return Check("noise", verdict, finding, advice)


def cpus(usable: int, quota: float | None) -> Check:
    """Whether TensorFlow's default of one thread per CPU fits the CPU quota.

    Args:
        usable: CPUs of the affinity mask, from which frameworks take the size of their pools.
        quota: CPU seconds per second that the control group allows; None where unlimited.
    """
    finding = f"{usable} usable CPU{'s' * (usable != 1)}"
    if quota is None:
        return Check("CPUs", Verdict.OK, f"{finding}, no quota")
    finding += f", quota {quota:g}"
    if quota >= usable:
        return Check("CPUs", Verdict.OK, finding)
    return Check(
        "CPUs",
        Verdict.WARNING,
        f"{finding}: {usable} threads would be throttled",
        f"--threads {max(1, math.floor(quota))}",
    )


def memory(available_bytes: int) -> Check:
    """Whether a launch fits into memory: TensorFlow, images and a model need about 1 GiB."""
    finding = f"{available_bytes / _GIB:.1f} GiB free"
    if available_bytes < _GIB:
        return Check("memory", Verdict.FAILED, finding, "free at least 1 GiB, better 3")
    if available_bytes < 3 * _GIB:
        return Check("memory", Verdict.WARNING, finding, "large batches may not fit")
    return Check("memory", Verdict.OK, finding)


def temporary_space(free_bytes: int) -> Check:
    """Whether the folder for temporary files has space for compilers and locks."""
    finding = f"{free_bytes / _GIB:.1f} GiB free for temporary files"
    remedy = "free space, or name another folder in TMPDIR"
    if free_bytes < 2**27:
        return Check("disk", Verdict.FAILED, finding, remedy)
    if free_bytes < _GIB:
        return Check("disk", Verdict.WARNING, finding, remedy)
    return Check("disk", Verdict.OK, finding)


def driver(version: str | None, knows: str | None, built: str | None, framework: str) -> Check:
    """Whether the NVIDIA driver can run the CUDA that a framework was built for.

    Args:
        version: version of the driver.
        knows: the newest CUDA that the driver supports.
        built: the CUDA that the framework was built for.
        framework: its title.
    """
    finding = f"driver {version or 'of unknown version'} supports CUDA {knows or '?'}"
    if built:
        finding += f", {framework} is built for {built}"
    if driver_is_too_old(knows, built):
        return Check("driver", Verdict.FAILED, finding, "update the NVIDIA driver")
    if knows and built and _numbers(knows) < _numbers(built)[:2]:
        return Check(
            "driver",
            Verdict.WARNING,
            f"{finding}: enough within one major version, but PTX may fail to compile",
            "update the NVIDIA driver",
        )
    return Check("driver", Verdict.OK, finding)


def gpu_at_rest(state: Mapping[str, Any]) -> Check:
    """Whether the GPU is not throttled and no other process computes on it."""
    troubles = []
    slowed = sorted(SLOWED_BY & set(state.get("throttle_reasons") or ()))
    if slowed:
        troubles.append(f"slowed down by {', '.join(slowed)}")
    if others := state.get("compute_processes"):
        troubles.append(f"{others} other process{'es' * (others != 1)} on it")
    celsius = state.get("temperature_c")
    facts = [*troubles, *([f"{celsius} °C"] if celsius is not None else [])]
    finding = "; ".join(facts) or "state unknown"
    if troubles:
        return Check("GPU at rest", Verdict.WARNING, finding, "wait, cool it, end the others")
    return Check("GPU at rest", Verdict.OK, finding)


def placement(misplaced: Sequence[str], name: str) -> Check:
    """Whether a variable and a compiled function's result are placed on the device."""
    if misplaced:
        return Check(
            "placement",
            Verdict.FAILED,
            "; ".join(misplaced),
            "unset what places operations (TF_XLA_FLAGS, a site's own patches)",
        )
    return Check("placement", Verdict.OK, f"a variable and a compiled result are on {name}")


def synchronization(dispatch_s: float, synced_s: float, read_s: float, framework: str) -> Check:
    """Whether `synchronize` waits until the device has finished its work.

    Args:
        dispatch_s: seconds until a long chain of products was dispatched.
        synced_s: seconds until `synchronize` returned, from the same start.
        read_s: seconds until the chain's result was read; it cannot be read before it is computed.
        framework: the framework's title.
    """
    finding = (
        f"a chain of products: {_seconds(dispatch_s)} to dispatch, {_seconds(synced_s)} with "
        f"waiting, {_seconds(read_s)} with reading the result"
    )
    if read_s < 0.02:
        return Check("waiting", Verdict.WARNING, f"{finding}: too short to tell", "run it again")
    if synced_s < read_s / 2:
        return Check(
            "waiting",
            Verdict.FAILED,
            f"{finding}: it does not wait, so times would be too short",
            f"update {framework}",
        )
    return Check("waiting", Verdict.OK, finding)


def tf32(errors: Mapping[str, Mapping[str, float]], capable: bool, framework: str) -> Check:
    """Whether the TF32 switch changes the results, and float32 without it is exact.

    Args:
        errors: for each way of running, relative errors with the switch `off` and `on`.
        capable: whether the GPU has TF32 (compute capability 8.0 and later).
        framework: the framework's title.
    """
    inexact = [way for way, error in errors.items() if error["off"] > _FLOAT32_KEEPS]
    if inexact:
        return Check(
            "TF32",
            Verdict.FAILED,
            f"float32 is rounded although TF32 is off ({', '.join(inexact)})",
            f"unset NVIDIA_TF32_OVERRIDE and flags in XLA_FLAGS; update {framework}",
        )
    if not capable:
        return not_applicable("TF32", "this GPU has none; float32 is exact")
    unmoved = [way for way, error in errors.items() if error["on"] < _TF32_LOSES]
    if unmoved:
        return Check(
            "TF32",
            Verdict.WARNING,
            f"switched on, it changes no result ({', '.join(unmoved)})",
            "tf32 rows would repeat float32: leave them out",
        )
    return Check("TF32", Verdict.OK, "off, float32 is exact; on, it is rounded")


def memory_counter(allocated_bytes: int, rise_bytes: int | None, where: str) -> Check:
    """Whether the memory peak rises by about the allocated bytes."""
    name = "memory counter"
    if rise_bytes is None:
        return Check(
            name, Verdict.WARNING, f"{where}: the peak is not known", "the column stays empty"
        )
    finding = (
        f"{where}: {allocated_bytes / 2**20:.0f} MiB raise the peak by {rise_bytes / 2**20:.0f} MiB"
    )
    if not 0.75 * allocated_bytes <= rise_bytes <= 2 * allocated_bytes:
        return Check(name, Verdict.FAILED, finding, "do not trust the peak memory columns")
    return Check(name, Verdict.OK, finding)


def cuda_libraries(log: str, gpu_found: bool) -> Check:
    """Whether CUDA's libraries load, by the messages in TensorFlow's log.

    The messages are those of its sources: dso_loader.cc, cudart_stub.cc, gpu_device.cc,
    cuda_platform.cc (cuda_driver.cc before 2.19) and cuda_diagnostics.cc.
    """
    name = "CUDA libraries"
    if gpu_found:
        return Check(name, Verdict.OK, "all that TensorFlow needs are loaded")
    missing = dict.fromkeys(re.findall(r"Could not load dynamic library '([^']+)'", log))
    # TensorRT is optional.
    missing = {library: None for library in missing if "nvinfer" not in library}
    if any(re.match(r"libcuda\.so|nvcuda", library) for library in missing):
        return Check(
            name,
            Verdict.FAILED,
            f"the driver's library does not load: {', '.join(missing)}",
            "install the NVIDIA driver; start a container with --gpus all",
        )
    if "CUDA driver version is insufficient" in log:
        return Check(
            name, Verdict.FAILED, "the driver is older than CUDA", "update the NVIDIA driver"
        )
    if "does not match DSO version" in log:
        return Check(
            name, Verdict.FAILED, "the driver was updated while running", "restart the machine"
        )
    if missing:
        return Check(name, Verdict.FAILED, f"not loaded: {', '.join(missing)}", INSTALL_CUDA)
    # In TensorFlow 2.21 this line means that libcudart, CUDA's runtime, did not load.
    if "Could not find cuda drivers" in log or "Cannot dlopen some GPU libraries" in log:
        return Check(name, Verdict.FAILED, "CUDA's runtime or cuDNN is not loaded", INSTALL_CUDA)
    if found := re.search(r"failed call to cuInit: (.+)", log):
        return Check(
            name,
            Verdict.FAILED,
            f"CUDA does not start: {found[1].strip()}",
            "see whether nvidia-smi works; restart the machine or the container",
        )
    return Check(name, Verdict.WARNING, "TensorFlow's log names no library that failed")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"
