"""Work for the tests that train with the framework that KERAS_BACKEND names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import keras
import numpy as np

from bench.schema.case import Case
from bench.schema.requests import LaunchRequest
from fmnist_models import dataset
from fmnist_models.architectures import NETWORKS
from fmnist_models.data import as_data
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Loop, Work
from support.loops import BATCH, images


class Batches(keras.utils.PyDataset):
    """Three batches, the last one smaller."""

    def __init__(self, batch_size: int, width: int = 784) -> None:
        super().__init__()
        self._sizes = [batch_size, batch_size, batch_size // 2]
        self._width = width

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, number: int) -> Any:
        x = np.ones((self._sizes[number], self._width), np.float32)
        return x, np.zeros(len(x), np.int32)


def streamed(open_stream: Callable[[int], Any]) -> Loop:
    """`fit` of the softmax layer on a stream."""
    model = NETWORKS["softmax"].builder()
    compile_model(model, keras.optimizers.SGD(0.1), "fit")
    data = as_data("own", "train", open_stream, 32, None)
    return LOOPS["fit"](Work(model, data, 32, seed=5))


def own(build: Callable[[], Any], loop: str, samples: int | None = None) -> Loop:
    """A loop on a model with a step of its own."""
    keras.utils.set_random_seed(3)
    model = build()
    model(np.zeros((1, 28, 28), np.float32))
    compile_model(model, keras.optimizers.SGD(0.1), loop)
    pixels, y = images()
    rows = (dataset.scaled(pixels[:samples]), y[:samples])
    data = as_data("own", "train", rows, BATCH, None)
    return LOOPS[loop](Work(model, data, BATCH, seed=5, shuffle=False))


def request(loop: str, precision: str = "float32", model: str = "relu_mlp") -> LaunchRequest:
    """A launch of two epochs."""
    backend = keras.backend.backend()
    case = Case(model, "adam", loop, batch_size=64, precision=precision, backend=backend)
    return LaunchRequest(case, 0, 1, 2, 7)


@cache
def few_images() -> dataset.TrainingData:
    """500 images to train on and validate with, and 50 to test."""
    data = dataset.load()
    return dataset.split(
        replace(
            data,
            train_images=data.train_images[:500],
            train_labels=data.train_labels[:500],
            test_images=data.test_images[:50],
            test_labels=data.test_labels[:50],
        )
    )
