"""The documented networks: one builder each, the registry, and a user's own builders."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fmnist_models.errors import UserError

if TYPE_CHECKING:
    import keras

# Keras is imported inside the builders, so that the names can be listed without it.

CLASSES = 10
PIXELS = 28 * 28
INPUT_SHAPES: tuple[tuple[int, ...], ...] = ((PIXELS,), (28, 28))
# Of the suite, whose packages are imported before a user's model.
_TAKEN = ("bench", "fmnist_models")
# Images that a user's model is tried with.
_FEW = 2
_WANTED = (_FEW, CLASSES)
# Of bfloat16, in which probabilities of 1 can come out above it.
_ROUNDING = 0.01
# TensorFlow refuses to train a model of this name ("not a valid root scope name"), so it
# stays a title and the Keras name is ASCII.
SIGMOID_TITLE = "패션 MNIST 모델"
SIGMOID_NAME = "fashion_mnist_model"


@dataclass(frozen=True, slots=True)
class Network:
    """One documented network.

    Attributes:
        builder: makes a fresh, uncompiled model.
        title: how a person reads it.
        documented_as: what the documents call it.
        parameters: weights and biases.
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
    """A sigmoid hidden layer of 100, made of layer objects: 79,510 parameters."""
    import keras

    hidden = keras.layers.Dense(100, activation="sigmoid", name="hidden")
    output = keras.layers.Dense(CLASSES, activation="softmax", name="output")
    return keras.Sequential([keras.Input(shape=(PIXELS,)), hidden, output], name=SIGMOID_NAME)


def sigmoid_mlp_from_list() -> keras.Model:
    """The same network, its layers made in a list inside `Sequential`."""
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
    """The same network, its layers appended with `.add()`."""
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
    """A fresh, uncompiled model: one of the registry, or a user's own.

    Args:
        name: a name of `NETWORKS`, or `module:function` of a builder that takes no
            arguments and returns an uncompiled `keras.Model` with inputs of 784 or 28x28
            and ten outputs. The working directory comes first on Python's path from here on,
            as for a script that lies there. A model that has no input shape yet is built for the
            first of the two that it takes.

    Raises:
        UserError: the builder cannot be imported or called, or its model is none of that.
    """
    if name in NETWORKS:
        return NETWORKS[name].builder()
    if ":" not in name:
        raise UserError(
            f"unknown model {name!r}: choose from {', '.join(NETWORKS)}, "
            "or name your own builder as module:function"
        )
    return _checked(name, _find(name))


def input_shape(model: keras.Model) -> tuple[int, ...]:
    """The shape of one image as a built model takes it, (784,) or (28, 28).

    Where the model does not know it, the first of the two that it takes a few images of.

    Raises:
        UserError: it takes neither.
    """
    shapes = _fitting(_known_input_shape(model))
    if len(shapes) == 1:
        return shapes[0]
    for shape in shapes:
        # Whatever a user's layers raise, the next is tried.
        with contextlib.suppress(Exception):
            if _outputs(model, shape) == _WANTED:
                return shape
    raise UserError(f"model {model.name!r} takes inputs of neither (784,) nor (28, 28)")


def _find(name: str) -> Callable[[], Any]:
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    # First, wherever else it stands; and kept, for a builder may import its neighbours later.
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"model {name!r}: {_not_imported(module_name, error)}") from error
    except Exception as error:
        raise UserError(
            f"model {name!r}: importing {module_name} raised {type(error).__name__}: "
            f"{_one_line(error)}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(
            f"model {name!r}: {_another(module_name, module)} has no function {function_name!r}: "
            "name one that returns a keras.Model"
        )
    return function  # type: ignore[no-any-return]


def _not_imported(module: str, error: ImportError) -> str:
    """Why a user's module was not imported, and what would help."""
    missing = error.name or ""
    package = missing.partition(".")[0]
    if package in _TAKEN:
        return (
            f"it needs a package {package!r} that is not fmnist-bench's, which has that name "
            "already: rename yours"
        )
    if not isinstance(error, ModuleNotFoundError):
        return f"importing {module} raised {type(error).__name__}: {_one_line(error)}"
    if missing == module or module.startswith(f"{missing}."):
        return (
            f"no module {module!r} in the working directory or installed: start where it lies, "
            "or install it"
        )
    return f"{module} needs {missing!r}, which is not installed"


def _another(name: str, module: ModuleType) -> str:
    """The module by its name; said more where it is not the one in the working directory."""
    found = getattr(module, "__file__", None)
    own = Path(*name.split("."))
    wanted = next((f for f in (own.with_suffix(".py"), own / "__init__.py") if f.exists()), None)
    if wanted is None or (found is not None and wanted.resolve() == Path(found).resolve()):
        return name
    return f"{name} is a module of Python or of a package, not {wanted} (rename that), and"


def _call(name: str, function: Callable[[], Any]) -> keras.Model:
    """An uncompiled model of a user's builder."""
    import keras

    try:
        model = function()
    except Exception as error:
        raise UserError(
            f"model {name!r}: the builder, called without arguments, raised "
            f"{type(error).__name__}: {_one_line(error)}"
        ) from error
    if not isinstance(model, keras.Model):
        raise UserError(
            f"model {name!r}: the builder returned {type(model).__name__}, not a keras.Model"
        )
    if model.compiled:
        raise UserError(
            f"model {name!r} is compiled already: return it uncompiled, the case names the "
            "optimizer"
        )
    return model


def _checked(name: str, builder: Callable[[], Any]) -> keras.Model:
    """A model of the builder that made ten numbers of each of a few images.

    What was half built for a shape that it does not take is thrown away.
    """
    model = _call(name, builder)
    known = _known_input_shape(model)
    shapes = _fitting(known)
    if not shapes:
        raise UserError(f"model {name!r} takes inputs of {known}: it must take (784,) or (28, 28)")
    refused: list[str] = []
    wrong: list[Any] = []
    for shape in shapes:
        if refused or wrong:
            model = _call(name, builder)
        try:
            outputs = _outputs(model, shape)
        except Exception as error:  # noqa: BLE001 - whatever a user's layers raise
            refused.append(f"{shape} raised {type(error).__name__}: {_one_line(error)}")
            continue
        if outputs == _WANTED:
            return model
        wrong.append(outputs[1:] if isinstance(outputs, tuple) else outputs)
    if wrong:
        raise UserError(
            f"model {name!r} gives outputs of {wrong[0]}: it must give ten probabilities"
        )
    raise UserError(
        f"model {name!r} must take images of (784,) or (28, 28); those of {'; '.join(refused)}"
    )


def _fitting(known: tuple[int | None, ...] | None) -> tuple[tuple[int, ...], ...]:
    """The shapes of an image that a model takes which knows so much of them; None fits any."""
    if known is None:
        return INPUT_SHAPES
    return tuple(
        shape
        for shape in INPUT_SHAPES
        if len(shape) == len(known)
        and all(side in (None, size) for side, size in zip(known, shape, strict=True))
    )


def _known_input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """The shape of one image by Keras's own account; None where it has none."""
    shape = None
    # A property of models that are graphs of layers; others have none, or it raises.
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
    """Whether what a built model makes of a few images lies between 0 and 1, as its loss takes it
    to do: what does not may be logits, and trains badly without a word."""
    import keras

    made = keras.ops.convert_to_numpy(keras.ops.cast(_made(model, input_shape(model)), "float32"))
    return bool(((made >= -_ROUNDING) & (made <= 1 + _ROUNDING)).all())


def _outputs(model: keras.Model, shape: tuple[int, ...]) -> Any:
    """The shape of what the model makes of a few images, or the name of their type where it is
    no single array."""
    outputs = _made(model, shape)
    found = getattr(outputs, "shape", None)
    return type(outputs).__name__ if found is None else tuple(found)


def _made(model: keras.Model, shape: tuple[int, ...]) -> Any:
    """What the model makes of a few images; its state is as before."""
    import keras
    import numpy as np

    images = np.linspace(0, 1, _FEW * PIXELS, dtype=np.float32).reshape(_FEW, *shape)
    state = [(v, keras.ops.convert_to_numpy(v).copy()) for v in model.non_trainable_variables]
    outputs = model(images)
    for variable, value in state:
        variable.assign(value)
    return outputs


def _one_line(error: BaseException) -> str:
    """The first line of a message that holds words."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
