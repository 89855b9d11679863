"""The documented optimizers: their settings, and their steps against the published formulas."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_models.errors import UserError
from fmnist_models.optimizers import OPERATIONS, OPTIMIZERS, create, refuse_unknown

SETTINGS = {
    "rmsprop": {"class": "RMSprop", "learning_rate": 0.001, "rho": 0.9, "momentum": 0.0},
    "sgd": {"class": "SGD", "learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    "sgd_lr0.1": {"class": "SGD", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False},
    "sgd_nesterov": {"class": "SGD", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True},
    "adagrad": {"class": "Adagrad", "learning_rate": 0.001, "initial_accumulator_value": 0.1},
    "adam": {"class": "Adam", "learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999},
}


OWN = """
import keras

class Halving(keras.optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate / 2)

def halving():
    return Halving(0.1)

def used():
    made = keras.optimizers.SGD()
    made.build([keras.Variable([1.0])])
    return made

def fails():
    raise RuntimeError("no luck\\nat all")

def word():
    return "sgd"
"""


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


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("adma", "unknown optimizer 'adma': choose from rmsprop, sgd"),
        ("adam:", "unknown optimizer 'adam:'"),
        ("Adam", "unknown optimizer 'Adam'"),
        ("adam:lr", "'lr' is no argument"),
        ("adam:=1", "'=1' is no argument: write key=value, each key once"),
        ("adam:a=1,a=2", "'a=2' is no argument"),
        ("adam:learning_rate=", "learning_rate '': must be a finite number, true, false"),
        ("adam:learning_rate=nan", "learning_rate 'nan': must be a finite number"),
        ("adam:learning_rate=1e999", "must be a finite number"),
        ("adam:learning_rate=__import__('os')", "must be a finite number"),
        ("sgd_lr0.1:momentum=1", "unknown optimizer 'sgd_lr0.1:momentum=1'"),
    ],
)
def test_an_unknown_name_is_one_line_without_keras(name: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        refuse_unknown(name)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_keras_has_the_optimizers_that_are_listed_and_names_their_operations_so() -> None:
    for identifier, operations in OPERATIONS.items():
        made = create(f"{identifier}:learning_rate=0.25")
        assert type(made).__name__.lower() == identifier
        assert float(made.learning_rate) == 0.25
        # Keras appends a number from the second of a kind on.
        assert made.name.rstrip("0123456789").rstrip("_") == operations


def test_the_arguments_reach_the_optimizer() -> None:
    found = settings_of(create("sgd:learning_rate=3e-4,momentum=0.9,nesterov=true,clipnorm=1"))
    assert found["learning_rate"] == pytest.approx(3e-4)
    assert found["momentum"] == 0.9
    assert found["nesterov"] is True
    assert found["clipnorm"] == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("adam:learning_rat=1", r"cannot make it: ValueError: .*learning_rat"),
        ("adam:clipnorm=1,clipvalue=1", r"cannot make it: ValueError: Only one of"),
        ("own_optimizers:missing", "has no function 'missing': name one that returns a keras"),
        ("own_optimizers:fails", "called without arguments, raised RuntimeError: no luck"),
        ("own_optimizers:word", "returned str, not a keras.optimizers.Optimizer"),
        ("own_optimizers:used", "has trained a model: make a new one in each call"),
        ("no_such_module:f", "no module 'no_such_module'"),
    ],
)
def test_what_cannot_be_made_is_one_line(own_optimizers: None, name: str, line: str) -> None:
    refuse_unknown(name)
    with pytest.raises(UserError, match=line) as error:
        create(name)
    assert "\n" not in str(error.value)


def test_a_function_of_the_users_makes_one(own_optimizers: None) -> None:
    first, second = (create("own_optimizers:halving") for _ in range(2))
    assert first is not second
    assert type(first).__name__ == "Halving"


@pytest.fixture
def own_optimizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user's own, in the folder where the user stands."""
    (tmp_path / "own_optimizers.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("own_optimizers", None)


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
