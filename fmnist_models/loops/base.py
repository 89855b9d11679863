"""What every loop shares: the work it is given, the observer it tells, and a warm-up
that leaves no trace.

A loop knows nothing of timing. It tells an `Observer` when the first step of an epoch is
about to be dispatched and when the last one has been; what the observer measures is its
own affair.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fmnist_models.errors import UserError
from fmnist_models.loops.watch import StepWatch, layers_of

# What TensorFlow says where XLA, and not the step itself, is at fault.
_XLA = re.compile(r"XLA|unsupported operations|compile-time constant", re.IGNORECASE)


class Observer(Protocol):
    """What a loop reports to while it trains."""

    def window_opens(self) -> None:
        """The next thing that happens is the first step of an epoch."""

    def window_closes(self) -> None:
        """The last step of the epoch has been dispatched; it may still be running."""

    def epoch_ends(self, logs: Mapping[str, float]) -> bool:
        """The epoch's running loss and metrics are known, as far as the step tells them;
        return False to stop training."""


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
        watch: sees what the training step does.
    """

    name: ClassVar[str]
    compile_arguments: ClassVar[Mapping[str, Any]]

    def __init__(self, work: Work) -> None:
        self.work = work
        self.watch = StepWatch(work.model, work.device)
        work.model.train_step = self.watch.watched_step()
        work.model.optimizer.build(work.model.trainable_variables)
        if not self.watch.plain:
            _build_metrics(work)

    @property
    def traces(self) -> int:
        """How often the training step was traced."""
        return self.watch.traces

    def warm_up(self) -> None:
        """Seed, then trace and compile every shape that an epoch holds; weights, optimizer,
        metrics and the model's seeds are put back as they were, bit for bit.

        Seeding comes first, and once: TensorFlow forgets its kernels whenever it is seeded
        (`TFE_ContextClearCaches`), so that a step after it takes 60 ms more. What `fit` shuffles
        by goes on from the warm-up's draws, which depend on the seed alone.

        Raises:
            UserError: XLA cannot compile the step, and the loop needs it.
        """
        snapshot = Snapshot(self.work.model)
        keras.utils.set_random_seed(self.work.seed)
        try:
            self._exercise()
        except tf.errors.OpError as error:
            if not self.compile_arguments.get("jit_compile") or not _XLA.search(str(error)):
                raise
            raise UserError(
                f"XLA cannot compile the training step of {self.work.model.name!r}, which "
                f"--loops {self.name} needs: leave out what it names, or choose --loops fit: "
                f"{_what_xla_names(str(error))}"
            ) from error
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
    def program(self, program: Any) -> None:
        """Trains by another program from now on."""

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
        self._unbuilt = [o for o in _optimizers(model) if not o.built]

    def restore(self) -> None:
        """Assign every value again; metrics start from zero."""
        for variable, value in self._values:
            variable.assign(value)
        for optimizer in self._unbuilt:
            _begin_again(optimizer)
        for metric in _metrics(self._model):
            metric.reset_state()
        self._model.reset_metrics()

    def changed(self) -> bool:
        """Whether any trainable weight differs from the snapshot."""
        trainable = {id(v) for v in self._model.trainable_variables}
        return any(
            not np.array_equal(_copy(v), value) for v, value in self._values if id(v) in trainable
        )


def state_variables(model: keras.Model) -> list[keras.Variable]:
    """Everything that training changes but metrics: weights, seed generators, optimizer
    slots and counters, loss scaling included, optimizers and TensorFlow variables that the model
    keeps in attributes; each once."""
    variables = list(model.variables)
    for optimizer in _optimizers(model):
        variables += optimizer.variables
    for layer in layers_of(model):
        variables += [v for v in vars(layer).values() if isinstance(v, tf.Variable)]
    return list({id(v): v for v in variables}.values())


def read_logs(logs: Any) -> dict[str, float]:
    """What a step or an evaluation told, as numbers: dictionaries inside are laid open, and what
    is no single number is left out."""
    found: dict[str, float] = {}
    for name, value in logs.items() if isinstance(logs, Mapping) else ():
        if isinstance(value, Mapping):
            found |= read_logs(value)
        elif np.size(value) == 1 and np.issubdtype(np.asarray(value).dtype, np.number):
            found[str(name)] = float(np.asarray(value).reshape(()))
    return found


def _optimizers(model: keras.Model) -> list[Any]:
    """The model's optimizer and those in its attributes; of one that scales the loss, also the
    one inside, whose variables its own list leaves out."""
    pending = [model.optimizer, *vars(model).values()]
    found: dict[int, Any] = {}
    while pending:
        optimizer = pending.pop(0)
        if isinstance(optimizer, keras.optimizers.Optimizer) and id(optimizer) not in found:
            found[id(optimizer)] = optimizer
            pending.append(getattr(optimizer, "inner_optimizer", None))
    return list(found.values())


def _build_metrics(work: Work) -> None:
    """Build the compiled metrics, of which Keras wants the result even where a step of the model's
    own leaves them alone; a user would compile that model without."""
    model = work.model
    even = np.full((1, int(work.y.max()) + 1), 0.5, dtype=np.float32)
    keras.Model.compute_metrics(model, work.x[:1], work.y[:1], even)
    for metric in [*model.metrics, *_metrics(model)]:
        metric.reset_state()


def _begin_again(optimizer: Any) -> None:
    """Give an optimizer that was built meanwhile the values of a new one."""
    if not optimizer.built:
        return
    new = type(optimizer).from_config(optimizer.get_config())
    new.build(optimizer._trainable_variables)
    for variable, fresh in zip(optimizer.variables, new.variables, strict=True):
        variable.assign(fresh)


def _metrics(model: keras.Model) -> list[Any]:
    """Metrics in attributes, which `Model.metrics` leaves out where it is overridden."""
    return [v for v in vars(model).values() if isinstance(v, keras.metrics.Metric)]


def _what_xla_names(message: str) -> str:
    """The part of a message that names operations, in one line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    line = next((line for line in lines if _XLA.search(line)), lines[0])
    # What comes before is the name of the compiled graph.
    return re.sub(r".* on XLA_\w+: ", "", line)[:120]


def _copy(variable: keras.Variable) -> NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(variable))
