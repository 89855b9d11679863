"""Checks before the first launch of a new or resumed run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.backends import DEFAULT
from bench.launch.meeting import refuse_taken_port
from bench.machine import devices, environment, nvml, placement, variables
from bench.machine.loaded import CHECKOUT
from bench.schema.plan import Plan, validate_label
from bench.store.run_folder import RunFolder, read_plan
from bench.store.taken import refuse_taken
from bench.verdicts.compatibility import refuse_changed_files, refuse_lost_record, refuse_mixing
from fmnist_models import dataset
from fmnist_models.errors import UserError

RESULTS = Path("results")


@dataclass(frozen=True, slots=True)
class Opening:
    """A run's folder that is opened after the machine's lock was taken.

    Before that, nothing in it is written or cut.

    Attributes:
        path: the folder.
        open: creates the folder, or repairs the folder of a killed run.
    """

    path: Path
    open: Callable[[], RunFolder]


def new_folder_name(matrix: str, label: str | None) -> Path:
    """A folder under `results/` named by UTC time and label or matrix."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    word = re.sub(r"[^\w.-]+", "-", label or matrix).strip("-.") or "run"
    return RESULTS / f"{stamp}-{word}"


def begin(plan: Plan, output: Path | None) -> Opening:
    """Check a new run; its folder is created when the result is opened.

    Raises:
        UserError: the data or the label is wrong, Keras or its framework is missing, no case can be
            measured, or the folder already holds files.
    """
    validate_label(plan.label)
    refuse_unmeasurable(plan)
    described = environment_of(plan)
    path = output or new_folder_name(plan.matrix, plan.label)
    refuse_taken(path)
    return Opening(path, lambda: RunFolder.create(path, plan, described))


def resume(path: Path) -> tuple[Opening, Plan]:
    """Check that an unfinished run can be resumed with the same machine, software and data.

    Where the run was stopped before its environment.json was written, opening writes one.

    Raises:
        UserError: there is no run, it trains functions that were sent to it, or a fact differs
            that must match.
    """
    plan = read_plan(path)
    if plan.sent:
        raise UserError(
            f"{path} trains {plan.sent[0]}, a function that was sent to its processes and is kept "
            "nowhere: it cannot be resumed; call bench.run again with another output"
        )
    require_keras()
    _refuse_taken_port(plan)
    then, now = RunFolder(path).environment(), environment_of(plan)
    if then is not None and then.get("nodes"):
        raise UserError(
            f"{path} was measured across nodes of a cluster: go on with fleet run --resume {path}"
        )
    refuse_lost_record(path, then, len(RunFolder(path).launches()))
    if then is not None:
        refuse_mixing(path, then, now)
        refuse_changed_files(path, then, {"suite": CHECKOUT, "models": Path.cwd()})

    def reopened() -> RunFolder:
        """Open the folder; write environment.json where it is missing."""
        folder = RunFolder.resume(path)[0]
        if then is None:
            folder.write_environment(now)
        return folder

    return Opening(path, reopened), plan


def refuse_unmeasurable(plan: Plan) -> None:
    """Refuse a plan of which this machine can measure nothing.

    Raises:
        UserError: each case is refused, Keras or its framework is missing, or a port is taken.
    """
    refuse_unusable(plan)
    require_keras()
    _refuse_taken_port(plan)


def _refuse_taken_port(plan: Plan) -> None:
    if any(case.processes > 1 for case in plan.cases):
        refuse_taken_port(os.environ)


def refuse_unusable(plan: Plan) -> None:
    """Refuse a plan in which no case can be measured, because of the user's own models.

    Raises:
        UserError: each case is refused; the message has the reason of the first.
    """
    if plan.cases and all(case.id in plan.refused for case in plan.cases):
        reasons = list(dict.fromkeys(plan.refused.values()))
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise UserError(f"{reasons[0]}{more}")


def refuse_skips(plan: Plan, inventory: nvml.Inventory) -> None:
    """Refuse a run with cases that would be skipped or cannot be trained (`--require-all`).

    Raises:
        UserError: there is such a case; the message names the first one.
    """
    skips = [
        (case, plan.refused.get(case.id) or placement.skip_reason(case, inventory, plan))
        for case in plan.cases
    ]
    skips = [(case, reason) for case, reason in skips if reason]
    if skips:
        case, reason = skips[0]
        more = f" (and {len(skips) - 1} more)" if len(skips) > 1 else ""
        raise UserError(f"--require-all: {case.id} cannot run{more}: {reason}")


def require_keras() -> None:
    """Check, without importing them, that Keras and a framework behind it are installed.

    Raises:
        UserError: one is not installed or not supported, or a file would make the import fail
            (`variables.refuse_unreadable`).
    """
    variables.refuse_unreadable(os.environ)
    wanted = placement.wanted_backend()
    if reason := placement.why_missing(wanted):
        others = '; "tensorflow[and-cuda]" for an NVIDIA GPU; or jax, or torch'
        raise UserError(f"{reason}{others if wanted == DEFAULT else ''}")
    if not placement.is_there("keras"):
        raise UserError("keras is not installed in this environment: pip install keras")


def environment_of(plan: Plan) -> dict[str, Any]:
    """The contents of environment.json on this machine, for a run of `plan`."""
    digest = dataset.load(dataset.data_folder(plan.settings.data)).digest
    own = any(case.own for case in plan.cases)
    return {
        **environment.collect(
            label=plan.label,
            dataset_digest=digest,
            inventory=devices.inventory(),
            cases=plan.cases,
        ),
        # A history of the user's own models is one of their commits.
        **({"revision": environment.revision_of(Path.cwd())} if own else {}),
    }
