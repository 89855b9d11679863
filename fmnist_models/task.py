"""What a case trains: a documented network or a user's own work, in one form for all loops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_models import architectures
from fmnist_models.architectures import NETWORKS
from fmnist_models.arrays import Arrays
from fmnist_models.data import PARTS, Data, as_data
from fmnist_models.dataset import TrainingData
from fmnist_models.errors import UserError
from fmnist_models.own import called, find_function, raised, remedy
from fmnist_models.stream import Stream
from fmnist_models.workload import Synthetic, Workload

if TYPE_CHECKING:
    import keras

DOCUMENTED_LOSS = "sparse_categorical_crossentropy"
DOCUMENTED_SCORE = "accuracy"
_MADE = "a keras.Model or a Workload"
_FEW = 2
_CHANGES = ("max", "min")


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A model with its data and what judges it.

    Attributes:
        name: as `--models` names it.
        model: the model, which its function may have compiled.
        compiled: its function compiled it: optimizer, loss and metrics are its own.
        loss, metrics: as `keras.Model.compile` takes them, for a model that is not compiled.
        score: the metric that judges.
        better: the direction of it that is good, `max` or `min`.
        target: its own target; None where it has none.
        batch_size, epochs: those that it names; None where it names none.
        class_weight, callbacks: as `keras.Model.fit` takes them.
        images: it trains on the embedded images.
    """

    name: str
    model: keras.Model
    compiled: bool
    loss: Any = DOCUMENTED_LOSS
    metrics: Any = (DOCUMENTED_SCORE,)
    score: str = DOCUMENTED_SCORE
    better: str = "max"
    target: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    class_weight: Mapping[int, float] | None = None
    callbacks: Sequence[Any] = ()
    images: bool = True
    workload: Workload | None = None

    def data(
        self, images: TrainingData, batch_size: int, free: int | None = None
    ) -> tuple[Data, Data | None, Data | None]:
        """(training, validation, test) data.

        Args:
            images: the embedded images.
            batch_size: samples a step, for streams.
            free: bytes of the memory that are free; None where that is not known.

        Raises:
            UserError: data of the workload cannot be used; the message names them.
        """
        if self.workload is None:
            flat = architectures.input_shape(self.model) == (architectures.PIXELS,)
            return _of_images(images.flat() if flat else images)
        train, *others = (self.part(what, batch_size, free) for what in PARTS)
        assert train is not None
        return train, others[0], others[1]

    def part(self, what: str, batch_size: int, free: int | None = None) -> Data | None:
        """One part of the workload's data, `train`, `validation` or `test`; None without it.

        Raises:
            UserError: the part cannot be used, or does not fit the model.
        """
        assert self.workload is not None
        train, given = self.workload.train, getattr(self.workload, what)
        if given is None and isinstance(train, Synthetic):
            given = train
        if given is None:
            return None
        data = as_data(self.name, what, given, batch_size, train, free)
        self._build(what, data)
        return data

    def _build(self, what: str, data: Data) -> None:
        """Build the model for its data, where it can be called, and test outputs against labels.

        Raises:
            UserError: the model refuses the inputs, there are no labels, or they do not fit the
                outputs, or data to evaluate never end.
        """
        where = f"{self.name}: {what}"
        if isinstance(data, Stream) and data.endless and what != "train":
            raise UserError(
                f"{where}: the stream never ends, so it cannot be evaluated: let it end, such as "
                "by take(N)"
            )
        rows = _fixed_batch(self.model) or _FEW
        few = (data.head if isinstance(data, Stream) else data).first(rows)
        own_step = _has_own_step(self.model)
        try:
            outputs = _called_once(self.model, few.x)
        except Exception as error:
            if own_step:
                # Such as a step that calls inner models only.
                return
            raise UserError(
                f"{where} does not fit the model, which, called with its first rows, "
                f"{raised(error)}{remedy(error)}"
            ) from error
        if own_step:
            return
        loss = self.model.loss if self.compiled else self.loss
        # Without a loss of labels, what the layers add to the loss is trained.
        if few.y is None and loss is not None and not _has_own_loss(self.model):
            raise UserError(f"{where} has no labels: write (inputs, labels)")
        if not isinstance(data, Stream):
            _refuse_labels(where, loss, outputs, data)


def task_of(name: str) -> Task:
    """The task that `--models` names; its function is called, but no data are made.

    Raises:
        UserError: there is no such model, or its function cannot be called or returns something
            else.
    """
    if name in NETWORKS or ":" not in name:
        return Task(name, architectures.build(name), compiled=False)
    function = find_function("model", name, _MADE)
    made = called("model", name, function)
    if isinstance(made, Workload):
        return _of_workload(name, made)
    model = architectures.checked(name, made, function)
    return Task(name, model, compiled=bool(model.compiled))


def _of_workload(name: str, given: Workload) -> Task:
    import keras

    model = given.model
    if not isinstance(model, keras.Model):
        raise UserError(
            f"model {name!r}: model= of its Workload is {type(model).__name__}, not a keras.Model"
        )
    compiled = bool(model.compiled)
    if compiled and (given.loss is not None or given.metrics):
        raise UserError(
            f"model {name!r} is compiled already, and its Workload names loss or metrics: leave "
            "these out, or return the model uncompiled"
        )
    own = _has_own_step(model) or _has_own_loss(model)
    if not compiled and given.loss is None and not own:
        raise UserError(
            f"model {name!r}: its Workload has no loss: add loss=, or compile the model"
        )
    _refuse_values(name, given)
    return Task(
        name,
        model,
        compiled,
        given.loss,
        given.metrics,
        given.score,
        given.better,
        given.target,
        given.batch_size,
        given.epochs,
        given.class_weight,
        tuple(given.callbacks),
        images=False,
        workload=given,
    )


def _refuse_values(name: str, given: Workload) -> None:
    """Refuse values of another type or out of range, before anything is trained with them.

    Raises:
        UserError: the message names the first of them.
    """
    import keras

    weights = given.class_weight

    def is_number(value: Any) -> bool:
        """Whether a value is a finite number."""
        return isinstance(value, int | float | np.number) and math.isfinite(value)

    def is_count(value: Any) -> bool:
        """Whether a value is a whole number above 0."""
        return isinstance(value, int) and value > 0

    rules = {
        "better": (given.better in _CHANGES, "write 'max' or 'min'"),
        "score": (
            isinstance(given.score, str) and bool(given.score),
            "must be the name of a metric, as the model reports it",
        ),
        "batch_size": (
            given.batch_size is None or is_count(given.batch_size),
            "must be a whole number above 0",
        ),
        "epochs": (
            given.epochs is None or is_count(given.epochs),
            "must be a whole number above 0",
        ),
        "target": (given.target is None or is_number(given.target), "must be a finite number"),
        "class_weight": (
            weights is None
            or (
                isinstance(weights, Mapping)
                and all(isinstance(c, int | np.integer) for c in weights)
                and all(map(is_number, weights.values()))
            ),
            "write {class: weight}, such as {0: 1.0, 1: 5.0}",
        ),
        "callbacks": (
            isinstance(given.callbacks, Sequence)
            and all(isinstance(c, keras.callbacks.Callback) for c in given.callbacks),
            "write a list of keras.callbacks.Callback",
        ),
    }
    for field, (good, told) in rules.items():
        if not good:
            raise UserError(f"model {name!r}: {field}={getattr(given, field)!r}: {told}")


def _of_images(data: TrainingData) -> tuple[Arrays, Arrays, Arrays]:
    return (
        Arrays(data.train_x, data.train_y, None, data.train_pixels, data.digest),
        Arrays(data.val_x, data.val_y, known_digest=data.digest),
        Arrays(data.test_x, data.test_y, known_digest=data.digest),
    )


def _has_own_step(model: keras.Model) -> bool:
    import keras

    return type(model).train_step is not keras.Model.train_step


def _fixed_batch(model: keras.Model) -> int | None:
    """Rows of the batches that the model is built for; None where it takes any."""
    inputs = getattr(model, "inputs", None) or ()
    return next((tensor.shape[0] for tensor in inputs if tensor.shape), None)


def _has_own_loss(model: keras.Model) -> bool:
    import keras

    return type(model).compute_loss is not keras.Model.compute_loss


def _called_once(model: keras.Model, x: Any) -> Any:
    """The model's outputs for a few rows; its state is restored afterwards."""
    import keras

    state = [(v, keras.ops.convert_to_numpy(v).copy()) for v in model.non_trainable_variables]
    outputs = model(keras.tree.map_structure(keras.ops.convert_to_tensor, x))
    for variable, value in state:
        variable.assign(value)
    return outputs


def _refuse_labels(where: str, loss: Any, outputs: Any, data: Arrays) -> None:
    """Refuse class numbers that the outputs do not have: TensorFlow trains on them to NaN.

    Raises:
        UserError: a label is below 0, or at least the number of outputs, and the loss does not
            ignore it.
    """
    import keras

    sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy) or loss in (
        DOCUMENTED_LOSS,
        keras.losses.sparse_categorical_crossentropy,
    )
    shape = getattr(outputs, "shape", None)
    if not sparse or not shape or not isinstance(data.y, np.ndarray):
        return
    ignored = getattr(loss, "ignore_class", None)
    labels = data.y if ignored is None else data.y[data.y != ignored]
    if not labels.size:
        return
    low, high, classes = int(labels.min()), int(labels.max()), int(shape[-1])
    if low < 0 or high >= classes:
        raise UserError(
            f"{where}: its labels go from {low} to {high}, and the model has {classes} outputs: "
            f"labels must go from 0 to {classes - 1}"
        )
