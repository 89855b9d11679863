"""Training data that come as a stream of batches, which the user's function opens each time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_models.arrays import Arrays, refuse_too_large
from fmnist_models.errors import UserError
from fmnist_models.own import called, stray_forks_ended


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
        import tensorflow as tf

        stream = opened(self.name, self.function, self.batch_size)
        repeats = self.steps is not None and isinstance(stream, tf.data.Dataset)
        return stream.repeat() if repeats else stream

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


def last_batch(stream: Any, most: int) -> Any:
    """The last batch of an opened stream, as a `tf.data.Dataset` of one batch in the same form.

    The stream is read for it, from its beginning.

    Args:
        stream: the stream.
        most: the most batches to read.

    Returns:
        None where the stream tells that all batches have one size, or does not end within `most`.
    """
    import tensorflow as tf
    from keras.src.trainers.data_adapters import get_data_adapter

    adapter = get_data_adapter(stream)
    batches = adapter.get_tf_dataset()
    form = batches.element_spec
    if tf.nest.flatten(form)[0].shape[:1].is_fully_defined():
        return None
    last, read = None, 0
    with stray_forks_ended():
        adapter.on_epoch_begin()
        for batch in batches.take(most + 1):
            last, read = batch, read + 1
        adapter.on_epoch_end()
    if read > most:
        return None
    return tf.data.Dataset.from_generator(lambda: iter([last]), output_signature=form)


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
    import tensorflow as tf

    if isinstance(given, tf.data.Dataset | keras.utils.PyDataset):
        return True
    makers = {base.__module__.partition(".")[0] for base in type(given).__mro__}
    return bool(makers & {"torch", "grain"}) and hasattr(given, "__iter__")


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


def length_of(stream: Any) -> tuple[int | None, bool]:
    """(batches of an epoch, whether it never ends), as far as the stream knows."""
    import tensorflow as tf

    if isinstance(stream, tf.data.Dataset):
        found = int(stream.cardinality())
        return (found if found >= 0 else None), found == tf.data.INFINITE_CARDINALITY
    if hasattr(stream, "num_batches"):
        return stream.num_batches, stream.num_batches is None
    try:
        return len(stream), False
    except TypeError:
        return None, False
