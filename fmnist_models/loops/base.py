"""What every loop shares: the work it is given, the observer it tells, and a warm-up
that leaves no trace.

A loop knows nothing of timing. It tells an `Observer` when the first step of an epoch is
about to be dispatched and when the last one has been; what the observer measures is its
own affair.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import keras
import numpy as np
from numpy.typing import NDArray


class Observer(Protocol):
    """What a loop reports to while it trains."""

    def window_opens(self) -> None:
        """The next thing that happens is the first step of an epoch."""

    def window_closes(self) -> None:
        """The last step of the epoch has been dispatched; it may still be running."""

    def epoch_ends(self, logs: Mapping[str, float]) -> bool:
        """The epoch's running loss and metrics are known; return False to stop training."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is trained on what.

    Attributes:
        model: a compiled Keras model.
        x: training inputs, float32, shape (samples, *model input shape).
        y: training labels, int32, shape (samples,).
        batch_size: samples a step; the last step of an epoch takes what is left.
        seed: starts shuffling and every other draw.
        shuffle: a new order each epoch; False trains in the order given.
        device: TensorFlow's name of the device that resident data belongs on, such as
            `/GPU:0`; None leaves it to TensorFlow.
        pixels: `x` before it was divided by 255.0, uint8, in the same shape, for loops that
            keep images on the device; None where x is something else.
    """

    model: keras.Model
    x: NDArray[np.float32]
    y: NDArray[np.int32]
    batch_size: int
    seed: int
    shuffle: bool = True
    device: str | None = None
    pixels: NDArray[np.uint8] | None = None

    @property
    def samples(self) -> int:
        """Samples an epoch."""
        return len(self.x)

    @property
    def steps(self) -> int:
        """Optimizer updates an epoch, the last partial batch included."""
        return math.ceil(self.samples / self.batch_size)


class Loop(ABC):
    """One way of driving the steps of an epoch; each trains the same work.

    Attributes:
        name: as the `loop` axis of the matrix spells it.
        compile_arguments: what the loop adds to `Model.compile`.
        traces: how often Python code of the training step ran, which inside a
            `tf.function` means how often it was traced.
    """

    name: ClassVar[str]
    compile_arguments: ClassVar[Mapping[str, Any]]

    def __init__(self, work: Work) -> None:
        self.work = work
        self.traces = 0
        step = work.model.train_step

        def counted(data: Any) -> Any:
            """The model's own step, counted where it is traced."""
            self.traces += 1
            return step(data)

        work.model.train_step = counted
        work.model.optimizer.build(work.model.trainable_variables)

    def warm_up(self) -> None:
        """Seed, then trace and compile every shape that an epoch holds; weights, optimizer,
        metrics and the model's seeds are put back as they were, bit for bit.

        Seeding comes first, and once: TensorFlow forgets its kernels whenever it is seeded
        (`TFE_ContextClearCaches`), so that a step after it takes 60 ms more. What `fit` shuffles
        by goes on from the warm-up's draws, which depend on the seed alone.
        """
        snapshot = Snapshot(self.work.model)
        keras.utils.set_random_seed(self.work.seed)
        self._exercise()
        snapshot.restore()

    @abstractmethod
    def train(self, observer: Observer, max_epochs: int) -> None:
        """Train until the observer has seen enough, at most `max_epochs` epochs; after the
        warm-up, which seeds."""

    @property
    @abstractmethod
    def program(self) -> Any:
        """What trains the steps: a traced function, which another may be put in place of."""

    @program.setter
    @abstractmethod
    def program(self, program: Any) -> None: ...

    @abstractmethod
    def new_program(self) -> Any:
        """A program that will be traced when it is first used, from the model's step as it is
        then, or is now."""

    @property
    def resident(self) -> tuple[Any, ...]:
        """Tensors that the loop keeps on the device between epochs."""
        return ()

    @abstractmethod
    def _exercise(self) -> None:
        """Run each shape of step at least once, at any cost to the model's state."""


class Snapshot:
    """The values of a model's weights, optimizer slots and seeds at one moment."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._values = [(v, _copy(v)) for v in state_variables(model)]

    def restore(self) -> None:
        """Assign every value again; metrics start from zero."""
        for variable, value in self._values:
            variable.assign(value)
        self._model.reset_metrics()

    def changed(self) -> bool:
        """Whether any trainable weight differs from the snapshot."""
        trainable = {id(v) for v in self._model.trainable_variables}
        return any(
            not np.array_equal(_copy(v), value) for v, value in self._values if id(v) in trainable
        )


def state_variables(model: keras.Model) -> list[keras.Variable]:
    """Everything that training changes but metrics: weights, seed generators, optimizer
    slots and counters, loss scaling included; each once."""
    variables = list(model.variables)
    optimizer = model.optimizer
    while optimizer is not None:
        variables += optimizer.variables
        # Loss scaling wraps the optimizer, and its own list leaves out the inner one's.
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return list({id(v): v for v in variables}.values())


def _copy(variable: keras.Variable) -> NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(variable))
