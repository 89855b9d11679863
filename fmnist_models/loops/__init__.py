"""The loops: three ways to run the same training steps, with one interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from fmnist_models.errors import Unsupported, UserError
from fmnist_models.loops.base import Loop
from fmnist_models.loops.fit import FitLoop
from fmnist_models.loops.framework import framework
from fmnist_models.loops.multistep import MultistepLoop
from fmnist_models.task import DOCUMENTED_LOSS, DOCUMENTED_SCORE

LOOPS: dict[str, type[Loop]] = {
    loop.name: loop for loop in (FitLoop, MultistepLoop, framework().compiled)
}


def compile_model(
    model: Any,
    optimizer: Any,
    loop: str,
    loss: Any = DOCUMENTED_LOSS,
    metrics: Any = (DOCUMENTED_SCORE,),
) -> list[str]:
    """Compile `model` with the loop's arguments.

    Args:
        model: an uncompiled model.
        optimizer: a fresh optimizer.
        loop: name of the loop.
        loss: as `keras.Model.compile` takes it; the documented one by default.
        metrics: as `keras.Model.compile` takes them; the documented one by default.

    Returns:
        warnings of changes that the model's own `compile` made to the optimizer.

    Raises:
        UserError: the model's own `compile` does not take the arguments of Keras's, uses another
            optimizer or does not call Keras's.
        Unsupported: the step is not compiled as the loop requires.
    """
    name, given = model.name, optimizer.get_config()
    wanted = LOOPS[loop].compile_arguments
    own_compile = type(model).compile is not keras.Model.compile
    metrics = list(metrics) if isinstance(metrics, tuple) else metrics
    try:
        model.compile(optimizer=optimizer, loss=loss, metrics=metrics, **wanted)
    except TypeError as error:
        if not own_compile:
            raise
        raise UserError(
            f"compile() of model {name!r} raised TypeError: {error}: let it take the arguments of "
            "keras.Model.compile and hand them on"
        ) from error
    if not model.compiled or model.optimizer is None:
        raise UserError(f"compile() of model {name!r} does not call super().compile(...)")
    _refuse_uncompiled(model, loop)
    return _changed_optimizer(model, optimizer, given)


def keep_compiled(model: Any, loop: str) -> None:
    """Give a model that its own function compiled the loop's arguments, and change nothing else.

    In `fit` it keeps its own `jit_compile` and `steps_per_execution`. Programs that its function
    traced, such as by a `fit`, are forgotten: they have the arguments and the step of that time.

    Raises:
        UserError: it was compiled without an optimizer.
        Unsupported: the step is not compiled as the loop requires.
    """
    if model.optimizer is None:
        raise UserError(f"model {model.name!r} is compiled without an optimizer: give it one")
    wanted = LOOPS[loop].compile_arguments
    for argument, value in wanted.items():
        setattr(model, argument, value)
    model.train_function = model.test_function = model.predict_function = None
    _refuse_uncompiled(model, loop)


def _refuse_uncompiled(model: Any, loop: str) -> None:
    """Refuse a model that does not train as the loop requires.

    Raises:
        Unsupported: it runs eagerly, or an argument of the loop does not hold.
    """
    wanted, name = LOOPS[loop].compile_arguments, model.name
    if wanted and (model.run_eagerly or framework().runs_eagerly()):
        raise Unsupported(
            f"model {name!r} runs eagerly, which nothing of --loops {loop} does: leave out "
            "run_eagerly and settings of the framework that do the same, or choose --loops fit"
        )
    # `compiled` makes an XLA program itself, so Keras's settings do not matter.
    for argument in wanted if loop != "compiled" else ():
        if getattr(model, argument) != wanted[argument]:
            raise Unsupported(
                f"model {name!r} has {argument}={getattr(model, argument)} where --loops {loop} "
                f"is {argument}={wanted[argument]}: a compile() of its own, a layer that XLA "
                "does not support, or deterministic operations turned it off; choose --loops fit"
            )


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
