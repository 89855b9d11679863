"""The documented optimizers: a factory for each, and the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_models.errors import UserError

if TYPE_CHECKING:
    import keras

# Keras is imported inside the factories, so that the names can be listed without it.


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


def create(name: str) -> keras.optimizers.Optimizer:
    """A fresh optimizer of the registry.

    Raises:
        UserError: the registry has no such name.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"unknown optimizer {name!r}: choose from {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name].create()
