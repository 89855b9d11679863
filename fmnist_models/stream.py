"""Training data that come as a stream of batches, which the user's function opens each time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_models.arrays import Arrays, refuse_too_large
from fmnist_models.errors import UserError
from fmnist_models.own import called, stray_forks_ended

# `tf.data.INFINITE_CARDINALITY`; -2 is an unknown one.
_INFINITE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A stream of batches, made anew by the user's function each time.

    Attributes:
        name: the workload, for messages.
        function: the user's function.
        batch_size: samples a step.
        head: the first batch, read when the stream was first opened.
        batches: batches of an epoch, as far as the stream knows; None where it does not.
        endless: it says that it never ends.
        repeats: it can be made to repeat, as a `tf.data.Dataset` can.
        orders: Keras draws the order of its batches, as it does for a `PyDataset`.
        steps: steps of a round; None for an epoch.
    """

    name: str
    function: Callable[..., Any]
    batch_size: int
    head: Arrays
    batches: int | None
    endless: bool
    repeats: bool = False
    orders: bool = False
    steps: int | None = None

    def open(self) -> Any:
        """The stream, from its beginning; in rounds of `steps`, a `tf.data.Dataset` repeats."""
        stream = opened(self.name, self.function, self.batch_size)
        return stream.repeat() if self.steps is not None and is_tf_data(stream) else stream

    def cached(self, free_bytes: Callable[[], int | None]) -> Arrays:
        """The whole stream, or the batches of `steps`, as arrays in memory.

        Args:
            free_bytes: bytes of the memory that are free now; None where that is not known.

        Raises:
            UserError: the stream never ends, or does not fit into the memory.
        """
        import keras

        if self.endless and self.steps is None:
            raise UserError(f"{self.name}: a stream without end cannot be cached: add --steps")
        parts: list[tuple[Any, ...]] = []
        size_bytes = 0
        for number, batch in enumerate(batches_of(self.open())):
            if number == self.steps:
                break
            parts.append(batch)
            size_bytes += sum(leaf.nbytes for leaf in keras.tree.flatten(batch))
            # Joining the batches needs as much memory again.
            remedy = "leave --cache-stream out, or name fewer --steps"
            refuse_too_large(self.name, 2 * size_bytes, free_bytes(), remedy=remedy)

        def join(*leaves: NDArray[Any]) -> NDArray[Any]:
            """One array of all batches."""
            return np.concatenate(leaves)

        try:
            return Arrays(*keras.tree.map_structure(join, *parts))
        except ValueError as error:
            raise UserError(
                f"{self.name}: the batches of the stream do not fit together ({error}): give all "
                "samples the same shape"
            ) from error


def opened(name: str, function: Callable[..., Any], batch_size: int) -> Any:
    """What a user's function returns; it is given the batch size where it takes one.

    Raises:
        UserError: the function raises an error.
    """
    given = {"batch_size": batch_size} if takes_batch_size(function) else {}
    return called("workload", name, function, **given)


def takes_batch_size(function: Callable[..., Any]) -> bool:
    """Whether a user's function has a parameter `batch_size`."""
    try:
        return "batch_size" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def is_stream(given: Any) -> bool:
    """Whether Keras can train on it batch by batch, and begin again after its end."""
    import keras

    if isinstance(given, keras.utils.PyDataset) or is_tf_data(given):
        return True
    return bool(_makers(given) & {"torch", "grain"}) and hasattr(given, "__iter__")


def is_tf_data(given: Any) -> bool:
    """Whether it is a `tf.data.Dataset`; TensorFlow is not imported for it."""
    return "tensorflow" in _makers(given) and hasattr(given, "cardinality")


def _makers(given: Any) -> set[str]:
    """The packages of the object's class and those that it inherits from."""
    return {base.__module__.partition(".")[0] for base in type(given).__mro__}


def batches_of(stream: Any) -> Iterator[tuple[Any, ...]]:
    """The batches of a stream, as Keras reads them, with NumPy arrays as leaves."""
    import keras
    from keras.src.trainers.data_adapters import get_data_adapter

    with stray_forks_ended():
        for batch in get_data_adapter(stream).get_numpy_iterator():
            parts = batch if isinstance(batch, tuple | list) else (batch,)
            yield tuple(
                None if part is None else keras.tree.map_structure(np.asarray, part)
                for part in parts
            )


def last_of(stream: Any, most: int) -> Any:
    """The last batch of an opened stream, as a `PyDataset` of one batch.

    None where the stream has no batch, or does not end after `most` batches.
    """
    import keras

    class OneBatch(keras.utils.PyDataset):
        """One batch; of a generator, Keras would not take weights of classes."""

        def __len__(self) -> int:
            return 1

        def __getitem__(self, number: int) -> Any:
            return last

    last, read = None, 0
    for batch in islice(batches_of(stream), most + 1):
        last, read = batch, read + 1
    return None if last is None or read > most else OneBatch()


def length_of(stream: Any) -> tuple[int | None, bool]:
    """(batches of an epoch, whether it never ends), as far as the stream knows."""
    if is_tf_data(stream):
        found = int(stream.cardinality())
        return (found if found >= 0 else None), found == _INFINITE
    if hasattr(stream, "num_batches"):
        return stream.num_batches, stream.num_batches is None
    try:
        return len(stream), False
    except TypeError:
        return None, False
