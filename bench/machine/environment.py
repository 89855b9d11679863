"""The facts of machine and software in environment.json, read without TensorFlow.

A fact that this system does not report is None. No host name, user name or path is kept.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.backends import BACKENDS, DEFAULT, KNOWN
from bench.machine import variables
from bench.machine.hardware import (
    cgroup_memory_limit_bytes,
    command_output,
    cpu_facts,
    memory_bytes,
)
from bench.machine.loaded import CHECKOUT
from bench.machine.nvml import Inventory, gpu_state
from bench.machine.placement import child_environment, default_backend
from bench.machine.redact import scrub
from bench.schema.case import Case
from bench.schema.errors import Unavailable
from bench.schema.plan import validate_label

SCHEMA_VERSION = 1
DISTRIBUTION = "fmnist-bench"
# Each fact with the names of the packages that may provide it.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "tensorflow": (
        "tensorflow",
        "tensorflow-cpu",
        "tensorflow-macos",
        "tensorflow-intel",
        "tf-nightly",
    ),
    "keras": ("keras", "keras-nightly"),
    "numpy": ("numpy",),
    "scikit-learn": ("scikit-learn",),
    "pandas": ("pandas",),
    "scipy": ("scipy",),
    "matplotlib": ("matplotlib",),
    "pytest-benchmark": ("pytest-benchmark",),
    "nvidia-cudnn": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    "nvidia-cuda-runtime": ("nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime"),
    DISTRIBUTION: (DISTRIBUTION,),
}
# The suite's own code in a checkout: a changed file elsewhere, such as a result, is no change.
_CODE = ("bench", "fmnist_models", "pyproject.toml")


def collect(
    *,
    label: str | None,
    dataset_digest: str,
    inventory: Inventory,
    software: dict[str, Any] | None = None,
    cases: Sequence[Case] = (),
) -> dict[str, Any]:
    """The whole of environment.json, as plain JSON values.

    Args:
        label: the user's name for this machine or run, kept as it is.
        dataset_digest: digest of the images that are trained on.
        inventory: the GPUs and the driver, from `bench.machine.devices.inventory`.
        software: what only a worker can know: build flags, CUDA and cuDNN versions.
        cases: the cases whose workers' variables are recorded; empty stands for one CPU case.

    Raises:
        UserError: `validate_label` refuses the label.
    """
    validate_label(label)
    facts = {
        "os": _operating_system(),
        "cpu": cpu_facts(),
        "memory_bytes": memory_bytes(),
        "cgroup_memory_limit_bytes": cgroup_memory_limit_bytes(),
        "gpus": [gpu_state(gpu) for gpu in inventory.gpus],
        "driver_version": inventory.driver_version,
        "cuda_driver_version": inventory.cuda_driver_version,
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
        },
        "versions": {
            fact: _version(names) for fact, names in {**PACKAGES, **_frameworks(cases)}.items()
        },
        "software": software or {},
        **variables_of(cases, inventory),
        "git": _git(CHECKOUT),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "label": label,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset_digest": dataset_digest,
        **scrub(facts),
    }


def _frameworks(cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
    """The packages of the frameworks that the cases name, beside TensorFlow."""
    named = {
        name for case in cases if case.backend in KNOWN for name in KNOWN[case.backend].packages
    }
    return {name: (name,) for name in sorted(named - set(PACKAGES))}


def fixed_facts(inventory: Inventory) -> dict[str, Any]:
    """The facts of `collect` that are the same in two runs on an unchanged machine."""
    facts = collect(label=None, dataset_digest="", inventory=inventory)
    cpu = {name: fact for name, fact in facts["cpu"].items() if name != "frequency_hz"}
    gpus = [{name: gpu[name] for name in ("index", "name", "uuid")} for gpu in facts["gpus"]]
    kept = (
        "os",
        "memory_bytes",
        "driver_version",
        "cuda_driver_version",
        "python",
        "versions",
        "variables",
    )
    return {"cpu": cpu, "gpus": gpus, **{name: facts[name] for name in kept}}


def _operating_system() -> dict[str, str]:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.platform()
    return {
        "name": name,
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def version_and_revision() -> str:
    """The version of the suite, with the revision where it runs from a checkout.

    The version of a commit that is no release contains the revision, as `+gREVISION`.
    """
    version = _version((DISTRIBUTION,)) or "not installed"
    git = _git(CHECKOUT)
    if git is None:
        return version
    return f"{version}, revision {git['revision'][:12]}{' with changes' if git['dirty'] else ''}"


def variables_of(
    cases: Sequence[Case], inventory: Inventory, environ: Mapping[str, str] = os.environ
) -> dict[str, dict[str, str]]:
    """`variables` and `overruled` of environment.json.

    `variables` are those that all workers of `cases` get; `overruled` are those of the user's
    `environ` that no worker gets. The number of threads that a case sets is left out of
    `variables`, because it is a fact of the case.
    """
    children, plain = [], []
    settings = {(c.device, c.threads, c.backend): None for c in cases if c.backend in BACKENDS}
    for device, threads, backend in settings or {("cpu", None, default_backend() or DEFAULT): None}:
        case = Case("relu_mlp", "adam", "fit", device, threads=threads, backend=backend)
        # A case on a missing GPU has no worker.
        with contextlib.suppress(Unavailable):
            children.append(child_environment(case, inventory, environ))
            plain.append(child_environment(replace(case, threads=None), inventory, environ))
    if not children:
        children = plain = [variables.for_worker(environ)]
    lost = variables.overruled(environ, children)
    acted = {name: v for name, v in variables.recorded(plain).items() if name not in lost}
    return {"variables": acted, "overruled": lost}


def _git(root: Path) -> dict[str, Any] | None:
    """Revision and dirty flag of `root`; None unless it is a checkout of this project.

    Without the check, this package would report the revision of another repository in which it
    is installed.
    """
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    except (OSError, KeyError, ValueError):
        return None
    if project.get("name") != DISTRIBUTION or not (root / "bench").is_dir():
        return None
    if not (root / ".git").exists():
        return None
    untracked = ("--untracked-files=normal", "--", *_CODE)
    return _commit(root, untracked, {"GIT_CEILING_DIRECTORIES": str(root.parent)})


def revision_of(root: Path) -> dict[str, Any] | None:
    """The commit of the repository in which the user's own models are; None where there is none.

    Files that Git does not track, such as results, make it no other one.
    """
    return _commit(root, ("--untracked-files=no",), {})


def _commit(
    root: Path, changes: Sequence[str], variables: Mapping[str, str]
) -> dict[str, Any] | None:
    """The commit that is checked out, with time and parents, and whether files differ from it.

    Args:
        root: a folder of the repository.
        changes: which files may differ, as words of `git status`.
        variables: of the environment of Git.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ |= {**variables, "GIT_OPTIONAL_LOCKS": "0"}
    git = ("git", "-C", str(root))
    told = command_output(*git, "show", "-s", "--format=%H %ct %P", "HEAD", environ=environ)
    differ = command_output(*git, "status", "--porcelain", *changes, environ=environ)
    if not told or differ is None:
        return None
    revision, seconds, *parents = told.split()
    return {
        "revision": revision,
        "time_utc": datetime.fromtimestamp(int(seconds), UTC).isoformat(),
        "parents": parents,
        "dirty": bool(differ),
    }
