"""`compiled`: an epoch as one compiled call, or few, over data that stays on the device.

How the call is made depends on the framework: `fmnist_models.loops.framework`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import keras
import numpy as np
from numpy.typing import NDArray

from fmnist_models.arrays import Arrays
from fmnist_models.errors import Unsupported, UserError
from fmnist_models.loops.base import Loop, Observer, Work, read_logs
from fmnist_models.loops.callbacks import sees_batches

# Most rows of one gather for several steps. One gather for several short steps saves most of its
# cost. At a batch of 128 it cost more than it saved, and more than 5 steps of 32 gained nothing
# (results/experiments.md).
BLOCK_ROWS = 160
# Full steps of a work of one call.
_FEW_STEPS = 2


class CompiledLoop(Loop):
    """Trains each epoch in compiled calls: in one, where the framework compiles loops.

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
        self._data = tuple(self._put(_rows_of_numbers(leaf)) for leaf in leaves)
        self._build()
        self._epoch = self.new_program()

    def _build(self) -> None:
        """Make what must be there before the first program; nothing by default."""

    @property
    def program(self) -> Any:
        """The function of a whole epoch."""
        return self._epoch

    @program.setter
    def program(self, program: Any) -> None:
        """Use another function from now on."""
        self._epoch = program

    @property
    def compiles(self) -> bool:
        """Always."""
        return True

    @property
    def steps_a_call(self) -> int:
        """Steps in one call of a function of the framework: those of an epoch."""
        full, _, rest = self._steps()
        return full + bool(rest)

    @property
    def resident(self) -> tuple[Any, ...]:
        """The training data."""
        return self._data

    @abstractmethod
    def _put(self, array: NDArray[Any]) -> Any:
        """The array on the work's device, with one copy of it in the host's memory at most."""

    @abstractmethod
    def _call(self, order: NDArray[np.int32]) -> Any:
        """Dispatch the program of an epoch over the rows in this order; returns what it does."""

    @abstractmethod
    def _logs(self, told: Any) -> Any:
        """The logs that `Model.fit` reports, from what `_call` returned; the window is closed."""

    def _steps(self) -> tuple[int, int, int]:
        """(full steps, steps that share one gather, rows of the last partial step) of a call."""
        full, rest = divmod(self.work.arrays.rows, self.work.batch_size)
        full = min(full, _FEW_STEPS) if self.work.one_call else full
        return full, steps_a_block(full, self.work.batch_size), rest

    def _packed(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """The leaves of a batch, in their own shapes, as the step takes them."""
        weights = [] if self.work.class_weight is None else [leaves[-1]]
        nests = leaves[: len(leaves) - len(weights)]
        return (*keras.tree.pack_sequence_as(self.work.arrays.packed, list(nests)), *weights)

    def _run(self, epoch: int) -> Any:
        """Draw the epoch's order and dispatch its call."""
        order = np.arange(self.work.arrays.rows, dtype=np.int32)
        if self.work.shuffle:
            np.random.default_rng((self.work.seed, epoch)).shuffle(order)
        return self._call(order)

    def _exercise(self) -> None:
        self._logs(self._run(0))

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
            self.note_updates()
            observer.window_opens()
            told = self._run(epoch)
            observer.window_closes()
            logs = read_logs(self._logs(told))
            more = observer.epoch_ends(logs)
            callbacks.on_epoch_end(epoch, logs)
            self.decide_end(wanted=not more)
            if not more:
                break
        callbacks.on_train_end(logs)


def steps_a_block(steps: int, batch_size: int) -> int:
    """Number of steps that share one gather.

    It is the largest divisor of `steps` with at most `BLOCK_ROWS` rows together, at least 1. With
    a divisor, XLA knows the number of iterations of both loops. So on a GPU it need not wait for
    the device before each iteration.
    """
    most = max(1, BLOCK_ROWS // batch_size)
    return next(count for count in range(min(most, max(steps, 1)), 0, -1) if steps % count == 0)


def build_metrics_and_losses(work: Work, plain: bool) -> None:
    """Make the variables of metrics and losses, as `Model.fit` does from its first batch.

    Of a model that only its own step can call, the metrics are built already.
    """
    model = work.model
    with suppress(*(() if plain else (Exception,))):
        model._symbolic_build(data_batch=work.batch.first(1).packed)
    model.reset_metrics()


def _rows_of_numbers(leaf: NDArray[Any]) -> NDArray[Any]:
    """An array with one row of numbers for each sample, or one number."""
    return leaf if leaf.ndim == 1 else leaf.reshape(len(leaf), -1)


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
