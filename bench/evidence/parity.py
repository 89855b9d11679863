"""Compares the trainings of the same case on several frameworks: their steps, and their ends."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.stats import student_interval
from bench.launch.origin import child_command
from bench.machine.devices import inventory
from bench.machine.placement import child_environment, why_missing
from bench.schema.case import Case
from fmnist_models.errors import UserError

BATCH, SEED, STEPS = 32, 7, 100
# Of the trainings whose accuracies are compared.
SEEDS, EPOCHS, ACCURACY_BATCH = 5, 5, 128
# The examples that use nothing of one framework, and whose data are arrays.
EXAMPLES = (
    ("examples/convnet.py:convnet", "adam"),
    ("examples/tabular.py:prices", "adam"),
    ("examples/tokens.py:tokens", "adam"),
    ("examples/recurrent.py:waves", "adam"),
)
Pair = tuple[str, str]


def parity_rows(
    pairs: Sequence[Pair],
    backends: Sequence[str],
    told: Callable[[str], None],
    steps: int = STEPS,
    *,
    epochs: bool = True,
) -> list[dict[str, Any]]:
    """A row for each pair of model and optimizer and each backend but the first.

    All begin with the same weights and see the same samples in the same order. `distance` is how
    far the weights of the first backend went in so many steps, as the Euclidean norm over all of
    them; `apart` is how far the other's end is from its end, over that distance.

    Args:
        pairs: (model, optimizer).
        backends: the first is compared with the others.
        told: called with a line before each backend.
        steps: steps of batch 32 after which weights are compared.
        epochs: train whole epochs too, and compare their losses.

    Raises:
        UserError: a backend is missing, or its training failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        ends = {name: _ends(name, pairs, Path(folder), told, steps, epochs) for name in backends}
    first, *others = backends
    rows = []
    for number, (model, optimizer) in enumerate(pairs):
        start, reference, loss = ends[first][number]
        distance = norm(reference, start)
        for name in others:
            its_start, found, its_loss = ends[name][number]
            rows.append(
                {
                    "model": model,
                    "optimizer": optimizer,
                    "backend": name,
                    "reference": first,
                    "steps": steps,
                    "start_apart": norm(its_start, start),
                    "distance": distance,
                    "apart": norm(found, reference) / distance,
                    "epoch_loss": loss if epochs else "",
                    "loss_apart": abs(its_loss / loss - 1) if epochs else "",
                }
            )
    return rows


def accuracy_rows(
    pairs: Sequence[Pair],
    backends: Sequence[str],
    told: Callable[[str], None],
    seeds: int = SEEDS,
    epochs: int = EPOCHS,
) -> list[dict[str, Any]]:
    """A row for each pair and each backend but the first: the accuracies that trainings end with.

    A seed gives the same weights at the start on each backend; the order of the samples and what
    dropout leaves out are each framework's own, as in `fit`. `difference` is the mean over seeds of
    the accuracy on the test images, less that of the first backend; `lower` and `upper` are its 95%
    interval of Student's t over seeds.

    Args:
        pairs: (model, optimizer); models that classify the embedded images.
        backends: the first is compared with the others.
        told: called with a line before each backend.
        seeds: trainings of each pair; at least two.
        epochs: epochs of each, with batches of 128.

    Raises:
        UserError: a backend is missing, or its training failed.
    """
    asked = {"seeds": [SEED + number for number in range(seeds)], "epochs": epochs}
    with tempfile.TemporaryDirectory() as folder:
        ends = {
            name: [
                [float(value) for value in kept["accuracies"]]
                for kept in _kept(name, pairs, Path(folder), told, asked)
            ]
            for name in backends
        }
    first, *others = backends
    return [
        {
            "model": model,
            "optimizer": optimizer,
            "backend": name,
            "reference": first,
            "seeds": seeds,
            "epochs": epochs,
            **_difference(ends[name][number], ends[first][number]),
        }
        for number, (model, optimizer) in enumerate(pairs)
        for name in others
    ]


def _difference(found: Sequence[float], reference: Sequence[float]) -> dict[str, float | None]:
    """The mean accuracies over seeds, and the mean of their differences with its interval."""
    differences = [a - b for a, b in zip(found, reference, strict=True)]
    lower, upper = student_interval(differences) or (None, None)
    return {
        "accuracy": fmean(found),
        "reference_accuracy": fmean(reference),
        "difference": fmean(differences),
        "lower": lower,
        "upper": upper,
    }


_End = tuple[list[NDArray[Any]], list[NDArray[Any]], float]


def _ends(
    backend: str,
    pairs: Sequence[Pair],
    folder: Path,
    told: Callable[[str], None],
    steps: int,
    epochs: bool,
) -> list[_End]:
    """(weights at the start, after the steps, loss of an epoch) of each pair on a backend."""
    found = []
    for kept in _kept(backend, pairs, folder, told, {"steps": steps, "loss": epochs}):
        count = sum(name.startswith("start") for name in kept)
        start, after = ([kept[f"{when}{k}"] for k in range(count)] for when in ("start", "after"))
        found.append((start, after, float(kept["loss"])))
    return found


def _kept(
    backend: str,
    pairs: Sequence[Pair],
    folder: Path,
    told: Callable[[str], None],
    asked: Mapping[str, Any],
) -> list[dict[str, NDArray[Any]]]:
    """The arrays that a process with a backend kept of each pair.

    Raises:
        UserError: the backend is missing, or its training failed.
    """
    if reason := why_missing(backend):
        raise UserError(reason)
    told(f"{backend}: {len(pairs)} pairs")
    place = folder / backend
    place.mkdir()
    case = Case("softmax", "sgd", "fit", backend=backend)
    done = subprocess.run(
        [*child_command("bench.evidence.parity_child"), str(place)],
        input=json.dumps({"pairs": pairs, **asked}),
        env=child_environment(case, inventory()),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UserError(f"{backend} ended with code {done.returncode}: {last}")
    found = []
    for number in range(len(pairs)):
        with np.load(place / f"{number}.npz") as kept:
            found.append(dict(kept))
    return found


def norm(some: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]]) -> float:
    """The Euclidean norm of the difference of two lists of arrays, over all of them."""
    return float(
        np.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in zip(some, others, strict=True)))
    )
