"""The loops: three ways to run the same training steps, with one interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from fmnist_models.errors import UserError
from fmnist_models.loops.base import Loop
from fmnist_models.loops.compiled import CompiledLoop
from fmnist_models.loops.fit import FitLoop
from fmnist_models.loops.multistep import MultistepLoop

LOOPS: dict[str, type[Loop]] = {loop.name: loop for loop in (FitLoop, MultistepLoop, CompiledLoop)}


def compile_model(model: Any, optimizer: Any, loop: str) -> list[str]:
    """Compile `model` with the documented loss and metric, and the loop's arguments.

    Returns:
        warnings of changes that the model's own `compile` made to the optimizer.

    Raises:
        UserError: the model's own `compile` does not take the arguments of Keras's, uses another
            optimizer or does not call Keras's, or the step is not compiled as the loop requires.
    """
    name, given = model.name, optimizer.get_config()
    wanted = LOOPS[loop].compile_arguments
    own_compile = type(model).compile is not keras.Model.compile
    try:
        model.compile(
            optimizer=optimizer,
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            **wanted,
        )
    except TypeError as error:
        if not own_compile:
            raise
        raise UserError(
            f"compile() of model {name!r} raised TypeError: {error}: let it take the arguments of "
            "keras.Model.compile and hand them on"
        ) from error
    if not model.compiled or model.optimizer is None:
        raise UserError(f"compile() of model {name!r} does not call super().compile(...)")
    if wanted and (model.run_eagerly or tf.config.functions_run_eagerly()):
        raise UserError(
            f"model {name!r} runs eagerly, which nothing of --loops {loop} does: leave out "
            "run_eagerly and tf.config.run_functions_eagerly, or choose --loops fit"
        )
    # `compiled` makes an XLA program itself, so Keras's settings do not matter.
    for argument in wanted if loop != "compiled" else ():
        if getattr(model, argument) != wanted[argument]:
            raise UserError(
                f"model {name!r} has {argument}={getattr(model, argument)} where --loops {loop} "
                f"is {argument}={wanted[argument]}: a compile() of its own, a layer that XLA "
                "does not support, or deterministic operations turned it off; choose --loops fit"
            )
    return _changed_optimizer(model, optimizer, given)


def _changed_optimizer(model: Any, optimizer: Any, given: Mapping[str, Any]) -> list[str]:
    """Warnings of settings that `compile` changed in the optimizer.

    Raises:
        UserError: `compile` replaced the optimizer by one of another class.
    """
    trains, meant = (getattr(o, "inner_optimizer", o) for o in (model.optimizer, optimizer))
    if type(trains) is not type(meant):
        raise UserError(
            f"compile() of model {model.name!r} trains with {type(trains).__name__}, not with the "
            f"{type(meant).__name__} that it is given: the case names the optimizer"
        )
    found = trains.get_config()
    changed = [
        f"{key} {found.get(key)}, not {value}"
        for key, value in given.items()
        if key not in ("name", "loss_scale_factor") and found.get(key) != value
    ]
    return [f"compile() changed {type(meant).__name__}: {', '.join(changed)}"] if changed else []
