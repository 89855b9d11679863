"""What Keras computes otherwise with TensorFlow, and that a row of several frameworks says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from support.loops import launch_images

from bench.schema.case import Case
from bench.schema.requests import LaunchRequest
from bench.worker import training
from bench.worker.framework import framework
from fmnist_models.data import as_data
from fmnist_models.loops.base import Work


def work(optimizer: Any, *, trainable: bool = True) -> Work:
    words = keras.Input((1,), dtype="int32")
    x = keras.layers.Embedding(5, 3, trainable=trainable)(words)
    model = keras.Model(words, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    model.compile(optimizer, "mse")
    rows = (np.zeros((8, 1), np.int32), np.ones((8, 2), np.float32))
    return Work(model, as_data("own", "train", rows, 8, None), 8, seed=1)


def scaled() -> Any:
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop())


@pytest.mark.parametrize(
    ("optimizer", "trainable", "said"),
    [
        (keras.optimizers.Adam, True, "Adam updates an Embedding otherwise"),
        (scaled, True, "RMSprop updates an Embedding otherwise"),
        (keras.optimizers.SGD, True, ""),
        (keras.optimizers.Adam, False, ""),
    ],
)
def test_an_embedding_is_named_with_the_optimizers_that_square(
    optimizer: Callable[[], Any], trainable: bool, said: str
) -> None:
    found = framework().apart(work(optimizer(), trainable=trainable))
    assert [text.startswith(said) for text in found] == ([True] if said else [])


def test_keras_still_squares_each_occurrence_by_itself() -> None:
    """Where this fails, Keras adds them first, as with other frameworks: leave the warning out."""
    given = work(keras.optimizers.Adam(beta_2=0.5, learning_rate=0.0))
    given.model.fit(*given.arrays.packed[:2], batch_size=8, verbose=0)
    (velocity,) = [v for v in given.model.optimizer.variables if "embedding" in v.path][1:]
    momentum = next(v for v in given.model.optimizer.variables if "embedding" in v.path)
    gradient = np.asarray(momentum[0]) / 0.1
    squared = np.asarray(velocity[0]) / 0.5
    # Eight equal gradients: their sum squared is eight times the sum of their squares.
    assert squared == pytest.approx(gradient**2 / 8, rel=1e-4)


@pytest.mark.parametrize("same_start", [False, True])
def test_a_row_beside_other_frameworks_says_so(
    monkeypatch: pytest.MonkeyPatch, same_start: bool
) -> None:
    monkeypatch.setattr(type(framework()), "apart", lambda *_: ["otherwise"])
    # This process has TensorFlow's own settings.
    monkeypatch.setattr(type(framework()), "refuse_settings", lambda *_: None)
    device = framework().device("cpu", "float32")
    request = LaunchRequest(Case("softmax", "sgd", "fit"), 0, 1, 1, 7, same_start=same_start)
    built = training.built_work(request, launch_images(), device)
    assert ("otherwise" in built.warnings) is same_start
