"""The documented optimizers: their settings, and their steps against the published formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_models.errors import UserError
from fmnist_models.optimizers import OPTIMIZERS, create

SETTINGS = {
    "rmsprop": {"class": "RMSprop", "learning_rate": 0.001, "rho": 0.9, "momentum": 0.0},
    "sgd": {"class": "SGD", "learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    "sgd_lr0.1": {"class": "SGD", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False},
    "sgd_nesterov": {"class": "SGD", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True},
    "adagrad": {"class": "Adagrad", "learning_rate": 0.001, "initial_accumulator_value": 0.1},
    "adam": {"class": "Adam", "learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999},
}


def settings_of(optimizer: Any) -> dict[str, Any]:
    """Class and configuration, without the name, which Keras counts up."""
    configuration = {k: v for k, v in optimizer.get_config().items() if k != "name"}
    return {"class": type(optimizer).__name__, **configuration}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_settings_are_the_documented_ones(name: str) -> None:
    found = settings_of(create(name))
    for key, value in SETTINGS[name].items():
        assert found[key] == (pytest.approx(value) if isinstance(value, float) else value)
    assert create(name) is not create(name)


def test_the_strings_mean_the_same() -> None:
    import keras

    for name in ("sgd", "adam", "rmsprop"):
        assert settings_of(keras.optimizers.get(name)) == settings_of(create(name))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    assert settings_of(model.optimizer) == settings_of(create("rmsprop"))


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(UserError, match=r"unknown optimizer 'lion': choose from rmsprop"):
        create("lion")


def published(
    name: str, weight: NDArray[np.float64], gradients: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """The weights after each step, by the formulas that Keras's documentation cites."""
    state: dict[str, Any] = {"v": 0.0, "m": 0.0, "a": 0.1}
    steps = []
    for t, g in enumerate(gradients, 1):
        if name == "rmsprop":
            state["v"] = 0.9 * state["v"] + 0.1 * g * g
            weight = weight - 0.001 * g / np.sqrt(state["v"] + 1e-7)
        elif name == "sgd":
            weight = weight - 0.01 * g
        elif name == "sgd_lr0.1":
            weight = weight - 0.1 * g
        elif name == "sgd_nesterov":
            state["m"] = 0.9 * state["m"] - 0.01 * g
            weight = weight + 0.9 * state["m"] - 0.01 * g
        elif name == "adagrad":
            state["a"] += g * g
            weight = weight - 0.001 * g / np.sqrt(state["a"] + 1e-7)
        else:
            state["m"] = 0.9 * state["m"] + 0.1 * g
            state["v"] = 0.999 * state["v"] + 0.001 * g * g
            rate = 0.001 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            weight = weight - rate * state["m"] / (np.sqrt(state["v"]) + 1e-7)
        steps.append(weight)
    return np.array(steps)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_follow_the_published_formulas(name: str) -> None:
    import keras

    gradients = [np.array([0.5, -2.0, 0.01]), np.array([0.25, 1.0, -0.3]), np.array([1.0, 0.0, 3])]
    start = np.array([1.0, -1.0, 0.5])
    variable = keras.Variable(start, dtype="float32")
    optimizer = create(name)
    optimizer.build([variable])
    found = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
        found.append(np.array(keras.ops.convert_to_numpy(variable)))
    np.testing.assert_allclose(np.array(found), published(name, start, gradients), rtol=2e-5)
