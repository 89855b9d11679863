"""The common parts of the loops: the work, the observer, and a warm-up that changes nothing.

A loop measures no time. It tells an `Observer` right before the first step of an epoch is
dispatched, and right after the last one was; the observer may measure.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from fmnist_models.arrays import Arrays
from fmnist_models.data import Data
from fmnist_models.errors import Unsupported
from fmnist_models.loops.framework import framework, set_random_seed
from fmnist_models.loops.watch import layers_of, number_of
from fmnist_models.replicas import ONE, Replicas
from fmnist_models.stream import Stream

# Whole numbers above it are taken for numbers to predict.
_MOST_CLASSES = 10**6


class Observer(Protocol):
    """Receives the events of a loop while it trains."""

    def window_opens(self) -> None:
        """The first step of an epoch is dispatched next."""

    def window_closes(self) -> None:
        """The last step of the epoch has been dispatched; it may still be running."""

    def epoch_ends(self, logs: dict[str, float]) -> bool:
        """The epoch has ended; return False to stop training.

        `logs` are its running loss and metrics, as far as the step reports them. The observer may
        add to them what an evaluation found, for the user's callbacks.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A model and what it trains on.

    Attributes:
        model: a compiled Keras model.
        data: the training data.
        batch_size: samples a step, over all replicas; the last step of an epoch takes the rest.
        seed: seed of shuffling and of all other random numbers.
        shuffle: a new order in each epoch; False trains in the given order. A stream has its own.
        device: the framework's name of the device for resident data, such as `/GPU:0`; None
            leaves it to the framework.
        class_weight: weight of each class in the loss; None for equal ones.
        callbacks: the user's callbacks.
        one_call: an epoch ends after the loop's first call, and `compiled` calls two full steps.
        replicas: how each batch is spread over devices.
    """

    model: keras.Model
    data: Data
    batch_size: int
    seed: int
    shuffle: bool = True
    device: str | None = None
    class_weight: Mapping[int, float] | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    one_call: bool = False
    replicas: Replicas = ONE

    @property
    def arrays(self) -> Arrays:
        """The data as arrays.

        Raises:
            Unsupported: they are a stream.
        """
        if isinstance(self.data, Stream):
            raise Unsupported(
                f"{self.data.name} is a stream, which this loop cannot read: add --cache-stream, "
                "or choose --loops fit"
            )
        return self.data

    @property
    def samples(self) -> int | None:
        """Samples of an epoch; None for a stream, which tells them by ending."""
        return None if isinstance(self.data, Stream) else self.data.rows

    @property
    def steps(self) -> int | None:
        """Steps of an epoch, including that of the last partial batch; None where not known."""
        if isinstance(self.data, Stream):
            return self.data.steps or self.data.batches
        return math.ceil(self.data.rows / self.batch_size)

    @property
    def batch(self) -> Arrays:
        """The first batch."""
        return self.data.head if isinstance(self.data, Stream) else self.data.first(self.batch_size)


class Loop(ABC):
    """One way to run the steps of an epoch; all loops train the same work.

    Attributes:
        name: its name on the `loop` axis of the matrix.
        compile_arguments: arguments that the loop adds to `Model.compile`.
        needs_compiler: the loop does not train a step that cannot be compiled.
        framework: that behind Keras.
        watch: observes the training step.
        updates_before: the number of updates before the epoch.
        notes: what the loop did otherwise than the user's callbacks asked, each once.
    """

    name: ClassVar[str]
    compile_arguments: ClassVar[Mapping[str, Any]]
    needs_compiler: ClassVar[bool] = True

    def __init__(self, work: Work) -> None:
        self.work = work
        self.framework = framework()
        self.notes: dict[str, None] = {}
        self.updates_before = 0
        self.watch = self.framework.watch(work.model, work.device, work.batch.leaves)
        work.model.train_step = self.watch.watched_step()
        work.model.optimizer.build(work.model.trainable_variables)
        if not self.watch.plain:
            _build_metrics(work)

    @property
    def traces(self) -> int:
        """How often the training step was traced."""
        return self.watch.traces

    def warm_up(self) -> None:
        """Seed, then trace and compile every batch shape of an epoch.

        Weights, optimizer, metrics and the model's seeds are restored afterwards, bit for bit.
        The seed is set once, before everything else: TensorFlow clears its kernel caches at each
        seeding (`TFE_ContextClearCaches`), and the next step takes 60 ms more. The shuffling of
        `fit` continues with the random numbers after the warm-up, which depend only on the seed.

        Raises:
            Unsupported: the framework cannot compile the step, and the loop requires it.
        """
        snapshot = Snapshot(self.work.model)
        set_random_seed(self.work.seed)
        try:
            self._exercise()
        except Exception as error:
            named = self.framework.compiler_names(error)
            if not self.needs_compiler or named is None:
                raise
            raise Unsupported(
                f"{self.framework.compiler} cannot compile the training step of "
                f"{self.work.model.name!r}, which "
                f"--loops {self.name} needs: leave out what it names, or choose --loops fit: "
                f"{named}"
            ) from error
        snapshot.restore()

    def note_updates(self) -> None:
        """Note the number of updates so far: the epoch's first step is next.

        A user's callbacks may change it before. With JAX, the variables hold nothing later on,
        while `Model.fit` trains.
        """
        self.updates_before = number_of(self.work.model.optimizer.iterations)

    def decide_end(self, *, wanted: bool) -> None:
        """Let the case decide when the training ends, whatever the user's callbacks asked for."""
        model = self.work.model
        if model.stop_training and not wanted:
            self.notes["a callback asked to end the training early, and the case went on"] = None
        if model.stop_training != wanted:
            model.stop_training = wanted

    @abstractmethod
    def train(self, observer: Observer, max_epochs: int) -> None:
        """Train until the observer stops it, for at most `max_epochs` epochs.

        Call `warm_up` first, which sets the seed.
        """

    @property
    @abstractmethod
    def program(self) -> Any:
        """The traced function that runs the steps; it can be replaced."""

    @program.setter
    @abstractmethod
    def program(self, program: Any) -> None:
        """Use another program from now on."""

    @abstractmethod
    def new_program(self) -> Any:
        """A new program, which is traced at its first use.

        It uses the model's step of that moment, or of now, depending on the loop.
        """

    @property
    def compiles(self) -> bool:
        """Whether the step is compiled as a whole."""
        return bool(self.work.model.jit_compile)

    @property
    @abstractmethod
    def steps_a_call(self) -> int:
        """Most steps in one call of a function of the framework."""

    @property
    def resident(self) -> tuple[Any, ...]:
        """Tensors that the loop keeps on the device between epochs."""
        return ()

    @abstractmethod
    def _exercise(self) -> None:
        """Run a step of each batch shape at least once; this may change the model's state."""


class Snapshot:
    """The values of a model's weights, optimizer slots and seeds at one moment."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._values = [(v, _copy(v)) for v in state_variables(model)]
        self._unbuilt = [o for o in _optimizers(model) if not o.built]

    def restore(self) -> None:
        """Restore every value; metrics are reset."""
        for variable, value in self._values:
            variable.assign(value)
        for optimizer in self._unbuilt:
            _begin_again(optimizer)
        for metric in metrics_of(self._model):
            metric.reset_state()
        self._model.reset_metrics()

    def changed(self) -> bool:
        """Whether any trainable weight differs from the snapshot."""
        trainable = {id(v) for v in self._model.trainable_variables}
        return any(
            not np.array_equal(_copy(v), value) for v, value in self._values if id(v) in trainable
        )


def state_variables(model: keras.Model) -> list[keras.Variable]:
    """All variables that training changes, except metrics, each once.

    These are weights, seed generators, optimizer slots and counters, those of loss scaling, and
    the optimizers and the framework's own variables in attributes of the model.
    """
    variables = list(model.variables)
    for optimizer in _optimizers(model):
        variables += optimizer.variables
    for layer in layers_of(model):
        variables += framework().own_variables(layer)
    return list({id(v): v for v in variables}.values())


def read_logs(logs: Any) -> dict[str, float]:
    """The logs of a step or an evaluation as numbers.

    Nested dictionaries are flattened; values that are not a single number are left out.
    """
    found: dict[str, float] = {}
    for name, value in logs.items() if isinstance(logs, Mapping) else ():
        if isinstance(value, Mapping):
            found |= read_logs(value)
            continue
        array = _copy(value) if keras.ops.is_tensor(value) else np.asarray(value)
        if array.size == 1 and np.issubdtype(array.dtype, np.number):
            found[str(name)] = float(array.reshape(()))
    return found


def _optimizers(model: keras.Model) -> list[Any]:
    """The model's optimizer and those in its attributes, each once.

    An optimizer that scales the loss is listed with its inner one, whose variables it leaves out
    of its own.
    """
    pending = [model.optimizer, *vars(model).values()]
    found: dict[int, Any] = {}
    while pending:
        optimizer = pending.pop(0)
        if isinstance(optimizer, keras.optimizers.Optimizer) and id(optimizer) not in found:
            found[id(optimizer)] = optimizer
            pending.append(getattr(optimizer, "inner_optimizer", None))
    return list(found.values())


def _build_metrics(work: Work) -> None:
    """Build the compiled metrics, because Keras reads their results after every epoch.

    A model's own step may never update them, so Keras would not build them.
    """
    model, few = work.model, work.batch.first(1)
    values = [(v, _copy(v)) for v in model.non_trainable_variables]
    try:
        outputs = model(keras.tree.map_structure(keras.ops.convert_to_tensor, few.x))
    except Exception:  # noqa: BLE001 - whatever a model raises that only its own step can call
        outputs = np.full((1, _classes(work)), 0.5, dtype=np.float32)
    for variable, value in values:
        variable.assign(value)
    update = partial(keras.Model.compute_metrics, model, few.x, few.y, outputs)
    framework().on_replicas(update)
    for metric in [*model.metrics, *metrics_of(model)]:
        metric.reset_state()


def _classes(work: Work) -> int:
    """The number of classes that whole numbers as labels need; 1 for other labels."""
    labels = (work.data.head if isinstance(work.data, Stream) else work.data).y
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "biu":
        return 1
    highest = int(labels.max())
    # Numbers to predict may be whole and large, and below 0.
    return highest + 1 if 0 <= highest < _MOST_CLASSES else 1


def _begin_again(optimizer: Any) -> None:
    """Give an optimizer that was built after the snapshot the values of a new one."""
    if not optimizer.built:
        return
    new = type(optimizer).from_config(optimizer.get_config())
    new.build(optimizer._trainable_variables)
    for variable, fresh in zip(optimizer.variables, new.variables, strict=True):
        variable.assign(fresh)


def metrics_of(model: keras.Model) -> list[Any]:
    """The metrics in attributes, which a model's own `metrics` may leave out."""
    return [v for v in vars(model).values() if isinstance(v, keras.metrics.Metric)]


def _copy(value: Any) -> NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(value))
