"""`compiled`: a whole epoch as one XLA call over data that stays on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fmnist_models.arrays import Arrays
from fmnist_models.dataset import PIXEL_SCALE
from fmnist_models.errors import Unsupported, UserError
from fmnist_models.loops.base import Loop, Observer, Work, read_logs
from fmnist_models.loops.callbacks import sees_batches

# Most rows of one gather for several steps. One gather for several short steps saves most of its
# cost. At a batch of 128 it cost more than it saved, and more than 5 steps of 32 gained nothing
# (results/experiments.md).
BLOCK_ROWS = 160
# Full steps of a work of one call.
_FEW_STEPS = 2
# Arrays of at least this size are copied with care.
_LARGE_BYTES, _ALIGNMENT = 2**26, 64
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
        data = work.arrays
        _refuse_batch_callbacks(work.callbacks)
        super().__init__(work)
        leaves = data.leaves if data.pixels is None else [data.pixels, *data.leaves[1:]]
        leaves += [] if work.class_weight is None else [_class_weights(data, work.class_weight)]
        self._shapes = [leaf.shape[1:] for leaf in leaves]
        # Images are flat, because XLA copies and scales 784 values in one pass, but 28 by 28 in
        # short ones.
        with tf.device(work.device):
            self._data = tuple(_tensor(_rows_of_numbers(leaf)) for leaf in leaves)
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
        """The training data."""
        return self._data

    def _whole_epoch(self, data: tuple[tf.Tensor, ...], order: tf.Tensor) -> Any:
        batch_size = self.work.batch_size
        full, rest = divmod(self.work.arrays.rows, batch_size)
        full = min(full, _FEW_STEPS) if self.work.one_call else full
        block = steps_a_block(full, batch_size)
        rows = block * batch_size

        def step(batch: Sequence[tf.Tensor]) -> None:
            """Run one step, and keep the logs of a model's own step."""
            logs = self._step(batch)
            if self._last_logs:
                self._last_logs.keep(logs)

        def train_on_block(number: tf.Tensor) -> None:
            """Run one gather, and its steps."""
            chosen = tf.slice(order, [number * rows], [rows])
            gathered = [tf.gather(leaf, chosen) for leaf in data]
            if block == 1:
                step(gathered)
                return

            def train_on(place: tf.Tensor) -> None:
                """Run one step on its slice of the block."""
                step([_slice(leaf, place * batch_size, batch_size) for leaf in gathered])

            _repeat(block, train_on)

        if full:
            _repeat(full // block, train_on_block)
        if rest:
            step([tf.gather(leaf, order[-rest:]) for leaf in data])
        if self._last_logs:
            return self._last_logs.beside(self.work.model)
        return self.work.model.get_metrics_result()

    def _step(self, batch: Sequence[tf.Tensor]) -> Any:
        data = self.work.arrays
        tensors = list(batch)
        if data.pixels is not None:
            tensors[0] = _scaled(tensors[0])
        leaves = [
            tf.reshape(leaf, [-1, *shape])
            for leaf, shape in zip(tensors, self._shapes, strict=True)
        ]
        weights = [] if self.work.class_weight is None else [leaves.pop()]
        packed = keras.tree.pack_sequence_as(data.packed, leaves)
        return self.work.model.train_step((*packed, *weights))

    def _run(self, epoch: int) -> Any:
        """Draw the epoch's order and train on it; returns the metrics, as tensors on the device."""
        order = np.arange(self.work.arrays.rows, dtype=np.int32)
        if self.work.shuffle:
            np.random.default_rng((self.work.seed, epoch)).shuffle(order)
        with tf.device(self.work.device):
            return self._epoch(self._data, tf.constant(order))

    def _exercise(self) -> None:
        self._run(0)

    def train(self, observer: Observer, max_epochs: int) -> None:
        """Train until the observer stops it, for at most `max_epochs` epochs."""
        model = self.work.model
        # With what `Model.fit` gives to callbacks.
        callbacks = keras.callbacks.CallbackList(
            list(self.work.callbacks),
            add_history=True,
            model=model,
            verbose=0,
            epochs=max_epochs,
            steps=self.work.steps,
        )
        model.stop_training = False
        logs: dict[str, float] = {}
        callbacks.on_train_begin()
        for epoch in range(max_epochs):
            model.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            observer.window_opens()
            metrics = self._run(epoch)
            observer.window_closes()
            logs = read_logs(metrics)
            more = observer.epoch_ends(logs)
            callbacks.on_epoch_end(epoch, logs)
            self.decide_end(wanted=not more)
            if not more:
                break
        callbacks.on_train_end(logs)


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


def _tensor(array: NDArray[Any]) -> tf.Tensor:
    """The array on the present device, with one copy of it in the host's memory at most.

    TensorFlow copies an array twice for a moment. A large one is copied once here, to where
    TensorFlow needs no other copy: its kernels want memory that is aligned to 64 bytes.
    """
    if array.nbytes < _LARGE_BYTES or array.dtype.kind not in "fiu":
        return tf.constant(array)
    room = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    first = -room.ctypes.data % _ALIGNMENT
    aligned = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    aligned[...] = array
    return tf.identity(tf.experimental.dlpack.from_dlpack(aligned.__dlpack__()))


def _rows_of_numbers(leaf: NDArray[Any]) -> NDArray[Any]:
    """An array with one row of numbers for each sample, or one number."""
    return leaf if leaf.ndim == 1 else leaf.reshape(len(leaf), -1)


def _slice(leaf: tf.Tensor, first: tf.Tensor, rows: int) -> tf.Tensor:
    if len(leaf.shape) == 1:
        return tf.slice(leaf, [first], [rows])
    return tf.slice(leaf, [first, 0], [rows, leaf.shape[1]])


def _class_weights(data: Arrays, weights: Mapping[int, float]) -> NDArray[np.float32]:
    """The weight of each sample, from its class, as `Model.fit` computes it.

    Raises:
        UserError: there are weights of samples too, or several labels.
    """
    if data.sample_weight is not None or not isinstance(data.y, np.ndarray):
        raise UserError(
            "class_weight works with one array of labels and without sample weights, as in "
            "Model.fit: leave class_weight out"
        )
    one_hot = data.y.ndim > 1 and data.y.shape[-1] > 1
    labels = data.y.argmax(axis=-1) if one_hot else data.y.reshape(len(data.y)).astype(np.int64)
    table = np.ones(max(int(labels.max()), *weights) + 1, np.float32)
    for label, weight in weights.items():
        table[label] = weight
    found: NDArray[np.float32] = table[labels]
    return found


def _refuse_batch_callbacks(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Refuse callbacks that must be called within an epoch.

    Raises:
        Unsupported: one of them has a method for batches.
    """
    for callback in filter(sees_batches, callbacks):
        raise Unsupported(
            f"the callback {type(callback).__name__} must see each batch, and an epoch is one call "
            "of --loops compiled: leave it out, or choose --loops fit"
        )


def _scaled(pixels: tf.Tensor) -> tf.Tensor:
    """Bytes divided by 255.0, equal to that division bit for bit.

    XLA replaces a division by 255 with a product with 1/255, which rounds differently for 126 of
    the 256 bytes. With the two parts of `PIXEL_SCALE` the result is right, because the product
    with the first part is exact.
    """
    values = tf.cast(pixels, tf.float32)
    high, low = PIXEL_SCALE
    return values * high + values * low
