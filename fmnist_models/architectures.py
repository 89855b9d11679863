"""The documented networks: a builder for each, the registry, and a user's own builders."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_models.errors import UserError
from fmnist_models.own import called, one_line

if TYPE_CHECKING:
    import keras

# Keras is imported inside the builders, so that the names can be listed without it.

CLASSES = 10
PIXELS = 28 * 28
INPUT_SHAPES: tuple[tuple[int, ...], ...] = ((PIXELS,), (28, 28))
# Number of images for testing a user's model.
_FEW = 2
_WANTED = (_FEW, CLASSES)
# Rounding error of bfloat16, in which a probability of 1 can be above 1.
_ROUNDING = 0.01
# TensorFlow refuses to train a model of this name ("not a valid root scope name"). So it is only
# the title, and the Keras name is ASCII.
SIGMOID_TITLE = "패션 MNIST 모델"
SIGMOID_NAME = "fashion_mnist_model"


@dataclass(frozen=True, slots=True)
class Network:
    """One documented network.

    Attributes:
        builder: makes a fresh, uncompiled model.
        title: its name for people.
        documented_as: its name in the course documents.
        parameters: number of weights and biases.
    """

    builder: Callable[[], keras.Model]
    title: str
    documented_as: str
    parameters: int


def softmax() -> keras.Model:
    """One output layer on 784 inputs: 7,850 parameters."""
    import keras

    return keras.Sequential(
        [keras.Input(shape=(PIXELS,)), keras.layers.Dense(CLASSES, activation="softmax")],
        name="softmax",
    )


def sigmoid_mlp() -> keras.Model:
    """A sigmoid hidden layer of 100, built from layer objects: 79,510 parameters."""
    import keras

    hidden = keras.layers.Dense(100, activation="sigmoid", name="hidden")
    output = keras.layers.Dense(CLASSES, activation="softmax", name="output")
    return keras.Sequential([keras.Input(shape=(PIXELS,)), hidden, output], name=SIGMOID_NAME)


def sigmoid_mlp_from_list() -> keras.Model:
    """The same network, with its layers in a list inside `Sequential`."""
    import keras

    return keras.Sequential(
        [
            keras.Input(shape=(PIXELS,)),
            keras.layers.Dense(100, activation="sigmoid", name="hidden"),
            keras.layers.Dense(CLASSES, activation="softmax", name="output"),
        ],
        name=SIGMOID_NAME,
    )


def sigmoid_mlp_by_add() -> keras.Model:
    """The same network, with its layers appended by `.add()`."""
    import keras

    model = keras.Sequential(name=SIGMOID_NAME)
    model.add(keras.Input(shape=(PIXELS,)))
    model.add(keras.layers.Dense(100, activation="sigmoid", name="hidden"))
    model.add(keras.layers.Dense(CLASSES, activation="softmax", name="output"))
    return model


def relu_mlp() -> keras.Model:
    """A ReLU hidden layer of 100 that flattens 28x28 images itself: 79,510 parameters."""
    import keras

    return keras.Sequential(
        [
            keras.Input(shape=(28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ],
        name="relu_mlp",
    )


NETWORKS: dict[str, Network] = {
    "softmax": Network(
        softmax, "softmax layer", "artificial neural network: one output layer", 7_850
    ),
    "sigmoid_mlp": Network(
        sigmoid_mlp, SIGMOID_TITLE, "deep network with a sigmoid hidden layer", 79_510
    ),
    "relu_mlp": Network(
        relu_mlp, "ReLU network", "the ReLU version that flattens for itself", 79_510
    ),
}


def build(name: str) -> keras.Model:
    """A fresh model of the registry, uncompiled.

    Raises:
        UserError: there is no such name in `NETWORKS`.
    """
    if name in NETWORKS:
        return NETWORKS[name].builder()
    raise UserError(
        f"unknown model {name!r}: choose from {', '.join(NETWORKS)}, "
        "or name your own builder as module:function"
    )


def input_shape(model: keras.Model) -> tuple[int, ...]:
    """The shape of one image for a built model, (784,) or (28, 28).

    Where the model does not report it, the first of the two that the model accepts.

    Raises:
        UserError: it accepts neither.
    """
    shapes = _fitting(_known_input_shape(model))
    if len(shapes) == 1:
        return shapes[0]
    for shape in shapes:
        # A user's layers may raise anything; then the next shape is tried.
        with contextlib.suppress(Exception):
            if _outputs(model, shape) == _WANTED:
                return shape
    raise UserError(f"model {model.name!r} takes inputs of neither (784,) nor (28, 28)")


def _refuse_no_model(name: str, made: Any) -> None:
    import keras

    if isinstance(made, keras.Model):
        return
    if isinstance(made, type):
        what, remedy = f"the class {made.__name__}", "call it"
    else:
        what = "None" if made is None else f"{type(made).__name__}"
        remedy = "end it with `return` and the model"
    raise UserError(
        f"model {name!r}: the function returned {what}, not a keras.Model or a Workload: {remedy}"
    )


def checked(name: str, model: Any, builder: Callable[[], Any]) -> keras.Model:
    """What a user's builder made, after a test that it gives ten numbers for each image.

    A model that was partly built for a wrong shape is discarded, and the builder called again.

    Raises:
        UserError: it is no model, or the model takes other inputs or gives other outputs.
    """
    _refuse_no_model(name, model)
    known = _known_input_shape(model)
    shapes = _fitting(known)
    if not shapes:
        raise UserError(
            f"model {name!r} takes inputs of {known}: it must take images of (784,) or (28, 28), "
            "or come in a Workload with data of its own"
        )
    refused: list[str] = []
    wrong: list[Any] = []
    for shape in shapes:
        if refused or wrong:
            model = called("model", name, builder)
        try:
            outputs = _outputs(model, shape)
        except Exception as error:  # noqa: BLE001 - whatever a user's layers raise
            refused.append(f"{shape} raised {type(error).__name__}: {one_line(error)}")
            continue
        if outputs == _WANTED:
            return model
        wrong.append(outputs[1:] if isinstance(outputs, tuple) else outputs)
    if wrong:
        raise UserError(
            f"model {name!r} gives outputs of {wrong[0]}: it must give ten probabilities for the "
            "images, or come in a Workload with data of its own"
        )
    raise UserError(
        f"model {name!r} must take images of (784,) or (28, 28); those of {'; '.join(refused)}"
    )


def _fitting(known: tuple[int | None, ...] | None) -> tuple[tuple[int, ...], ...]:
    """The image shapes that agree with the shape that a model reports; None agrees with both."""
    if known is None:
        return INPUT_SHAPES
    return tuple(
        shape
        for shape in INPUT_SHAPES
        if len(shape) == len(known)
        and all(side in (None, size) for side, size in zip(known, shape, strict=True))
    )


def _known_input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """The shape of one image that Keras reports; None where it reports none."""
    shape = None
    # Models that are graphs of layers have this property; for others it is missing or raises.
    with contextlib.suppress(Exception):
        shape = model.input_shape
    if shape is None and model.built:
        with contextlib.suppress(Exception):
            shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, tuple | list) or not all(
        side is None or isinstance(side, int) for side in shape
    ):
        return None
    return tuple(shape[1:])


def makes_probabilities(model: keras.Model) -> bool:
    """Whether the outputs of a built model are between 0 and 1, as its loss requires.

    Outputs outside that range may be logits, with which training is bad but raises no error.
    """
    import keras

    made = keras.ops.convert_to_numpy(keras.ops.cast(_made(model, input_shape(model)), "float32"))
    return bool(((made >= -_ROUNDING) & (made <= 1 + _ROUNDING)).all())


def _outputs(model: keras.Model, shape: tuple[int, ...]) -> Any:
    """The shape of the model's outputs for a few images; the name of their type for no array."""
    outputs = _made(model, shape)
    found = getattr(outputs, "shape", None)
    return type(outputs).__name__ if found is None else tuple(found)


def _made(model: keras.Model, shape: tuple[int, ...]) -> Any:
    """The model's outputs for a few images; its state is restored afterwards."""
    import keras
    import numpy as np

    images = np.linspace(0, 1, _FEW * PIXELS, dtype=np.float32).reshape(_FEW, *shape)
    state = [(v, keras.ops.convert_to_numpy(v).copy()) for v in model.non_trainable_variables]
    outputs = model(images)
    for variable, value in state:
        variable.assign(value)
    return outputs
