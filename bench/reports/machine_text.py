"""The title of a picture, and a machine and its software in two lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.schema.case import MODELS
from bench.schema.cells import counted


def title_of(models: Iterable[str], label: str) -> str:
    """The title of a picture; it names the data where all models are the documented ones."""
    what = "Training on Fashion-MNIST" if set(models) <= set(MODELS) else "Training"
    return f"{what}: {label}" if label else what


def machine_lines(environment: Mapping[str, Any], device_names: Sequence[str]) -> list[str]:
    """Two lines of text: the machine, and the software with date and revision.

    Facts that `environment` does not have are left out; `device_names` replace a missing machine.
    """
    cpu = _part(environment, "cpu")
    gpus = Counter(str(gpu.get("name") or "GPU") for gpu in environment.get("gpus") or ())
    machine = [cpu.get("model"), _cores(cpu)]
    machine += [
        f"{count} \N{MULTIPLICATION SIGN} {name}" if count > 1 else name
        for name, count in gpus.items()
    ]
    versions = dict(_part(environment, "versions"))
    versions["python"] = _part(environment, "python").get("version")
    known = {
        "tensorflow": "TensorFlow",
        "jax": "JAX",
        "torch": "PyTorch",
        "keras": "Keras",
        "python": "Python",
    }
    software = [f"{known[name]} {versions[name]}" for name in known if versions.get(name)]
    if gpus and environment.get("driver_version"):
        software.append(f"driver {environment['driver_version']}")
    git = _part(environment, "git")
    if git.get("revision"):
        software.append(
            f"revision {git['revision'][:9]}{' with changes' if git.get('dirty') else ''}"
        )
    lines = [
        [str(part) for part in machine if part] or list(dict.fromkeys(filter(None, device_names))),
        [*software, str(environment.get("time_utc") or "")[:10]],
    ]
    return [" · ".join(filter(None, parts)) for parts in lines]


def _cores(cpu: Mapping[str, Any]) -> str:
    parts = []
    for key, word in (("cores_physical", "core"), ("cores_logical", "thread")):
        if cpu.get(key):
            parts.append(counted(cpu[key], word))
    allowed = cpu.get("affinity") or ()
    if 0 < len(allowed) < (cpu.get("cores_logical") or 0):
        parts.append(f"{len(allowed)} of them allowed")
    if cpu.get("cgroup_quota_cpus"):
        parts.append(f"quota {cpu['cgroup_quota_cpus']:g}")
    return ", ".join(parts)


def _part(environment: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = environment.get(name)
    return value if isinstance(value, Mapping) else {}
