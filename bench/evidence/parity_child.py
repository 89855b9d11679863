"""Trains a few cases with the framework that KERAS_BACKEND names, for `bench.evidence.parity`.

`python -m bench.evidence.parity_child FOLDER` reads what is asked as JSON on stdin, and writes
FOLDER/N.npz for pair N of model and optimizer: the weights at the start and after `steps`, and with
`loss` that of an epoch; or, with `seeds` and `epochs`, the accuracy that each seed ends with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bench.evidence.parity import ACCURACY_BATCH, BATCH, SEED
from fmnist_models import dataset, optimizers
from fmnist_models.arrays import Arrays
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Work, read_logs
from fmnist_models.loops.framework import set_random_seed
from fmnist_models.loops.start import the_same_weights
from fmnist_models.loops.watch import layers_of
from fmnist_models.task import Task, task_of


class _Epochs:
    """The observer of a few epochs; keeps the logs of the last."""

    def __init__(self, epochs: int) -> None:
        self.logs: dict[str, float] = {}
        self._left = epochs

    def window_opens(self) -> None:
        """Nothing is timed."""

    def window_closes(self) -> None:
        """Nothing is timed."""

    def epoch_ends(self, logs: dict[str, float]) -> bool:
        """Keep the logs; True while more epochs are wanted."""
        self.logs = dict(logs)
        self._left -= 1
        return self._left > 0


def main() -> None:
    """Train each pair."""
    asked = json.loads(sys.stdin.read())
    folder = Path(sys.argv[1])
    images = dataset.split(dataset.load())
    for number, (model, optimizer) in enumerate(asked["pairs"]):
        if "seeds" in asked:
            kept = {
                "accuracies": np.array(
                    [
                        _accuracy(model, optimizer, images, s, asked["epochs"])
                        for s in asked["seeds"]
                    ]
                )
            }
        else:
            kept = _ends(model, optimizer, images, asked["steps"], loss=asked["loss"])
        np.savez(folder / f"{number}.npz", allow_pickle=False, **kept)


def _ends(
    name: str, optimizer: str, images: dataset.TrainingData, steps: int, *, loss: bool
) -> dict[str, NDArray[Any]]:
    """The weights before and after so many steps; with `loss`, that of a whole epoch too."""
    start, after, _ = _trained(name, optimizer, images, steps)
    whole = _trained(name, optimizer, images, None)[2] if loss else np.nan
    kept = {f"start{k}": value for k, value in enumerate(start)}
    kept |= {f"after{k}": value for k, value in enumerate(after)}
    return {**kept, "loss": np.array(whole)}


def _trained(
    name: str, optimizer: str, images: dataset.TrainingData, steps: int | None
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], float]:
    """(weights before, weights after, loss) of an epoch of so many steps; None for a whole one."""
    task, data, _ = _made(name, optimizer, images, BATCH, SEED)
    for layer in layers_of(task.model):
        # Each framework draws other random numbers.
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    rows = data if steps is None else data.first(steps * BATCH)
    work = Work(task.model, rows, BATCH, SEED, shuffle=False, class_weight=task.class_weight)
    before = _weights(task.model)
    told = _train(work, 1)
    return before, _weights(task.model), told.logs.get("loss", float("nan"))


def _accuracy(
    name: str, optimizer: str, images: dataset.TrainingData, seed: int, epochs: int
) -> float:
    """The accuracy on the test images after so many epochs."""
    task, data, test = _made(name, optimizer, images, ACCURACY_BATCH, seed)
    _train(Work(task.model, data, ACCURACY_BATCH, seed, class_weight=task.class_weight), epochs)
    logs = task.model.evaluate(test.x, test.y, batch_size=2000, verbose=0, return_dict=True)
    return read_logs(logs)["accuracy"]


def _made(
    name: str, optimizer: str, images: dataset.TrainingData, batch: int, seed: int
) -> tuple[Task, Arrays, Any]:
    """A compiled model from the weights of a seed, its training data and its test data."""
    set_random_seed(seed)
    with the_same_weights(seed):
        task = task_of(name)
        data, _, test = task.data(images, batch, None)
    assert isinstance(data, Arrays)
    compile_model(task.model, optimizers.create(optimizer), "fit", task.loss, task.metrics)
    return task, data, test


def _train(work: Work, epochs: int) -> _Epochs:
    """Train so many epochs with the suite's `fit`."""
    loop = LOOPS["fit"](work)
    loop.warm_up()
    told = _Epochs(epochs)
    loop.train(told, epochs)
    return told


def _weights(model: keras.Model) -> list[NDArray[Any]]:
    found = model.trainable_variables
    return [np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in found]


if __name__ == "__main__":
    main()
