"""`fit`: one `Model.fit` call, as users write it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import keras

from fmnist_models.arrays import Arrays
from fmnist_models.errors import Unsupported, UserError
from fmnist_models.loops.base import Loop, Observer, Work, read_logs
from fmnist_models.loops.callbacks import sees_batches
from fmnist_models.loops.share import Share
from fmnist_models.stream import Stream

# Steps of a stream in the warm-up: the first is traced and compiled, the second shows that it fits.
_WARM_UP_STEPS = 2
# Most batches, and rounds of steps, that are read in the warm-up for the last batch of a stream.
# Over more of them, one compilation is little.
_MOST_READ, _MOST_ROUNDS_READ = 10_000, 10


class FitLoop(Loop):
    """Trains through one `Model.fit` call.

    The window begins and ends at calls of `Model.train_function`, not in batch callbacks. With a
    batch callback, Keras copies the metrics to the host after every step, which a plain `fit`
    does not do, so the measurement would slow the training. The window of a stream ends with its
    epoch, because only its end tells which call was the last.

    Raises:
        Unsupported: Keras cannot train the work on its replicas.
    """

    name = "fit"
    compile_arguments: ClassVar[Mapping[str, Any]] = {}
    needs_compiler: ClassVar[bool] = False

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        if work.replicas.spread and (reason := self.framework.refuses_spread(work)):
            raise Unsupported(reason)

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
        if isinstance(work.data, Stream):
            self._refuse_split_calls(work.data)
            most = work.steps or _WARM_UP_STEPS
            steps = max(min(_WARM_UP_STEPS, most), min(work.model.steps_per_execution, most))
            self._fit_stream(work.data, steps, epochs=1, **self._weighted)
            if steps != work.data.batches:
                self._exercise_last(work.data)
            return
        partial = work.arrays.rows % work.batch_size
        few = work.arrays.first(min(work.arrays.rows, 2 * work.batch_size) + partial)
        self._fit_arrays(few, shuffle=True, epochs=1, **self._weighted)

    def _exercise_last(self, stream: Stream) -> None:
        """Train on a smaller last batch of a stream, for whose size XLA compiles anew."""
        if not self.work.model.jit_compile or stream.endless:
            return
        most = _MOST_READ if stream.steps is None else _MOST_ROUNDS_READ * stream.steps
        last = self.framework.last_batch(replace(stream, steps=None).open(), most)
        if last is not None:
            with self._dividing(stream):
                self.work.model.fit(last, steps_per_epoch=1, shuffle=False, **self._weighted)

    @contextmanager
    def _dividing(self, stream: Stream) -> Iterator[None]:
        """Within the context, what the framework cannot divide by the replicas has its remedy.

        Raises:
            Unsupported: a batch of the stream does not divide.
        """
        try:
            yield
        except ValueError as error:
            if not self.framework.cannot_divide(error):
                raise
            raise Unsupported(
                f"{stream.name}: a batch does not divide by {self.work.replicas.count} replicas: "
                "drop the smaller last batch, or choose --loops compiled with --cache-stream"
            ) from error

    def _refuse_split_calls(self, stream: Stream) -> None:
        """Refuse rounds that end within a call of several steps, where the stream goes on.

        Raises:
            Unsupported: the steps of a round are no multiple of those of a call.
        """
        steps, call = stream.steps, int(self.work.model.steps_per_execution)
        if steps is None or steps % call == 0:
            return
        fits = math.ceil(steps / call) * call
        if stream.batches is not None:
            # Keras ends a round at the end of a stream that does not repeat.
            while fits < stream.batches and not stream.repeats and stream.batches % fits:
                fits += call
            # All batches are an epoch, which may end within a call.
            fits = min(fits, stream.batches)
        another = "" if self.name == "fit" else ", or choose --loops fit"
        raise Unsupported(
            f"--steps {steps}: a call of --loops {self.name} takes {call} batches of "
            f"{stream.name}, and a round is whole calls or an epoch: name --steps {fits}{another}"
        )

    def train(self, observer: Observer, max_epochs: int) -> None:
        """Train until the observer stops it, for at most `max_epochs` epochs.

        Raises:
            UserError: a stream ends within a round of `steps`.
        """
        work = self.work
        model = work.model
        model.make_train_function()
        plain = model.train_function
        watched = _Windows(plain, observer, self)
        model.train_function = watched.call
        end = _EndWithBatches if any(map(sees_batches, work.callbacks)) else _End
        callbacks = [_EpochEnd(observer, watched), *work.callbacks, end(self, watched)]
        try:
            self._fit(epochs=max_epochs, callbacks=callbacks, **self._weighted)
        finally:
            model.train_function = plain
        if isinstance(work.data, Stream) and not watched.ended:
            raise UserError(
                f"{work.data.name}: the stream ended within a round: name fewer --steps, or let "
                "the stream repeat"
            )

    @property
    def _weighted(self) -> dict[str, Any]:
        """Arguments of every call of `Model.fit`."""
        weights = self.work.class_weight
        return {"verbose": 0, "class_weight": None if weights is None else dict(weights)}

    @property
    def steps_a_call(self) -> int:
        """Steps in one call of a function of the framework."""
        return int(self.work.model.steps_per_execution) if self.framework.joins_steps else 1

    def executions(self) -> int | None:
        """Calls of the train function in an epoch; None for a stream."""
        if isinstance(self.work.data, Stream):
            return None
        steps = math.ceil(self.work.arrays.rows / self.work.batch_size)
        return math.ceil(steps / int(self.work.model.steps_per_execution))

    def _fit(self, **settings: Any) -> None:
        """Call `Model.fit` on the training data."""
        work = self.work
        if isinstance(work.data, Stream):
            self._fit_stream(work.data, work.data.steps, **settings)
            return
        self._fit_arrays(work.arrays, shuffle=work.shuffle, **settings)

    def _fit_arrays(self, arrays: Arrays, *, shuffle: bool, **settings: Any) -> None:
        work = self.work
        if work.replicas.processes > 1:
            work.model.fit(Share(work, arrays, shuffle=shuffle), **settings)
            return
        work.model.fit(
            arrays.x,
            arrays.y,
            sample_weight=arrays.sample_weight,
            batch_size=work.batch_size,
            shuffle=shuffle,
            **settings,
        )

    def _fit_stream(self, stream: Stream, steps: int | None, **settings: Any) -> None:
        shuffle = stream.orders and self.work.shuffle
        with self._dividing(stream):
            self.work.model.fit(stream.open(), steps_per_epoch=steps, shuffle=shuffle, **settings)


class _Windows:
    """Keras's train function, with the observer called at the first and last call of each epoch.

    Attributes:
        ended: the observer wanted no more epochs.
    """

    def __init__(
        self, train_function: Callable[..., Any], observer: Observer, loop: FitLoop
    ) -> None:
        self._train_function = train_function
        self._observer = observer
        self._loop = loop
        self._executions = 1 if loop.work.one_call else loop.executions()
        # Of Keras's own step over arrays, rows and shapes are known without counting.
        counts = isinstance(loop.work.data, Stream) or not loop.watch.plain
        self._batches = loop.watch.batches if counts else None
        self._done = 0
        self.ended = False

    def call(self, *given: Any) -> Any:
        """Run one execution; tell the observer of the first and last one of an epoch.

        Keras gives an iterator of batches, on JAX after the state of the model.
        """
        if self._done == 0:
            self._observer.window_opens()
        # Counted first: the call that meets the end of a stream does not return.
        self._done += 1
        told = self._train_function(*(self._batches(given) if self._batches else given))
        if self._done == self._executions:
            self._observer.window_closes()
        # What a callback asked for before this call would end the epoch after it.
        self._loop.decide_end(wanted=self._loop.work.one_call)
        return told

    def epoch_has_ended(self) -> None:
        """Close the window of a stream, whose number of executions was not known."""
        if self._executions is None:
            self._observer.window_closes()
        self._done = 0


class _EpochEnd(keras.callbacks.Callback):
    """Tells the observer of each epoch's end, before the user's callbacks are called."""

    def __init__(self, observer: Observer, windows: _Windows) -> None:
        super().__init__()
        self._observer = observer
        self._windows = windows

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Pass the epoch's logs to the observer, and what it adds to the callbacks after this."""
        self._windows.epoch_has_ended()
        told = read_logs(logs)
        self._windows.ended = not self._observer.epoch_ends(told)
        if isinstance(logs, dict):
            logs.update(told)


class _End(keras.callbacks.Callback):
    """Ends the training when the observer wants it, and never before.

    The user's callbacks, which are called first, may have asked for an end: the case decides.
    """

    def __init__(self, loop: Loop, windows: _Windows) -> None:
        super().__init__()
        self._loop = loop
        self._windows = windows

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the updates so far, after what the user's callbacks did."""
        self._loop.note_updates()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Continue until the observer has seen enough."""
        self._loop.decide_end(wanted=self._windows.ended)


class _EndWithBatches(_End):
    """The same, and no callback ends an epoch before its last step.

    Only for callbacks that see batches themselves: without one, Keras does not wait for the logs
    of each step. `async_safe` leaves to the others whether it does.
    """

    async_safe = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Go on to the next step."""
        self._loop.decide_end(wanted=self._loop.work.one_call)
