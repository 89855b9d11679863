"""The loops: three ways of driving the same training, behind one interface."""

from __future__ import annotations

from fmnist_models.loops.base import Loop, Observer, Snapshot, Work, state_variables
from fmnist_models.loops.compiled import CompiledLoop
from fmnist_models.loops.fit import FitLoop
from fmnist_models.loops.multistep import MultistepLoop

LOOPS: dict[str, type[Loop]] = {loop.name: loop for loop in (FitLoop, MultistepLoop, CompiledLoop)}

__all__ = ["LOOPS", "Loop", "Observer", "Snapshot", "Work", "compile_model", "state_variables"]


def compile_model(model: object, optimizer: object, loop: str) -> None:
    """Compile `model` with the documented loss and metric, as `loop` wants it."""
    model.compile(  # type: ignore[attr-defined]
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        **LOOPS[loop].compile_arguments,
    )
