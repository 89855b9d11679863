"""Compares trainings of several replicas with those of one: both must come to the same end."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.backends import KNOWN
from bench.evidence.parity import norm
from bench.launch.meeting import meeting_point
from bench.launch.origin import child_command
from bench.machine.devices import inventory
from bench.machine.placement import child_environment, skip_reason, why_missing
from bench.schema.case import Case
from fmnist_models.errors import UserError
from fmnist_models.replicas import Replicas

BATCH, EPOCH_BATCH, STEPS = 128, 512, 100
REPLICAS: tuple[int, ...] = (2, 4)
PAIRS: tuple[tuple[str, str], ...] = (("relu_mlp", "adam"), ("sigmoid_mlp", "sgd_nesterov"))
LOOPS = ("fit", "compiled")
_LIMIT_S = 600.0


def forms(backends: Sequence[str], loops: Sequence[str], replicas: Sequence[int]) -> Iterator[Case]:
    """The cases of one and of several replicas in each way that a backend has, one first.

    Those that a backend does not train on any machine are left out.
    """
    machine = inventory()
    for backend in backends:
        for loop in loops:
            alone = Case("relu_mlp", "adam", loop, "cpu", BATCH, backend=backend)
            spread = [
                replace(alone, replicas=number, processes=number if spread == "each" else 1)
                for spread in KNOWN[backend].spreads
                for number in replicas
            ]
            trained = [case for case in spread if skip_reason(case, machine) is None]
            if trained:
                yield alone
                yield from trained


def replica_rows(
    backends: Sequence[str],
    told: Callable[[str], None],
    pairs: Sequence[tuple[str, str]] = PAIRS,
    replicas: Sequence[int] = REPLICAS,
    steps: int = STEPS,
    images: int | None = None,
) -> list[dict[str, Any]]:
    """A row for each pair, backend, loop, number of replicas and way to drive them.

    `distance` is how far one replica's weights went in so many steps of batch 128, as the Euclidean
    norm; `apart` is how far the end of several is from its end, over that distance. `loss_apart`
    and `val_loss_apart` compare the losses of an epoch with batch 512, whose last batch has 384
    images, and of the validation after it.

    Args:
        backends: frameworks; those that are missing raise.
        told: called with a line for each training.
        pairs: (model, optimizer).
        replicas: numbers of replicas beside one.
        steps: steps after which weights are compared.
        images: training images of an epoch; None for all.

    Raises:
        UserError: a backend is missing, or a training failed.
    """
    for backend in backends:
        if reason := why_missing(backend):
            raise UserError(reason)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model, optimizer in pairs:
            for case in forms(backends, LOOPS, replicas):
                case = replace(case, model=model, optimizer=optimizer)
                told(case.id)
                ends = _ends(case, Path(folder), {"steps": steps, "images": images})
                if case.replicas == 1:
                    alone = ends
                else:
                    rows.append(_row(case, alone, ends, steps))
    return rows


_End = dict[str, NDArray[Any]]


def _row(case: Case, alone: _End, ends: _End, steps: int) -> dict[str, Any]:
    start, reference, found = (
        [kept[f"{when}{k}"] for k in range(sum(name.startswith(when) for name in kept))]
        for kept, when in ((alone, "start"), (alone, "after"), (ends, "after"))
    )
    begun = [ends[f"start{k}"] for k in range(len(start))]
    distance = norm(reference, start)
    losses = {name: float(alone[name]) for name in ("loss", "val_loss")}
    return {
        "model": case.model,
        "optimizer": case.optimizer,
        "backend": case.backend,
        "loop": case.loop,
        "replicas": case.replicas,
        "processes": case.processes,
        "steps": steps,
        "start_apart": norm(begun, start),
        "distance": distance,
        "apart": norm(found, reference) / distance,
        "epoch_loss": losses["loss"],
        "loss_apart": abs(float(ends["loss"]) / losses["loss"] - 1),
        "val_loss_apart": abs(float(ends["val_loss"]) / losses["val_loss"] - 1),
    }


def _ends(case: Case, folder: Path, asked: Mapping[str, Any]) -> _End:
    """What the processes of a case kept of the training that is asked for.

    Raises:
        UserError: one of them failed; the others are ended.
    """
    file = folder / f"{case.file_name}.npz"
    asked = {
        "model": case.model,
        "optimizer": case.optimizer,
        "loop": case.loop,
        "batch": BATCH,
        "epoch_batch": EPOCH_BATCH,
        "file": str(file),
        **asked,
    }
    with meeting_point(os.environ) as meeting:
        _train(case, folder, asked, meeting if case.processes > 1 else "")
    with np.load(file) as kept:
        return dict(kept)


def _train(case: Case, folder: Path, asked: Mapping[str, Any], meeting: str) -> None:
    """Train a case in its processes, which meet at `meeting`, and wait for their ends.

    Raises:
        UserError: one of them failed; the others are ended.
    """
    machine, processes = inventory(), []
    try:
        for rank in range(case.processes):
            replicas = Replicas(case.replicas, case.processes, rank, meeting)
            log = folder / f"{case.file_name}-{rank}.txt"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    child_command("bench.evidence.replicas_child"),
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=child_environment(case, machine, rank=rank),
                )
            processes.append((process, log))
            assert process.stdin is not None
            with process.stdin as requests:
                requests.write(json.dumps({**asked, "replicas": asdict(replicas)}).encode())
        for rank, (process, log) in enumerate(processes):
            if code := process.wait(_LIMIT_S):
                lines = log.read_text("utf-8", "replace").strip().splitlines()
                last = lines[-1] if lines else "it printed nothing"
                raise UserError(f"{case.id}: rank {rank} ended with code {code}: {last}")
    finally:
        for process, _ in processes:
            process.kill()
            process.wait()
