"""The documented optimizers: a factory for each, and the registry."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_models.errors import UserError
from fmnist_models.own import FUNCTION, called, find_function, one_line

if TYPE_CHECKING:
    import keras

# Keras is imported inside the factories, so that the names can be listed without it.


# The optimizer of a case whose model its own function compiled.
OWN = "own"


@dataclass(frozen=True, slots=True)
class Documented:
    """One documented optimizer.

    Attributes:
        create: makes a fresh optimizer, because two models must not share one.
        documented_as: its form in the course documents.
    """

    create: Callable[[], keras.optimizers.Optimizer]
    documented_as: str


def rmsprop() -> keras.optimizers.Optimizer:
    """Keras's default in `compile`: RMSprop, learning rate 0.001, rho 0.9."""
    import keras

    return keras.optimizers.RMSprop()


def sgd() -> keras.optimizers.Optimizer:
    """Plain stochastic gradient descent, learning rate 0.01."""
    import keras

    return keras.optimizers.SGD()


def sgd_lr01() -> keras.optimizers.Optimizer:
    """Plain stochastic gradient descent, learning rate 0.1."""
    import keras

    return keras.optimizers.SGD(learning_rate=0.1)


def sgd_nesterov() -> keras.optimizers.Optimizer:
    """Nesterov momentum 0.9, learning rate 0.01."""
    import keras

    return keras.optimizers.SGD(momentum=0.9, nesterov=True)


def adagrad() -> keras.optimizers.Optimizer:
    """Adagrad with Keras's defaults: learning rate 0.001, initial accumulator 0.1."""
    import keras

    return keras.optimizers.Adagrad()


def adam() -> keras.optimizers.Optimizer:
    """Adam with Keras's defaults: learning rate 0.001, betas 0.9 and 0.999."""
    import keras

    return keras.optimizers.Adam()


OPTIMIZERS: dict[str, Documented] = {
    "rmsprop": Documented(rmsprop, "Keras's default when compile names none"),
    "sgd": Documented(sgd, 'SGD(), also the string "sgd"'),
    "sgd_lr0.1": Documented(sgd_lr01, "SGD(learning_rate=0.1)"),
    "sgd_nesterov": Documented(sgd_nesterov, "SGD(momentum=0.9, nesterov=True)"),
    "adagrad": Documented(adagrad, "Adagrad()"),
    "adam": Documented(adam, 'Adam(), also the string "adam"'),
}


# By Keras's identifier of an optimizer, the name that Keras gives to its operations.
OPERATIONS: dict[str, str] = {
    "adadelta": "adadelta",
    "adafactor": "adafactor",
    "adagrad": "adagrad",
    "adam": "adam",
    "adamax": "adamax",
    "adamw": "adam_w",
    "ftrl": "ftrl",
    "lion": "lion",
    "muon": "muon",
    "nadam": "nadam",
    "rmsprop": "rm_sprop",
    "schedulefreeadamw": "schedule_free_adam_w",
    "sgd": "sgd",
}
_ARGUMENT = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)
_WORD = re.compile(r"[^\W\d]\w*")
_WORDS = {"true": True, "false": False, "none": None}


def split_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list; `key=value` after a comma belongs to the name before."""
    names: list[str] = []
    for part in text.split(","):
        if names and ":" in names[-1] and ":" not in part and _ARGUMENT.fullmatch(part.strip()):
            names[-1] += f",{part.strip()}"
        else:
            names.append(part.strip())
    return tuple(dict.fromkeys(names))


def refuse_unknown(name: str) -> None:
    """Refuse a name that is neither `own` nor of one of the three forms. Needs no Keras.

    Raises:
        UserError: the registry and Keras know no such name, or an argument is not `key=value`, is
            there twice, or has no value that can be read.
    """
    if name != OWN and name not in OPTIMIZERS and not _is_own(name):
        _parsed(name)


def create(name: str) -> keras.optimizers.Optimizer:
    """A fresh optimizer.

    Raises:
        UserError: there is no such optimizer, or it does not take these arguments.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name].create()
    import keras

    if _is_own(name):
        return _own(name)
    identifier, arguments = _parsed(name)
    try:
        made = keras.optimizers.get({"class_name": identifier, "config": arguments})
    except Exception as error:
        raise UserError(
            f"optimizer {name!r}: Keras {keras.__version__} cannot make it: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    assert isinstance(made, keras.optimizers.Optimizer)
    return made


def _is_own(name: str) -> bool:
    """Whether it is `module:function`; `adam:lr` is an argument without a value."""
    return bool(FUNCTION.fullmatch(name)) and name.partition(":")[0] not in OPERATIONS


def _own(name: str) -> keras.optimizers.Optimizer:
    import keras

    function = find_function("optimizer", name, "a keras.optimizers.Optimizer")
    made = called("optimizer", name, function)
    if not isinstance(made, keras.optimizers.Optimizer):
        raise UserError(
            f"optimizer {name!r}: the function returned {type(made).__name__}, not a "
            "keras.optimizers.Optimizer"
        )
    if made.built:
        raise UserError(
            f"optimizer {name!r}: the function returned one that has trained a model: make a new "
            "one in each call"
        )
    return made


def _parsed(name: str) -> tuple[str, dict[str, Any]]:
    """The identifier and the arguments of `identifier:key=value,key=value`."""
    identifier, colon, rest = name.partition(":")
    if identifier not in OPERATIONS or (colon and not rest):
        raise UserError(
            f"unknown optimizer {name!r}: choose from {', '.join(_names())}, add arguments as in "
            "adam:learning_rate=3e-4, or name your own as module:function"
        )
    arguments: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        found = _ARGUMENT.fullmatch(part)
        if found is None or found[1] in arguments:
            raise UserError(
                f"optimizer {name!r}: {part!r} is no argument: write key=value, each key once"
            )
        arguments[found[1]] = _value(name, found[1], found[2])
    return identifier, arguments


def _value(name: str, key: str, text: str) -> Any:
    """A number, a truth value, None, or a word."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        number = float(text)
    except ValueError:
        number = None
    if number is None and _WORD.fullmatch(text):
        return text
    if number is None or not math.isfinite(number):
        raise UserError(
            f"optimizer {name!r}: {key} {text!r}: must be a finite number, true, false, none or "
            "a word"
        )
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else number


def _names() -> Iterable[str]:
    return dict.fromkeys((*OPTIMIZERS, *OPERATIONS))
