"""`compiled` with TensorFlow: a whole epoch as one `tf.function` that XLA compiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fmnist_models.dataset import PIXEL_SCALE
from fmnist_models.loops.base import Work
from fmnist_models.loops.compiled import CompiledLoop

# Arrays of at least this size are copied with care.
_LARGE_BYTES, _ALIGNMENT = 2**26, 64
# Most values that are kept of the logs of a model's own step.
_MOST_LOGS = 32


class TensorFlowCompiledLoop(CompiledLoop):
    """Trains each epoch in one XLA-compiled call of TensorFlow."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        with tf.device(work.device):
            self._last_logs = None if self.watch.plain else _LastLogs()

    def new_program(self) -> Any:
        """A new function of a whole epoch, with the model's step of its first call."""
        return tf.function(self._whole_epoch, jit_compile=True, autograph=False)

    def _put(self, array: NDArray[Any]) -> tf.Tensor:
        with tf.device(self.work.device):
            return _tensor(array)

    def _whole_epoch(self, data: tuple[tf.Tensor, ...], order: tf.Tensor) -> Any:
        batch_size = self.work.batch_size
        full, block, rest = self._steps()
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
        tensors = list(batch)
        if self.work.arrays.pixels is not None:
            tensors[0] = _scaled(tensors[0])
        leaves = [
            tf.reshape(leaf, [-1, *shape])
            for leaf, shape in zip(tensors, self._shapes, strict=True)
        ]
        return self.work.model.train_step(self._packed(leaves))

    def _call(self, order: NDArray[np.int32]) -> Any:
        with tf.device(self.work.device):
            return self._epoch(self._data, tf.constant(order))

    def _logs(self, told: Any) -> Any:
        return told


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


def _slice(leaf: tf.Tensor, first: tf.Tensor, rows: int) -> tf.Tensor:
    if len(leaf.shape) == 1:
        return tf.slice(leaf, [first], [rows])
    return tf.slice(leaf, [first, 0], [rows, leaf.shape[1]])


def _scaled(pixels: tf.Tensor) -> tf.Tensor:
    """Bytes divided by 255.0, equal to that division bit for bit.

    XLA replaces a division by 255 with a product with 1/255, which rounds differently for 126 of
    the 256 bytes. With the two parts of `PIXEL_SCALE` the result is right, because the product
    with the first part is exact.
    """
    values = tf.cast(pixels, tf.float32)
    high, low = PIXEL_SCALE
    return values * high + values * low
