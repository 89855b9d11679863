"""Observes a model's training step: how often Python ran it, and which samples it trained.

How a step is observed depends on the framework: `fmnist_models.loops.framework`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import keras
from numpy.typing import NDArray

from fmnist_models.errors import UserError

# Methods that decide how samples are counted and what is logged. A model that overrides one of
# them counts as having its own step.
_KERAS_STEP = ("train_step", "compute_metrics", "get_metrics_result", "metrics", "reset_metrics")


class StepWatch(ABC):
    """Observes the training step of one model.

    Args:
        model: a compiled model.
        first: the arrays of the first batch, in Keras's order.

    Raises:
        UserError: the model's step takes other arguments than Keras gives it.

    Attributes:
        model: the model.
        eager: the step's Python code also ran without being compiled.
        scales: the step scaled its loss with `optimizer.scale_loss`.
        plain: the step and its metrics are Keras's own.
        step: the model's step, without the observation.
    """

    # What a message says of a round in which `traces` rose.
    traced_again: ClassVar[str] = "traced the training step again"
    # What Keras gives to a step with this framework.
    arguments: ClassVar[tuple[str, ...]] = ("data",)

    def __init__(self, model: keras.Model, first: Sequence[NDArray[Any]]) -> None:
        self.model = model
        self._shapes = [array.shape[1:] for array in first]
        self._traces = 0
        self.eager = False
        self.scales = False
        self.step = getattr(model.train_step, "watched", model.train_step)
        _refuse_other_arguments(model, self.step, self.arguments)
        self.plain = getattr(self.step, "__func__", None) is keras.Model.train_step and all(
            getattr(type(model), name) is getattr(keras.Model, name) and name not in vars(model)
            for name in _KERAS_STEP[1:]
        )

    @property
    def traces(self) -> int:
        """Number of traces: how often the step's Python code ran to be compiled."""
        return self._traces

    def batches(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """What Keras's train function is given for one call; the watch may count its batches."""
        return given

    @abstractmethod
    def watched_step(self) -> Callable[..., Any]:
        """The model's step, observed by this watch; its attribute `watched` is the step itself."""

    @abstractmethod
    def count_from_here(self) -> None:
        """Count calls and rows from now on."""

    @abstractmethod
    def rows(self) -> int | None:
        """Rows that the step trained since `count_from_here`.

        For Keras's own step, the number of rows in the mean loss. For another step, the rows given
        to layers with weights: the largest number of any layer. So they show that the step left
        samples out; it may as well pass a sample to a layer twice. None where it calls no layer,
        or calls them in a way that cannot be counted.
        """

    @abstractmethod
    def given(self) -> tuple[int, int] | None:
        """(calls, rows in their data) of a step that is not Keras's own since `count_from_here`.

        None for Keras's own, which trains each row that it is given once.
        """

    @abstractmethod
    def reshaped(self) -> int:
        """Batches since `count_from_here` whose samples have another shape than the first one's."""

    def _plain_rows(self) -> int:
        """Rows in the mean loss of Keras's own step."""
        return number_of(self.model.metrics[0].count)


class CountingWatch(StepWatch):
    """Counts calls and rows in Python, which gives each batch to the step or traces it.

    The rows that a layer is given are noted while the step runs or is traced.
    """

    def __init__(self, model: keras.Model, first: Sequence[NDArray[Any]]) -> None:
        super().__init__(model, first)
        self._depth = 0
        # None where one of the step's own transformations hides how many rows there are.
        self._layer_rows: dict[int, int | None] = {}
        # The most rows that a layer is given where the step is traced with so many rows.
        self._trains: dict[int, int | None] = {}
        self.count_from_here()

    @abstractmethod
    def _array(self, given: Any) -> Any:
        """The first array in the arguments of a layer's call; None where there is none."""

    @abstractmethod
    def _counts(self, array: Any) -> bool:
        """Whether an array's first dimension is that of the batch."""

    def count(self, calls: int, rows: int) -> None:
        """Count so many calls of a traced step with so many rows each."""
        if calls:
            self._calls += calls
            self._given += calls * rows
            # The first call with so many rows traces the step after this.
            self._trained_of.append((calls, rows))

    def count_from_here(self) -> None:
        """Count calls and rows from now on."""
        self._calls = self._given = self._reshaped = 0
        self._trained_of: list[tuple[int, int]] = []

    def given(self) -> tuple[int, int] | None:
        """(calls, rows in their data) of a step that is not Keras's own, else None."""
        return None if self.plain else (self._calls, self._given)

    def reshaped(self) -> int:
        """Batches since `count_from_here` whose samples have another shape than the first one's."""
        return self._reshaped

    def _note_shapes(self, batch: Any) -> int:
        """Count a batch of another shape; returns the batch's rows."""
        leaves = [leaf for leaf in keras.tree.flatten(batch) if leaf is not None]
        shapes = zip(leaves, self._shapes, strict=False)
        self._reshaped += any(leaf.shape[1:] != shape for leaf, shape in shapes)
        return int(leaves[0].shape[0])

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Within the context, note rows of layers, and whether the loss is scaled."""
        call = keras.layers.Layer.__call__
        optimizer = self.model.optimizer
        scale = optimizer.scale_loss

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            """Call a layer; note the rows where the step itself makes the call."""
            if self._depth == 0 and (layer.trainable_variables or not layer.built):
                first = self._array((args, kwargs))
                if first is not None:
                    before = self._layer_rows.get(id(layer), 0)
                    known = before is not None and self._counts(first)
                    self._layer_rows[id(layer)] = before + first.shape[0] if known else None
            self._depth += 1
            try:
                return call(layer, *args, **kwargs)
            finally:
                self._depth -= 1

        def scaled(loss: Any) -> Any:
            """Scale a loss with the optimizer, and note it."""
            self.scales = True
            return scale(loss)

        with ExitStack() as stack:
            stack.enter_context(standing_in(keras.layers.Layer, "__call__", called))
            stack.enter_context(standing_in(optimizer, "scale_loss", scaled))
            yield


def _refuse_other_arguments(
    model: keras.Model, step: Callable[..., Any], arguments: Sequence[str]
) -> None:
    """Refuse a step that was written for another framework.

    Raises:
        UserError: it does not take so many arguments.
    """
    try:
        inspect.signature(step).bind(*arguments)
    except TypeError as error:
        raise UserError(
            f"train_step of model {model.name!r}: Keras calls it as train_step("
            f"{', '.join(arguments)}) with the backend {keras.backend.backend()}, and it takes "
            "other arguments: name the backend that it was written for with --backends"
        ) from error
    except ValueError:
        # It has no signature that could be read.
        return


@contextmanager
def standing_in(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the context, the attribute `name` of an object or class is `value`."""
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def number_of(variable: Any) -> int:
    """The value of a counter, whichever devices it is on."""
    return int(keras.ops.convert_to_numpy(variable))


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and all its layers, including those inside other layers and models, each once.

    They are in the order in which they were added, with a layer before its inner layers. Keras has
    no public attribute for the layers of a layer.
    """
    found: dict[int, keras.layers.Layer] = {}
    pending = [model]
    while pending:
        layer = pending.pop()
        if id(layer) not in found:
            found[id(layer)] = layer
            pending += reversed(layer._layers)
    return list(found.values())
