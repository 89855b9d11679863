"""`fit`: one `Model.fit` call, as users write it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from fmnist_models.loops.base import Loop, Observer, read_logs


class FitLoop(Loop):
    """Trains through one `Model.fit` call.

    The window begins and ends at calls of `Model.train_function`, not in batch callbacks. With a
    batch callback, Keras copies the metrics to the host after every step, which a plain `fit`
    does not do, so the measurement would slow the training.
    """

    name = "fit"
    compile_arguments: ClassVar[Mapping[str, Any]] = {}

    @property
    def program(self) -> Any:
        """Keras's train function."""
        return self.work.model.train_function

    @program.setter
    def program(self, program: Any) -> None:
        """Use another train function from now on."""
        self.work.model.train_function = program

    def new_program(self) -> Any:
        """A new train function, with the model's present step."""
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
        """Train until the observer stops it, for at most `max_epochs` epochs."""
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
    """`train_function`, with the observer called at the first and last call of each epoch."""
    done = 0

    def call(iterator: Any) -> Any:
        """Run one execution; tell the observer of the first and last one of an epoch."""
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
        """Pass the epoch's logs to the observer; stop the training when it returns False."""
        if not self._observer.epoch_ends(read_logs(logs)):
            self.model.stop_training = True
