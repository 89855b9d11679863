"""Builds a user's own models and tells what the parent must know of them, before a run.

Only `bench.worker.serve` imports this module: it imports Keras.
"""

from __future__ import annotations

from bench.machine.hardware import memory_available_bytes
from bench.schema.launch import Better
from bench.schema.workload import WorkFacts
from fmnist_models.dataset import TrainingData
from fmnist_models.errors import UserError
from fmnist_models.task import Task, task_of
from fmnist_models.workload import Synthetic


def facts_of(name: str, images: TrainingData) -> WorkFacts:
    """What is known of one own model; the reason where it cannot be trained."""
    try:
        task = task_of(name)
        stream, samples = _rows(task, images)
    except UserError as error:
        return WorkFacts(name, reason=str(error))
    return WorkFacts(
        name,
        compiled=task.compiled,
        stream=stream,
        samples=samples,
        batch_size=task.batch_size,
        epochs=task.epochs,
        score=task.score,
        better=Better(task.better),
        images=task.images,
    )


def _rows(task: Task, images: TrainingData) -> tuple[bool, int | None]:
    """(whether the training data are a stream, their rows where they are not)."""
    if task.workload is None:
        return False, len(images.train_x)
    given = task.workload.train
    if isinstance(given, Synthetic):
        return False, given.rows
    if callable(given):
        return True, None
    # Arrays need no batch size, and the other parts may be streams, whose batches are the case's.
    return False, getattr(task.part("train", 1, memory_available_bytes()), "rows", None)
