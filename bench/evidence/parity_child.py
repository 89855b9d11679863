"""Trains a few cases with the framework that KERAS_BACKEND names, for `bench.evidence.parity`.

`python -m bench.evidence.parity_child FOLDER` reads a JSON list of [model, optimizer] pairs, steps
and whether whole epochs are trained, on stdin. It writes FOLDER/N.npz for pair N: the weights at
the start and after the steps, and the loss of an epoch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bench.evidence.parity import BATCH, SEED
from fmnist_models import dataset, optimizers
from fmnist_models.arrays import Arrays
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Work
from fmnist_models.loops.framework import set_random_seed
from fmnist_models.loops.start import the_same_weights
from fmnist_models.loops.watch import layers_of
from fmnist_models.task import task_of


class _Epoch:
    """The observer of one epoch; keeps its logs."""

    def __init__(self) -> None:
        self.logs: dict[str, float] = {}

    def window_opens(self) -> None:
        """Nothing is timed."""

    def window_closes(self) -> None:
        """Nothing is timed."""

    def epoch_ends(self, logs: dict[str, float]) -> bool:
        """Keep the logs; one epoch is enough."""
        self.logs = dict(logs)
        return False


def main() -> None:
    """Train each pair."""
    asked = json.loads(sys.stdin.read())
    folder = Path(sys.argv[1])
    images = dataset.split(dataset.load())
    for number, (model, optimizer) in enumerate(asked["pairs"]):
        start, after, _ = _trained(model, optimizer, images, asked["steps"])
        loss = _trained(model, optimizer, images, None)[2] if asked["epochs"] else np.nan
        names = {f"start{k}": value for k, value in enumerate(start)}
        names |= {f"after{k}": value for k, value in enumerate(after)}
        np.savez(folder / f"{number}.npz", allow_pickle=False, loss=loss, **names)


def _trained(
    name: str, optimizer: str, images: dataset.TrainingData, steps: int | None
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], float]:
    """(weights before, weights after, loss) of an epoch of so many steps; None for a whole one."""
    set_random_seed(SEED)
    with the_same_weights(SEED):
        task = task_of(name)
        data = task.data(images, BATCH, None)[0]
    assert isinstance(data, Arrays)
    model = task.model
    for layer in layers_of(model):
        # Each framework draws other random numbers.
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    compile_model(model, optimizers.create(optimizer), "fit", task.loss, task.metrics)
    rows = data if steps is None else data.first(steps * BATCH)
    work = Work(model, rows, BATCH, SEED, shuffle=False, class_weight=task.class_weight)
    before = _weights(model)
    loop = LOOPS["fit"](work)
    loop.warm_up()
    told = _Epoch()
    loop.train(told, 1)
    return before, _weights(model), told.logs.get("loss", float("nan"))


def _weights(model: keras.Model) -> list[NDArray[Any]]:
    found = model.trainable_variables
    return [np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in found]


if __name__ == "__main__":
    main()
