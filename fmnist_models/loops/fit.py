"""`fit`: one `Model.fit` call, what users write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from fmnist_models.loops.base import Loop, Observer, read_logs


class FitLoop(Loop):
    """Trains through one `Model.fit` call.

    The window is taken around the calls of `Model.train_function`, not in batch
    callbacks: with a batch callback present Keras copies the metrics to the host after
    every step, which a bare `fit` never does, so the measurement would slow what it
    measures.
    """

    name = "fit"
    compile_arguments: ClassVar[Mapping[str, Any]] = {}

    @property
    def program(self) -> Any:
        """Keras's train function."""
        return self.work.model.train_function

    @program.setter
    def program(self, program: Any) -> None:
        """As `Loop.program`."""
        self.work.model.train_function = program

    def new_program(self) -> Any:
        """A train function of the model's step as it is now."""
        present = self.program
        self.work.model.make_train_function(force=True)
        made, self.program = self.program, present
        return made

    def _exercise(self) -> None:
        work = self.work
        partial = work.samples % work.batch_size
        rows = min(work.samples, 2 * work.batch_size) + partial
        work.model.fit(
            work.x[:rows], work.y[:rows], batch_size=work.batch_size, epochs=1, verbose=0
        )

    def train(self, observer: Observer, max_epochs: int) -> None:
        """Train until the observer has seen enough, at most `max_epochs` epochs."""
        work = self.work
        model = work.model
        model.make_train_function()
        plain = model.train_function
        executions = math.ceil(work.steps / model.steps_per_execution)
        model.train_function = _windowed(plain, executions, observer)
        try:
            self._fit(epochs=max_epochs, verbose=0, callbacks=[_EpochEnd(observer)])
        finally:
            model.train_function = plain

    def _fit(self, **settings: Any) -> None:
        """Call `Model.fit` on the training images."""
        work = self.work
        work.model.fit(work.x, work.y, batch_size=work.batch_size, shuffle=work.shuffle, **settings)


def _windowed(train_function: Any, executions: int, observer: Observer) -> Any:
    """`train_function`, with the observer told before the first and after the last call
    of each epoch."""
    done = 0

    def call(iterator: Any) -> Any:
        """One execution; the observer hears of an epoch's first and last."""
        nonlocal done
        if done == 0:
            observer.window_opens()
        logs = train_function(iterator)
        done += 1
        if done == executions:
            done = 0
            observer.window_closes()
        return logs

    return call


class _EpochEnd(keras.callbacks.Callback):
    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Hand the epoch's logs over; stop when the observer has seen enough."""
        if not self._observer.epoch_ends(read_logs(logs)):
            self.model.stop_training = True
