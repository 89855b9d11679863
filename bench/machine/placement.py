"""The environment that restricts a worker to one device, and why a case cannot run here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from bench.backends import DEFAULT, KNOWN
from bench.backends.tensorflow import CUDA_DRIVER_VARIABLE
from bench.machine import variables
from bench.machine.cuda import TF32_SINCE, refuse_tf32
from bench.machine.devices import gpus_of
from bench.machine.nvml import Inventory
from bench.schema.case import Case
from bench.schema.errors import Unavailable
from bench.schema.plan import Plan

_NOTHING = "-1"


def why_missing(backend: str) -> str | None:
    """Why a backend cannot be used here, with the remedy; None where it can.

    It is not installed, or only in part, or it has a version that the suite does not support.
    """
    known = KNOWN.get(backend)
    if known is None:
        return None
    missing = [name for name in known.packages if not is_there(name)]
    if not missing:
        return known.unsupported(_version)
    here = f"{missing[0]} is not installed in this environment"
    if len(missing) < len(known.packages):
        there = next(name for name in known.packages if name not in missing)
        here += f", and {there}, which is, needs it"
    return f"{here}: {known.install}"


def _why_not_in(case: Case) -> str | None:
    """Why the installed versions cannot train in the case's loop, with the remedy."""
    known = KNOWN.get(case.backend)
    return None if known is None else known.unsupported(_version, case.loop)


def is_there(package: str) -> bool:
    """Whether a package is installed; a folder of its name, as a removal may leave, is not one."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


@cache
def _version(package: str) -> str | None:
    """The version of an installed package, read once: a plan asks for each of its cases."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def default_backend() -> str | None:
    """The first backend that can be used here; None where none can."""
    return next((name for name in KNOWN if why_missing(name) is None), None)


def wanted_backend() -> str:
    """The default backend; where none can be used, the first that is there in part, or TensorFlow.

    A framework that is there in part, or in a version that is not supported, is what the user
    wants: the remedies are about it.
    """
    there = (name for name, known in KNOWN.items() if any(map(is_there, known.packages)))
    return default_backend() or next(there, DEFAULT)


def skip_reason(
    case: Case, machine: Inventory, plan: Plan | None = None, *, elsewhere: bool = False
) -> str | None:
    """Why `case` cannot be measured here; None where it can.

    Args:
        case: the case.
        machine: this machine.
        plan: the plan that it is of; None where its settings leave no case out.
        elsewhere: another interpreter measures it, which may have other frameworks.
    """
    if plan is not None and (reason := plan.skip_reason(case)):
        return reason
    known = KNOWN.get(case.backend)
    if known is not None and (reason := known.refuses(case)):
        return reason
    if not elsewhere and (reason := why_missing(case.backend) or _why_not_in(case)):
        return reason
    try:
        gpus = gpus_of(case, machine)
        if case.precision == "tf32":
            for gpu in gpus:
                refuse_tf32(gpu.name, gpu.compute_capability)
    except Unavailable as reason:
        return str(reason)
    if case.precision == "tf32" and not gpus:
        return f"tf32 changes nothing on a CPU: GPUs of compute capability {TF32_SINCE} have it"
    return None


def child_environment(
    case: Case, machine: Inventory, environ: Mapping[str, str] = os.environ, rank: int = 0
) -> dict[str, str]:
    """The whole environment of the process that measures `case`, set before it starts.

    Variables that the user set (TF_*, XLA_FLAGS, ...) pass, unless they would change the case or
    break a launch: `bench.machine.variables.RULES`. Those of the case are added to them.

    Raises:
        Unavailable: this machine does not have the case's GPU.
    """
    return variables.for_worker(environ) | variables_of_case(case, machine, rank)


def variables_of_case(case: Case, machine: Inventory, rank: int = 0) -> dict[str, str]:
    """The variables that a case sets in its process, whatever the user's are.

    A GPU is named by its UUID, because NVML and CUDA count differently. A CPU case sees no GPU,
    so it trains the same program everywhere. One process of several replicas sees the GPUs of all,
    and each of several processes, by its `rank`, the GPU of its own.

    `threads` limits the pool of the framework that runs the parts of one operation.

    Raises:
        Unavailable: this machine does not have the case's GPU.
    """
    gpus = gpus_of(case, machine)
    seen = gpus[rank : rank + 1] if case.processes > 1 else gpus
    child = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in seen) or _NOTHING}
    # A worker of `logistic` imports Keras too, with whatever framework is there.
    backend = KNOWN.get(case.backend) or KNOWN[default_backend() or DEFAULT]
    child |= {"KERAS_BACKEND": backend.name, **backend.variables(bool(gpus))}
    if case.threads is not None:
        child["OMP_NUM_THREADS"] = str(case.threads)
        child |= backend.threads(case.threads)
    if not gpus:
        child |= {"HIP_VISIBLE_DEVICES": _NOTHING, "ROCR_VISIBLE_DEVICES": _NOTHING}
        return child
    if machine.cuda_driver_version:
        child[CUDA_DRIVER_VARIABLE] = machine.cuda_driver_version
    return child
