"""Digests are equal for the same work made again, and differ where the work differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from bench.evidence import burn, sleepy
from bench.evidence.gpu import products
from bench.worker.digests import digest_of_data, digest_of_model
from fmnist_models.arrays import Arrays
from fmnist_models.task import Task


def digest(model: Any, **more: Any) -> str:
    return digest_of_model(Task("mine:f", model, compiled=False, **more))


def wired(*, skips: bool) -> Any:
    given = keras.Input((6,))
    one = layers.Dense(6)(given)
    two = layers.Dense(6)(one)
    joined = layers.Add()([one, two] if skips else [two, two])
    return keras.Model(given, layers.Dense(3)(joined))


def with_operation(operation: Any) -> Any:
    given = keras.Input((6,))
    return keras.Model(given, layers.Dense(3)(operation(given)))


def wrapped() -> Any:
    given = keras.Input((4, 6))
    return keras.Model(given, layers.TimeDistributed(wired(skips=True))(given))


def named() -> Any:
    given = {name: keras.Input((6,), name=name) for name in "ab"}
    hidden = layers.Subtract()([given["a"], given["b"]])
    return keras.Model(given, {"kind": layers.Dense(3)(hidden), "size": layers.Dense(1)(hidden)})


class Untold(keras.layers.Layer):
    """A layer that Keras cannot configure, with a connection that only its calls tell."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = layers.Dense(size)

    def call(self, one: Any, other: Any) -> Any:
        return self.inner(one) - other


def untold(*, turned: bool) -> Any:
    given = [keras.Input((6,)), keras.Input((6,))]
    return keras.Model(given, Untold(6)(*(reversed(given) if turned else given)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: wired(skips=True),
        lambda: with_operation(keras.ops.relu),
        wrapped,
        named,
        lambda: untold(turned=True),
    ],
)
def test_the_same_function_gives_the_same_digest_again(build: Any) -> None:
    """Keras counts the names of layers up in a process."""
    assert digest(build()) == digest(build())


def test_the_connections_of_layers_are_part_of_it() -> None:
    assert digest(wired(skips=True)) != digest(wired(skips=False))
    assert digest(untold(turned=True)) != digest(untold(turned=False))
    assert digest(with_operation(keras.ops.relu)) != digest(with_operation(keras.ops.tanh))


def test_a_layers_own_number_of_layers_is_part_of_it() -> None:
    class Deep(keras.layers.Layer):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.depth = depth

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "layers": self.depth}

    one, other = (keras.Sequential([keras.Input((6,)), Deep(count)]) for count in (2, 3))
    assert digest(one) != digest(other)


def told_by(settings: dict[str, Any]) -> str:
    """The digest of a model whose layer has these settings, as some version of Keras tells them."""

    class Norm(keras.layers.Layer):
        def get_config(self) -> dict[str, Any]:
            return settings

    return digest(keras.Sequential([keras.Input((6,)), Norm()]))


def test_a_later_version_of_keras_knows_more_settings_of_the_same_model() -> None:
    """Keras 3.15 tells each of these of a model that 3.5 builds alike."""
    initializer = {"module": "keras.initializers", "class_name": "Orthogonal", "config": {}}
    earlier = {
        "momentum": 0.9,
        "kernel": {**initializer, "class_name": "OrthogonalInitializer"},
    }
    later = {
        "momentum": 0.9,
        "kernel": {**initializer, "config": {"input_axes": None}},
        "quantization_config": None,
        "renorm": False,
        "renorm_momentum": 0.99,
    }
    assert told_by(earlier) == told_by(later)
    others = [
        {**later, "renorm": True},
        {**later, "renorm": True, "renorm_momentum": 0.9},
        {**later, "momentum": 0.99},
        {**later, "kernel": {**initializer, "class_name": "Identity"}},
        {**later, "quantization_config": "int8"},
    ]
    assert len({told_by(settings) for settings in [later, *others]}) == 6


def test_an_argument_of_a_call_that_is_none_is_the_same_as_no_argument() -> None:
    def attended(**more: Any) -> str:
        given = keras.Input((4, 6))
        attention = layers.MultiHeadAttention(2, 3)
        return digest(keras.Model(given, attention(given, given, **more)))

    assert attended() == attended(query_mask=None)
    assert attended() != attended(use_causal_mask=True)


def test_callbacks_are_told_by_class_and_those_of_keras_by_their_numbers() -> None:
    class Clocked(keras.callbacks.Callback):
        def __init__(self, started: float) -> None:
            super().__init__()
            self.started = started

    def of(*callbacks: Any) -> str:
        return digest(keras.Sequential([keras.Input((6,)), layers.Dense(3)]), callbacks=callbacks)

    halves, quarters = (
        keras.callbacks.ReduceLROnPlateau(factor=factor, patience=1) for factor in (0.5, 0.25)
    )
    assert len({of(), of(halves), of(quarters), of(halves, quarters), of(Clocked(1.0))}) == 5
    assert of(Clocked(1.0)) == of(Clocked(2.0))
    one, other = (keras.callbacks.CSVLogger(f"run-{run}.csv") for run in (1, 2))
    assert of(one) == of(other)


def test_each_part_of_the_data_has_its_place() -> None:
    one, other = (Arrays(np.full((4, 2), value), np.arange(4)) for value in (1.0, 2.0))
    divided = [
        (one, None, None),
        (one, one, None),
        (one, other, None),
        (one, None, other),
        (other, one, None),
    ]
    assert len({digest_of_data(parts) for parts in divided}) == len(divided)


def test_data_that_are_known_as_a_whole_keep_their_digest() -> None:
    part = Arrays(np.ones((4, 2)), np.arange(4), known_digest="abc")
    assert digest_of_data((part, part, part)) == "abc"


@pytest.mark.parametrize(
    ("build", "variable"),
    [
        (burn.relu_mlp, "FMNIST_BURN_TURNS"),
        (products.relu_mlp, "FMNIST_PRODUCTS_TURNS"),
        (sleepy.relu_mlp, "FMNIST_SLEEP_S"),
    ],
)
def test_a_known_slow_down_by_a_variable_is_the_same_model(
    build: Callable[[], Any], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A duel refuses sides that train another model, and would refuse to find the slow-down."""
    monkeypatch.setenv(variable, "0")
    as_it_is = digest(build())
    monkeypatch.setenv(variable, "3")
    assert digest(build()) == as_it_is
