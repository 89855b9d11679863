"""A user's own work: a model with its data, its loss and the score that judges it.

Only plain data: Keras and NumPy are not imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fmnist_models.errors import UserError

# One array, or a tuple, list or dictionary of arrays.
Arrays = Any
# A function that returns a stream of batches: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a
# PyTorch `DataLoader` or a Grain loader. Where it has a parameter `batch_size`, it is given the
# case's batch size.
Stream = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """Data that the worker makes from a seed; nothing is stored.

    The labels depend on the inputs, so that a model can learn them: each class has a pattern of
    its own, to which noise is added; a number to predict is a fixed function of the inputs.

    Attributes:
        shapes: the shape of one sample, or a tuple or dictionary of shapes for several inputs.
        dtypes: the type of the inputs, or one for each of `shapes` in the same form. Inputs of an
            integer type are numbers from 0 to `vocabulary` - 1.
        classes: number of classes, with labels 0 to `classes` - 1; None for a number to predict.
        rows: number of samples; validation and test data that `train` gives have a quarter of it
            each.
        vocabulary: number of values of integer inputs.
        seed: seed of the data, independent of the run's.

    Raises:
        UserError: a value is out of range.
    """

    shapes: Any
    dtypes: Any = "float32"
    classes: int | None = 10
    rows: int = 4096
    vocabulary: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 2:
            raise UserError(f"Synthetic(classes={self.classes}): must be at least 2, or None")
        if self.rows < 4:
            raise UserError(f"Synthetic(rows={self.rows}): must be at least 4")
        if self.vocabulary < 2:
            raise UserError(f"Synthetic(vocabulary={self.vocabulary}): must be at least 2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a user trains: a model, its data, and the score that judges it.

    Data (`train`, `validation`, `test`) are `(x, y)` or `(x, y, sample_weight)`, where each is an
    array, or a list, tuple or dictionary of arrays (`x` alone where a step needs no labels); or a
    `Synthetic`; or a function that returns a stream. A `Synthetic` as `train` gives validation and
    test data too; one of their own has other rows than `train`, with labels of the same rule.

    Attributes:
        model: a `keras.Model`, compiled or not. One that is compiled keeps its optimizer, loss
            and metrics, and `loss` and `metrics` must be left out.
        train, validation, test: the data.
        loss, metrics: as `keras.Model.compile` takes them.
        score: the name under which the model reports the metric that judges.
        better: the direction of the score that is good.
        target: the score to reach, for the time until it is reached.
        batch_size, epochs: those of the cases where the user gives no option.
        class_weight: as `keras.Model.fit` takes it.
        callbacks: as `keras.Model.fit` takes them. The case decides when the training ends, so a
            wish for an early end is noted and not followed. `compiled` has no calls for batches.
    """

    model: Any
    train: Arrays | Synthetic | Stream
    validation: Arrays | Synthetic | Stream | None = None
    test: Arrays | Synthetic | Stream | None = None
    loss: Any = None
    metrics: Sequence[Any] | Mapping[str, Any] = ()
    score: str = "accuracy"
    better: Literal["max", "min"] = "max"
    target: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    class_weight: Mapping[int, float] | None = None
    callbacks: Sequence[Any] = field(default_factory=tuple)
