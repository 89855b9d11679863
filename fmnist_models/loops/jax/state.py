"""The state of a model, as Keras's stateless step takes and returns it."""

from __future__ import annotations

from typing import Any

import jax
import keras

State = tuple[list[jax.Array], ...]


def variables_of(model: keras.Model) -> tuple[list[Any], ...]:
    """The variables of the state, in the order of Keras's `train_step`."""
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )


def state_of(model: keras.Model) -> State:
    """The values of these variables."""
    return tuple([variable.value for variable in part] for part in variables_of(model))


def keep_state(model: keras.Model, state: State) -> None:
    """Put a state back into the variables."""
    for variables, values in zip(variables_of(model), state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
