"""Loops on a few images, and what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_models import dataset

if TYPE_CHECKING:
    from fmnist_models.loops.base import Loop, Work

# Four full batches and a partial one, of real images: with fewer samples or noise for
# images, most gradients are rounding and RMSprop gives each of them its full step.
SAMPLES = 1100
BATCH = 256
EPOCHS = 2


def clock_of(rank: int) -> Any:
    """A module `time` of a rank: what is read twice took a second, and of later ranks a quarter."""
    ticks = count()
    return SimpleNamespace(perf_counter=lambda: next(ticks) * (0.25 if rank else 1.0))


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self, epochs: int = EPOCHS) -> None:
        self.epochs = epochs
        self.events: list[str] = []
        self.logs: list[dict[str, float]] = []

    def window_opens(self) -> None:
        self.events.append("open")

    def window_closes(self) -> None:
        self.events.append("close")

    def epoch_ends(self, logs: Mapping[str, float]) -> bool:
        self.events.append("end")
        self.logs.append(dict(logs))
        return len(self.logs) < self.epochs


def penalized() -> Any:
    """A user's model: an L2 penalty, Dropout that drops nothing, BatchNormalization.

    Its activation is smooth: behind the kink of a ReLU, BatchNormalization makes 16 bits of
    rounding into other weights within a few steps, whatever drives the steps.
    """
    import keras

    return keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.0),
            keras.layers.Dense(10, "softmax"),
        ]
    )


@cache
def images() -> tuple[NDArray[Any], NDArray[Any]]:
    data = dataset.load()
    return data.train_images[:SAMPLES], data.train_labels[:SAMPLES].astype(np.int32)


@cache
def launch_images() -> dataset.TrainingData:
    """A few images for launches of cases that train on other data."""
    data = dataset.load()
    few = replace(
        data,
        train_images=data.train_images[:125],
        train_labels=data.train_labels[:125],
        test_images=data.test_images[:50],
        test_labels=data.test_labels[:50],
    )
    return dataset.split(few)


def work(model: Any, batch_size: int = BATCH, *, raw: bool = True, **more: Any) -> Work:
    """The first images for `model`; with `raw`, as bytes too."""
    from fmnist_models.arrays import Arrays
    from fmnist_models.loops.base import Work

    pixels, y = images()
    pixels = pixels.reshape(SAMPLES, *model.input_shape[1:])
    x = dataset.scaled(pixels)
    return Work(model, Arrays(x, y, pixels=pixels if raw else None), batch_size, **more)


def trained(
    loop: str,
    build: Callable[[], Any],
    optimizer: str,
    precision: str = "float32",
    *,
    warm: bool = True,
    shuffle: bool = False,
    batch: int = BATCH,
    raw: bool = True,
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], Recorder, Any, Loop]:
    """Train a fresh model from fixed weights; returns weights before and after, and logs."""
    import keras

    from fmnist_models import optimizers
    from fmnist_models.loops import LOOPS, compile_model

    keras.config.set_dtype_policy(precision)
    try:
        keras.utils.set_random_seed(3)
        model = build()
        compile_model(model, optimizers.create(optimizer), loop)
        driver = LOOPS[loop](work(model, batch, raw=raw, seed=5, shuffle=shuffle))
        before = [np.array(w, dtype=np.float64) for w in model.get_weights()]
        if warm:
            driver.warm_up()
        recorder = Recorder()
        driver.train(recorder, EPOCHS)
        after = [np.array(w, dtype=np.float64) for w in model.get_weights()]
        return before, after, recorder, model, driver
    finally:
        keras.config.set_dtype_policy("float32")


def distance(some: Iterable[NDArray[Any]], others: Iterable[NDArray[Any]]) -> float:
    return np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(some, others, strict=True)))
