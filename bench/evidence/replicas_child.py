"""Trains cases as one process of some replicas, for `bench.evidence.replicas`.

`python -m bench.evidence.replicas_child` reads what is asked as JSON on stdin, and writes the
weights before and after the steps, and the losses of an epoch, to the file that is named there.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bench.evidence.parity import SEED
from bench.worker.framework import Device, framework
from fmnist_models import dataset, optimizers
from fmnist_models.arrays import Arrays
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Work, read_logs
from fmnist_models.loops.framework import set_random_seed
from fmnist_models.loops.watch import layers_of
from fmnist_models.replicas import Replicas
from fmnist_models.task import task_of


class _OneEpoch:
    """The observer of one epoch; keeps its logs, and the rows that it trained."""

    def __init__(self) -> None:
        self.logs: dict[str, float] = {}

    def window_opens(self) -> None:
        """Nothing is timed."""

    def window_closes(self) -> None:
        """Nothing is timed."""

    def epoch_ends(self, logs: dict[str, float]) -> bool:
        """Keep the logs; no more is wanted."""
        self.logs = dict(logs)
        return False


def main() -> None:
    """Train what is asked; rank 0 writes the file."""
    asked = json.loads(sys.stdin.read())
    replicas = Replicas(**asked["replicas"])
    device = framework().device("cpu", "float32", replicas)
    device.configure()
    images = dataset.split(dataset.load())
    with device.replicated():
        kept = _ends(asked, images, device, replicas)
        device.wait_for_others()
    if replicas.rank == 0:
        np.savez(asked["file"], allow_pickle=False, **kept)


def _ends(
    asked: dict[str, Any], images: dataset.TrainingData, device: Device, replicas: Replicas
) -> dict[str, NDArray[Any]]:
    start, after, *_ = _trained(asked, images, device, replicas, asked["steps"])
    kept = {f"start{k}": value for k, value in enumerate(start)}
    kept |= {f"after{k}": value for k, value in enumerate(after)}
    *_, loss, judged = _trained(asked, images, device, replicas, None)
    return {**kept, "loss": np.array(loss), "val_loss": np.array(judged)}


def _trained(
    asked: dict[str, Any],
    images: dataset.TrainingData,
    device: Device,
    replicas: Replicas,
    steps: int | None,
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], float, float]:
    """(weights before, weights after, training loss, validation loss) of one epoch.

    Args:
        asked: the case.
        images: its data.
        device: the devices of the replicas.
        replicas: the replicas, as this process sees them.
        steps: steps of the epoch; None for all data, with a last batch that is smaller.
    """
    batch = asked["batch"] if steps is not None else asked["epoch_batch"]
    set_random_seed(SEED)
    task = task_of(asked["model"])
    data, validation, _ = task.data(images, batch, None)
    assert isinstance(data, Arrays)
    assert isinstance(validation, Arrays)
    for layer in layers_of(task.model):
        # What is left out is drawn by each replica.
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    optimizer = optimizers.create(asked["optimizer"])
    compile_model(task.model, optimizer, asked["loop"], task.loss, task.metrics)
    rows = data.first(asked["images"] or data.rows) if steps is None else data.first(steps * batch)
    work = Work(task.model, rows, batch, SEED, False, device.name, replicas=replicas)
    loop = LOOPS[asked["loop"]](work)
    before = _weights(task.model)
    loop.warm_up()
    told = _OneEpoch()
    loop.train(told, 1)
    judged = read_logs(
        task.model.evaluate(
            validation.x, validation.y, batch_size=2000, verbose=0, return_dict=True
        )
    )
    return before, _weights(task.model), told.logs["loss"], judged["loss"]


def _weights(model: keras.Model) -> list[NDArray[Any]]:
    found = model.trainable_variables
    return [np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in found]


if __name__ == "__main__":
    main()
