"""`compiled`: a whole epoch as one XLA call over data that stays on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from fmnist_models.dataset import PIXEL_SCALE
from fmnist_models.loops.base import Loop, Observer, Work, read_logs

# Most rows of one gather for several steps. One gather for several short steps saves most of its
# cost. At a batch of 128 it cost more than it saved, and more than 5 steps of 32 gained nothing
# (results/experiments.md).
BLOCK_ROWS = 160
# Most values that are kept of the logs of a model's own step.
_MOST_LOGS = 32


class CompiledLoop(Loop):
    """Trains each epoch in one XLA-compiled call.

    The steps are the model's own `train_step`. So everything that `fit` trains (extra losses,
    metrics, batch normalization, dropout, loss scaling, an overridden step) trains here, with any
    Keras model and optimizer. Left out is everything between the steps: Python, dispatch and the
    input pipeline.

    Images stay on the device as the published bytes, where `Work` has them: a quarter of the
    memory to read at random. Each step converts its batch to the same float32 values that `fit`
    gets, bit for bit.
    """

    name = "compiled"
    compile_arguments: ClassVar[Mapping[str, Any]] = {"jit_compile": True}

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        # Images are flat, because XLA copies and scales 784 values in one pass, but 28 by 28 in
        # short ones.
        x = work.x if work.pixels is None else work.pixels
        with tf.device(work.device):
            self._x = tf.constant(x.reshape(work.samples, -1))
            self._y = tf.constant(work.y)
            self._last_logs = None if self.watch.plain else _LastLogs()
        self._epoch = self.new_program()

    @property
    def program(self) -> Any:
        """The function of a whole epoch."""
        return self._epoch

    @program.setter
    def program(self, program: Any) -> None:
        """Use another function from now on."""
        self._epoch = program

    def new_program(self) -> Any:
        """A new function of a whole epoch, with the model's step of its first call."""
        return tf.function(self._whole_epoch, jit_compile=True, autograph=False)

    @property
    def resident(self) -> tuple[Any, ...]:
        """The training images and labels."""
        return (self._x, self._y)

    def _whole_epoch(self, x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> Any:
        batch_size = self.work.batch_size
        full, rest = divmod(self.work.samples, batch_size)
        block = steps_a_block(full, batch_size)
        rows = block * batch_size

        def step(x: tf.Tensor, y: tf.Tensor) -> None:
            """Run one step, and keep the logs of a model's own step."""
            logs = self._step(x, y)
            if self._last_logs:
                self._last_logs.keep(logs)

        def train_on_block(number: tf.Tensor) -> None:
            """Run one gather, and its steps."""
            chosen = tf.slice(order, [number * rows], [rows])
            block_x, block_y = tf.gather(x, chosen), tf.gather(y, chosen)
            if block == 1:
                step(block_x, block_y)
                return

            def train_on(place: tf.Tensor) -> None:
                """Run one step on its slice of the block."""
                first = place * batch_size
                step_x = tf.slice(block_x, [first, 0], [batch_size, x.shape[1]])
                step(step_x, tf.slice(block_y, [first], [batch_size]))

            _repeat(block, train_on)

        if full:
            _repeat(full // block, train_on_block)
        if rest:
            chosen = order[full * batch_size :]
            step(tf.gather(x, chosen), tf.gather(y, chosen))
        if self._last_logs:
            return self._last_logs.beside(self.work.model)
        return self.work.model.get_metrics_result()

    def _step(self, x: tf.Tensor, y: tf.Tensor) -> Any:
        if x.dtype == tf.uint8:
            x = _scaled(x)
        return self.work.model.train_step((tf.reshape(x, [-1, *self.work.x.shape[1:]]), y))

    def _run(self, epoch: int) -> Any:
        """Draw the epoch's order and train on it; returns the metrics, as tensors on the device."""
        order = np.arange(self.work.samples, dtype=np.int32)
        if self.work.shuffle:
            np.random.default_rng((self.work.seed, epoch)).shuffle(order)
        with tf.device(self.work.device):
            return self._epoch(self._x, self._y, tf.constant(order))

    def _exercise(self) -> None:
        self._run(0)

    def train(self, observer: Observer, max_epochs: int) -> None:
        """Train until the observer stops it, for at most `max_epochs` epochs."""
        for epoch in range(max_epochs):
            self.work.model.reset_metrics()
            observer.window_opens()
            metrics = self._run(epoch)
            observer.window_closes()
            if not observer.epoch_ends(read_logs(metrics)):
                break


class _LastLogs:
    """The first numbers that the last step of an epoch logged.

    They are stored in a variable, because an XLA loop returns no values of its body.
    """

    def __init__(self) -> None:
        self._kept = tf.Variable(tf.zeros(_MOST_LOGS), trainable=False)
        self._names: list[str] = []

    def keep(self, logs: Any) -> None:
        """Store the single numbers of one step's logs."""
        numbers = dict(_numbers(logs))
        self._names = list(numbers)[:_MOST_LOGS]
        if self._names:
            told = tf.stack([numbers[name] for name in self._names])
            self._kept.assign(tf.pad(told, [[0, _MOST_LOGS - len(self._names)]]))

    def beside(self, model: keras.Model) -> dict[str, Any]:
        """The logs that `Model.fit` reports.

        These are the metrics where the step logs these or nothing, else the last logs.
        """
        metrics = dict(model.get_metrics_result())
        if not self._names or set(self._names) == set(metrics):
            return metrics
        return dict(zip(self._names, tf.unstack(self._kept), strict=False))


def _numbers(logs: Any) -> Iterator[tuple[str, tf.Tensor]]:
    """The single numbers in a step's logs, including those in nested dictionaries."""
    for name, value in logs.items() if isinstance(logs, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif tf.convert_to_tensor(value).shape.num_elements() == 1:
            yield name, tf.reshape(tf.cast(tf.convert_to_tensor(value), tf.float32), [])


def steps_a_block(steps: int, batch_size: int) -> int:
    """Number of steps that share one gather.

    It is the largest divisor of `steps` with at most `BLOCK_ROWS` rows together, at least 1. With
    a divisor, XLA knows the number of iterations of both loops. So on a GPU it need not wait for
    the device before each iteration.
    """
    most = max(1, BLOCK_ROWS // batch_size)
    return next(count for count in range(min(most, max(steps, 1)), 0, -1) if steps % count == 0)


def _repeat(times: int, body: Any) -> None:
    """Call `body` with 0 to times - 1, in one XLA loop."""

    def turn(number: tf.Tensor) -> tuple[tf.Tensor]:
        """Call the body, and return the next number."""
        body(number)
        return (number + 1,)

    tf.while_loop(lambda number: number < times, turn, (tf.constant(0),))


def _scaled(pixels: tf.Tensor) -> tf.Tensor:
    """Bytes divided by 255.0, equal to that division bit for bit.

    XLA replaces a division by 255 with a product with 1/255, which rounds differently for 126 of
    the 256 bytes. With the two parts of `PIXEL_SCALE` the result is right, because the product
    with the first part is exact.
    """
    values = tf.cast(pixels, tf.float32)
    high, low = PIXEL_SCALE
    return values * high + values * low
