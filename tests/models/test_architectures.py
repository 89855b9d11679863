"""The documented networks to the letter, and a user's own builders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_models.architectures import (
    NETWORKS,
    SIGMOID_NAME,
    SIGMOID_TITLE,
    build,
    input_shape,
    sigmoid_mlp,
    sigmoid_mlp_by_add,
    sigmoid_mlp_from_list,
)
from fmnist_models.errors import UserError
from fmnist_models.own import find_function
from fmnist_models.task import task_of

LAYERS: dict[str, tuple[tuple[int, ...], list[tuple[Any, ...]]]] = {
    "softmax": ((784,), [("Dense", None, (10,), "softmax")]),
    "sigmoid_mlp": (
        (784,),
        [("Dense", "hidden", (100,), "sigmoid"), ("Dense", "output", (10,), "softmax")],
    ),
    "relu_mlp": (
        (28, 28),
        [
            ("Flatten", None, (784,), None),
            ("Dense", None, (100,), "relu"),
            ("Dense", None, (10,), "softmax"),
        ],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_the_documented_ones(name: str) -> None:
    model = build(name)
    inputs, layers = LAYERS[name]
    assert model.input_shape == (None, *inputs)
    assert len(model.layers) == len(layers)
    for layer, (kind, layer_name, shape, activation) in zip(model.layers, layers, strict=True):
        assert type(layer).__name__ == kind
        assert layer_name is None or layer.name == layer_name
        assert layer.output.shape == (None, *shape)
        if activation:
            assert layer.activation.__name__ == activation
    assert not model.compiled
    assert model.count_params() == NETWORKS[name].parameters


def test_parameter_counts() -> None:
    counts = {name: network.parameters for name, network in NETWORKS.items()}
    assert counts == {"softmax": 7_850, "sigmoid_mlp": 79_510, "relu_mlp": 79_510}


def test_three_ways_of_building_are_one_model() -> None:
    import keras

    images = np.random.default_rng(0).random((3, 784), dtype=np.float32)
    configurations, outputs = [], []
    for builder in (sigmoid_mlp, sigmoid_mlp_from_list, sigmoid_mlp_by_add):
        keras.utils.set_random_seed(1)
        model = builder()
        configuration = model.get_config()
        for layer in configuration["layers"]:
            # Keras counts unnamed inputs up through the process.
            if layer["class_name"] == "InputLayer":
                layer["config"].pop("name")
        configurations.append(configuration)
        outputs.append(np.array(keras.ops.convert_to_numpy(model(images))))
    assert configurations[0] == configurations[1] == configurations[2]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


def test_the_korean_title_cannot_be_a_keras_name() -> None:
    import keras

    assert NETWORKS["sigmoid_mlp"].title == SIGMOID_TITLE == "패션 MNIST 모델"
    assert SIGMOID_NAME.isascii()
    model = keras.Sequential(
        [keras.Input((784,)), keras.layers.Dense(10, "softmax")], name=SIGMOID_TITLE
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="not a valid root scope name"):
        model.fit(np.zeros((2, 784)), np.zeros(2), verbose=0)
    # Keras keeps the scope that it could not enter, and would name later variables by it.
    keras.utils.clear_session()


OWN = """
import keras

def good():
    return keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])

def compiled():
    model = good()
    model.compile("sgd", "mse")
    return model

def unbuilt():
    return keras.Sequential([keras.layers.Dense(10, "softmax")])

def coloured():
    return keras.Sequential([keras.Input((28, 28, 3)), keras.layers.Flatten(),
                             keras.layers.Dense(10, "softmax")])

def shapeless():
    return keras.Sequential([keras.layers.Dense(10), keras.layers.Reshape((3, 3))])

def two_outputs():
    image = keras.Input((784,))
    return keras.Model(image, [keras.layers.Dense(10)(image), keras.layers.Dense(10)(image)])

def two_classes():
    return keras.Sequential([keras.Input((784,)), keras.layers.Dense(2, "softmax")])

def any_height():
    return keras.Sequential([keras.Input((None, 28)), keras.layers.LSTM(4),
                             keras.layers.Dense(10, "softmax")])

def any_width():
    image = keras.Input((None,))
    return keras.Model(image, keras.layers.Dense(10)(keras.ops.reshape(image, (-1, 784))))

class OfRows(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(10)

    def call(self, x):
        return keras.ops.mean(self.dense(x), axis=1)

def of_rows():
    return OfRows()

def number():
    return 3

def needs(width):
    return good()

constant = 7
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_builders.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("1 / 0")
    (tmp_path / "own_many_lines.py").write_text("raise ImportError('first\\nsecond')")
    (tmp_path / "own_below.py").write_text("from bench.layers import Odd")
    (tmp_path / "own_inside.py").write_text("from bench import odd")
    (tmp_path / "own_needy.py").write_text("import no_such_library")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("own")
def test_an_own_builder_is_found_in_the_working_directory() -> None:
    assert task_of("own_builders:good").model.count_params() == 7_850


@pytest.mark.usefixtures("own")
def test_the_working_directory_comes_first_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "library").mkdir()
    for folder in (tmp_path, tmp_path / "library"):
        (folder / "own_neighbour.py").write_text(f"WHERE = {folder.name!r}")
    (tmp_path / "own_builders.py").write_text(
        OWN + "def late():\n    import own_neighbour\n    return own_neighbour.WHERE\n"
    )
    # It stands on the path already, as PYTHONPATH=.:library puts it, and not first.
    path = [str(tmp_path / "library"), str(tmp_path), *sys.path]
    monkeypatch.setattr(sys, "path", path)
    monkeypatch.delitem(sys.modules, "own_neighbour", raising=False)
    assert find_function("model", "own_builders:late", "a keras.Model")() == tmp_path.name
    monkeypatch.delitem(sys.modules, "own_neighbour")


@pytest.mark.usefixtures("own")
def test_documented_models_need_nothing_of_the_working_directory() -> None:
    before = list(sys.path)
    build("softmax")
    assert sys.path == before


@pytest.mark.usefixtures("own")
def test_a_module_that_another_one_hides_is_said_to_be_hidden(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(OWN)
    with pytest.raises(UserError, match=r"json is a module of Python .*, not json\.py \(rename"):
        task_of("json:good")


@pytest.mark.usefixtures("own")
def test_a_model_without_a_shape_is_built_for_flat_images_first() -> None:
    model = task_of("own_builders:unbuilt").model
    assert model.count_params() == 7_850
    assert input_shape(model) == (784,)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "shape"), [("any_height", (28, 28)), ("any_width", (784,)), ("of_rows", (28, 28))]
)
def test_a_model_that_leaves_the_shape_open_gets_the_one_that_it_makes_ten_numbers_of(
    name: str, shape: tuple[int, ...]
) -> None:
    model = task_of(f"own_builders:{name}").model
    assert input_shape(model) == shape
    # As it is once it has trained.
    model(np.zeros((3, *shape), np.float32))
    assert input_shape(model) == shape


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("resnet", "unknown model 'resnet'"),
        ("own_absent:good", "no module 'own_absent'"),
        ("own_broken:good", "importing own_broken raised ZeroDivisionError"),
        ("own_many_lines:good", "importing own_many_lines raised ImportError: first"),
        ("own_needy:good", "needs 'no_such_library'"),
        ("own_below:good", "needs a package 'bench' that is not fmnist-bench's"),
        ("own_inside:good", "needs a package 'bench' that is not fmnist-bench's"),
        ("bench.own:good", "needs a package 'bench' that is not fmnist-bench's"),
        ("own_builders:absent", "has no function 'absent'"),
        ("own_builders:constant", "has no function 'constant'"),
        ("own_builders:needs", "called without arguments, raised TypeError"),
        ("own_builders:number", "returned int, not a keras.Model"),
        (
            "own_builders:shapeless",
            "or (28, 28); those of (784,) raised ValueError",
        ),
        ("own_builders:two_outputs", "gives outputs of list: it must give ten probabilities"),
        ("own_builders:coloured", "takes inputs of (28, 28, 3)"),
        ("own_builders:two_classes", "gives outputs of (2,)"),
    ],
)
def test_a_wrong_builder_is_one_line(name: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        task_of(name)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_the_names_are_listed_without_keras() -> None:
    code = (
        "import sys, fmnist_models.architectures, fmnist_models.optimizers; "
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
