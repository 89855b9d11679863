"""MLPerf's description of a system: 33 fields of text, as mlperf-logging checks them.

By `mlperf_logging.system_desc_checker`, rules of MLPerf Training 4.0 and later. It allows any text,
the empty one too, in each field but `status`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from bench.backends import KNOWN
from bench.reports.exports.figures import Export, version_of
from bench.schema.case import SKLEARN_LOOP
from bench.schema.runs import MeasuredRun
from bench.store.files import Kind
from fmnist_models.errors import UserError

KIND = Kind(
    "an export of this suite in this format", b'{\n  "submitter"', b'"accelerator_on-chip_memories"'
)
FIELDS = (
    "submitter",
    "division",
    "status",
    "system_name",
    "number_of_nodes",
    "host_processors_per_node",
    "host_processor_model_name",
    "host_processor_core_count",
    "host_processor_vcpu_count",
    "host_processor_frequency",
    "host_processor_caches",
    "host_processor_interconnect",
    "host_memory_capacity",
    "host_storage_type",
    "host_storage_capacity",
    "host_networking",
    "host_networking_topology",
    "host_memory_configuration",
    "accelerators_per_node",
    "accelerator_model_name",
    "accelerator_host_interconnect",
    "accelerator_frequency",
    "accelerator_on-chip_memories",
    "accelerator_memory_configuration",
    "accelerator_memory_capacity",
    "accelerator_interconnect",
    "accelerator_interconnect_topology",
    "cooling",
    "hw_notes",
    "framework",
    "other_software_stack",
    "operating_system",
    "sw_notes",
)
# What the checker takes as `status`.
STATUSES = (
    "Available on-premise",
    "Available cloud",
    "Research, Development, or Internal (RDI)",
    "Preview",
)
_NOTES = {"hw_notes", "sw_notes"}
_NONE = "N/A"


def mlperf_system(run: MeasuredRun, given: Mapping[str, str]) -> Export:
    """The machine and software of a run as MLPerf describes a system.

    Args:
        run: the run.
        given: fields of the user's own, which replace those of the run.

    Raises:
        UserError: a field is not one of `FIELDS`, or `status` is missing or not one of `STATUSES`.
    """
    for name in given:
        if name not in FIELDS:
            close = get_close_matches(name, FIELDS, 3) or FIELDS
            raise UserError(f"--set {name}=: no such field; choose from {', '.join(close)}")
    choose = f"--set status='...': choose from {'; '.join(STATUSES)}"
    if "status" not in given:
        raise UserError(f"status: MLPerf asks for it, and the run does not say it: {choose}")
    if given["status"] not in STATUSES:
        raise UserError(f"status {given['status']!r}: {choose}")
    known = {**_host(run), **_accelerators(run), **_software(run)}
    found = {name: given.get(name, known.get(name) or "") for name in FIELDS}
    empty = [name for name, text in found.items() if not text and name not in _NOTES]
    told = f"left empty, because the run does not say them: {', '.join(empty)}"
    told += "; fill them in with --set FIELD=TEXT"
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    return Export(text, (told,) if empty else ())


def _host(run: MeasuredRun) -> dict[str, str]:
    cpu = run.environment.get("cpu") or {}
    sockets = cpu.get("sockets")
    found = {
        "system_name": run.label,
        "number_of_nodes": str(len(run.environment.get("nodes") or (None,))),
        "host_processors_per_node": str(sockets or ""),
        "host_processor_model_name": str(cpu.get("model") or ""),
        "host_processor_caches": ", ".join(
            f"{name} {_bytes(size)}" for name, size in (cpu.get("caches_bytes") or {}).items()
        ),
        "host_processor_frequency": _hertz(cpu.get("frequency_max_hz")),
        "host_memory_capacity": _bytes(run.environment.get("memory_bytes")),
    }
    # MLPerf counts the cores of one processor, and the run those of the machine.
    for name, key in (("core", "cores_physical"), ("vcpu", "cores_logical")):
        cores = cpu.get(key)
        if sockets and cores and cores % sockets == 0:
            found[f"host_processor_{name}_count"] = str(cores // sockets)
    return found


def _accelerators(run: MeasuredRun) -> dict[str, str]:
    gpus: Sequence[Mapping[str, Any]] | None = run.environment.get("gpus")
    if gpus is None:
        return {}
    if not gpus:
        kept = {"accelerators_per_node": "0"}
        return {**{name: _NONE for name in FIELDS if name.startswith("accelerator_")}, **kept}
    return {
        "accelerators_per_node": str(len(gpus)),
        "accelerator_model_name": _all(gpu.get("name") for gpu in gpus),
        "accelerator_frequency": _all(_hertz(gpu.get("sm_clock_max_hz")) for gpu in gpus),
        "accelerator_memory_capacity": _all(_bytes(gpu.get("memory_bytes")) for gpu in gpus),
    }


def _software(run: MeasuredRun) -> dict[str, str]:
    facts = run.environment
    versions, software = facts.get("versions") or {}, facts.get("software") or {}
    used = dict.fromkeys(row["backend"] for row in run.rows.values())
    frameworks = [
        f"{KNOWN[name].title} {versions[name]}"
        for name in used
        if name in KNOWN and versions.get(name)
    ]
    if versions.get("keras") and set(used) - {SKLEARN_LOOP}:
        frameworks.append(f"Keras {versions['keras']}")
    if SKLEARN_LOOP in used and versions.get("scikit-learn"):
        frameworks.append(f"scikit-learn {versions['scikit-learn']}")
    stack = {
        "Python": (facts.get("python") or {}).get("version"),
        "NumPy": versions.get("numpy"),
        "driver": facts.get("driver_version"),
        # A build for CUDA says its version on a machine without a GPU too.
        **({"CUDA": software.get("cuda_version")} if facts.get("gpus") else {}),
        **({"cuDNN": software.get("cudnn_version")} if facts.get("gpus") else {}),
    }
    system = facts.get("os") or {}
    kernel = " ".join(filter(None, (system.get("system"), system.get("kernel"))))
    return {
        "framework": ", ".join(frameworks),
        "other_software_stack": ", ".join(f"{name} {text}" for name, text in stack.items() if text),
        "operating_system": ", ".join(filter(None, (system.get("name"), kernel))),
        "sw_notes": f"read by {version_of(run)}" + (f", {run.time_utc}" if run.time_utc else ""),
    }


def _all(texts: Any) -> str:
    """The different texts, with their numbers where there are several."""
    counts = Counter(str(text) for text in texts if text)
    if len(counts) < 2:
        return next(iter(counts), "")
    return ", ".join(f"{number} x {text}" for text, number in counts.items())


def _bytes(size: int | None) -> str:
    """Bytes as text, in KiB, MiB or GiB; empty where not known."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size and size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} B" if size else ""


def _hertz(clock: float | None) -> str:
    return f"{clock / 1e6:.0f} MHz" if clock else ""
