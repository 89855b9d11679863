"""What must hold before the first launch: a run begun, a run resumed, and why neither may be."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import devices, environment
from bench.case import Case
from bench.errors import UserError
from bench.store import Plan, RunFolder
from fmnist_models import dataset

RESULTS = Path("results")
# One run must not mix these.
_MUST_MATCH: Mapping[str, tuple[str, ...]] = {
    "data of SHA-256": ("dataset_digest",),
    "the CPU": ("cpu", "model"),
    "the driver": ("driver_version",),
    "TensorFlow": ("versions", "tensorflow"),
    "Keras": ("versions", "keras"),
}


def new_folder_name(matrix: str, label: str | None) -> Path:
    """A folder under `results/` named by UTC time and label or matrix."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    word = re.sub(r"[^\w.-]+", "-", label or matrix).strip("-.") or "run"
    return RESULTS / f"{stamp}-{word}"


def begin(plan: Plan, output: Path | None) -> RunFolder:
    """A new folder for `plan`, with its environment.json.

    Raises:
        UserError: the data or the label is wrong, TensorFlow is missing, or the folder
            cannot be written.
    """
    environment.validate_label(plan.label)
    require_tensorflow()
    described = environment_of(plan)
    folder = RunFolder.create(output or new_folder_name(plan.matrix, plan.label), plan)
    folder.write_environment(described)
    return folder


def resume(path: Path) -> tuple[RunFolder, Plan]:
    """An unfinished run, once it is sure that this is the same machine, data and software.

    Raises:
        UserError: no run is there, or what must match does not.
    """
    folder, plan = RunFolder.resume(path)
    require_tensorflow()
    refuse_mixing(path, folder.environment() or {}, environment_of(plan))
    return folder, plan


def refuse_mixing(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """A run must not go on with another machine, data or software.

    Args:
        path: the run's folder.
        then: what its environment.json holds.
        now: what it would hold.

    Raises:
        UserError: something differs; it is named.
    """
    for what, keys in _MUST_MATCH.items():
        before, after = dig(then, keys), dig(now, keys)
        if before != after:
            raise UserError(
                f"{path} began with {what} {before!r}, now it is {after!r}: start a new run, "
                "for one run must not mix them"
            )


def refuse_skips(cases: Sequence[Case], inventory: devices.Inventory) -> None:
    """What `--require-all` asks for.

    Raises:
        UserError: a case would be skipped; the first one is named.
    """
    skips = [(case, devices.skip_reason(case, inventory)) for case in cases]
    skips = [(case, reason) for case, reason in skips if reason]
    if skips:
        case, reason = skips[0]
        more = f" (and {len(skips) - 1} more)" if len(skips) > 1 else ""
        raise UserError(f"--require-all: {case.id} cannot run{more}: {reason}")


def require_tensorflow() -> None:
    """TensorFlow is found, without being imported.

    Raises:
        UserError: it or Keras is not installed.
    """
    for package in ("tensorflow", "keras"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{package} is not installed in this environment: pip install tensorflow, or "
                '"tensorflow[and-cuda]" for an NVIDIA GPU'
            )


def environment_of(plan: Plan) -> dict[str, Any]:
    """What environment.json holds of this machine, for a run of `plan`."""
    digest = dataset.load(dataset.data_folder(plan.settings.data)).digest
    return environment.collect(
        label=plan.label, dataset_digest=digest, inventory=devices.inventory()
    )


def dig(tree: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """What environment.json holds below `keys`; None where it holds nothing."""
    for key in keys:
        tree = tree.get(key, {}) if isinstance(tree, Mapping) else {}
    return tree or None
