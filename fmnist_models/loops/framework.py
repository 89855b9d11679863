"""The framework behind Keras, as the loops need it: one package of this folder for each.

A process has one: Keras chooses it when it is imported, by the variable KERAS_BACKEND.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import keras
from keras.src.utils import module_utils
from numpy.typing import NDArray

from fmnist_models.loops.watch import StepWatch, standing_in
from fmnist_models.replicas import Replicas

if TYPE_CHECKING:
    from fmnist_models.loops.base import Work
    from fmnist_models.loops.compiled import CompiledLoop


class Framework(Protocol):
    """What the `FRAMEWORK` of a package is.

    Attributes:
        compiled: its loop `compiled`.
        compiler: what compiles a step.
        joins_steps: `steps_per_execution` of Keras puts several steps into one function.
    """

    compiled: ClassVar[type[CompiledLoop]]
    compiler: ClassVar[str]
    joins_steps: ClassVar[bool]

    def watch(
        self, model: keras.Model, device: str | None, first: Sequence[NDArray[Any]]
    ) -> StepWatch:
        """Observe the step of a model, whose first batch has these arrays."""

    def compiler_names(self, error: Exception) -> str | None:
        """What the compiler names in an error that it raised, in a line; None for other errors."""

    def runs_eagerly(self) -> bool:
        """Whether a setting of the framework makes all compiled functions run eagerly."""

    def on_replicas(self, call: Callable[[], Any]) -> None:
        """Call a function where a step updates metrics; once for each replica of this process."""
        call()

    def own_variables(self, layer: keras.layers.Layer) -> list[Any]:
        """The framework's own variables in attributes of a layer, which Keras does not know."""

    def last_batch(self, stream: Any, most: int) -> Any:
        """The last batch of an opened stream, as data for `Model.fit` in the same form.

        The stream is read for it, from its beginning, at most `most` batches. None where it tells
        that all batches have one size, or does not end by then.
        """

    def refuses_spread(self, work: Work) -> str | None:
        """Why `Model.fit` cannot train a work on its replicas, and the remedy; None where it can.

        Such as a last batch that does not divide, or data that its processes cannot share.
        """
        return None

    def cannot_divide(self, error: Exception) -> bool:
        """Whether an error of `Model.fit` means that a batch does not divide by the replicas."""
        return False

    def evaluating(
        self, replicas: Replicas, sizes: Collection[int]
    ) -> AbstractContextManager[None]:
        """The context of an evaluation with batches of these sizes; empty where not known."""
        return nullcontext()


def framework() -> Framework:
    """That of this process; its package is imported at the first call."""
    name = keras.backend.backend()
    found = import_module(f"fmnist_models.loops.{name}.framework")
    return cast("Framework", found.FRAMEWORK)


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy, Keras and its framework, and no framework that is not in use.

    `keras.utils.set_random_seed` imports TensorFlow wherever it is installed, which takes seconds
    and, on a GPU, memory. A program that does not use it needs no seed of it.
    """
    with ExitStack() as stack:
        if "tensorflow" not in sys.modules and keras.backend.backend() != "tensorflow":
            absent = standing_in(module_utils.tensorflow, "_available", value=False)
            stack.enter_context(absent)
        keras.utils.set_random_seed(seed)
