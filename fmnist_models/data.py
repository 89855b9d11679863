"""Training data: arrays in memory, or a stream of batches.

A nest is an array, or a tuple, list or dictionary of nests. Keras is imported inside the functions.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from fmnist_models.errors import UserError
from fmnist_models.own import called, stray_forks_ended
from fmnist_models.synthetic import made
from fmnist_models.workload import Synthetic

# Rows that are tested for NaN at a time, so that the test needs little memory.
_ROWS_A_TEST = 4096
# The share of the free memory that data may take: the training needs memory beside it.
MOST_OF_MEMORY = 0.9
_STREAMS = "a tf.data.Dataset, a keras.utils.PyDataset, a PyTorch DataLoader or a Grain loader"


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Data in memory: nests of NumPy arrays, all with the same number of rows.

    Attributes:
        x: inputs.
        y: labels; None where the training step needs none.
        sample_weight: weights of the samples; None for equal ones.
        pixels: the embedded images before the division by 255.0, uint8, in the shape of `x`, for
            loops that keep images on the device; None for other data.
        known_digest: digest of the data, where it is known already.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    pixels: NDArray[np.uint8] | None = None
    known_digest: str = ""

    @property
    def packed(self) -> tuple[Any, ...]:
        """The nests as `keras.Model.train_step` takes them."""
        if self.sample_weight is not None:
            return (self.x, self.y, self.sample_weight)
        return (self.x,) if self.y is None else (self.x, self.y)

    @property
    def leaves(self) -> list[NDArray[Any]]:
        """The arrays of `packed`, in Keras's order."""
        import keras

        return list(keras.tree.flatten(self.packed))

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(self.leaves[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, in the form in which they stay on a device."""
        pixels = self.pixels
        whole = sum(leaf.nbytes for leaf in self.leaves)
        return whole if pixels is None else whole - self.leaves[0].nbytes + pixels.nbytes

    def first(self, rows: int) -> Arrays:
        """The first `rows` samples, without a copy."""
        import keras

        def cut(leaf: NDArray[Any]) -> NDArray[Any]:
            """The first rows of an array."""
            return leaf[:rows]

        x, y, weights = (
            None if part is None else keras.tree.map_structure(cut, part)
            for part in (self.x, self.y, self.sample_weight)
        )
        return Arrays(x, y, weights, None if self.pixels is None else self.pixels[:rows])

    def digest(self) -> str:
        """SHA-256 over types, shapes and contents, hexadecimal."""
        if self.known_digest:
            return self.known_digest
        found = hashlib.sha256()
        for leaf in self.leaves:
            found.update(f"{leaf.dtype.str}{leaf.shape}".encode())
            found.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
        return found.hexdigest()


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

        stream = _opened(self.name, self.function, self.batch_size)
        repeats = self.steps is not None and isinstance(stream, tf.data.Dataset)
        return stream.repeat() if repeats else stream

    def cached(self) -> Arrays:
        """The whole stream, or the batches of `steps`, as arrays in memory.

        Raises:
            UserError: the stream never ends, or does not fit into the memory.
        """
        import keras

        if self.endless and self.steps is None:
            raise UserError(f"{self.name}: a stream without end cannot be cached: add --steps")
        parts: list[tuple[Any, ...]] = []
        size_bytes = 0
        for number, batch in enumerate(_batches(self.open())):
            if number == self.steps:
                break
            parts.append(batch)
            size_bytes += sum(leaf.nbytes for leaf in keras.tree.flatten(batch))
            # Joining the batches needs as much memory again.
            refuse_too_large(self.name, 2 * size_bytes, free_bytes())

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


Data = Arrays | Stream


def as_data(name: str, what: str, given: Any, batch_size: int, place: int = 0) -> Data:
    """A workload's data in the form for the loops.

    Floating-point arrays become float32, as Keras makes them; other arrays are not copied.

    Args:
        name: the workload, for messages.
        what: `train`, `validation` or `test`.
        given: as `fmnist_models.workload.Workload` describes.
        batch_size: samples a step, for a stream.
        place: which part of a `Synthetic` is meant: 0 for training data, then 1 and 2.

    Raises:
        UserError: the data are of another form, have unequal lengths, are empty, are not numbers,
            hold NaN, or do not fit into the memory.
    """
    where = f"{name}: {what}"
    if isinstance(given, Synthetic):
        return Arrays(*made(where, given, place, free_bytes()))
    if callable(given) and not isinstance(given, np.ndarray):
        return _stream(where, given, batch_size)
    if _is_stream(given):
        raise UserError(
            f"{where} is {_type_name(given)}: give the function that returns it, so that each "
            "round can open it anew"
        )
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 3:
        raise UserError(
            f"{where} has {len(parts)} parts: write (inputs, labels), or (inputs, labels, weights)"
        )
    found = Arrays(*(_nest(where, part) for part in parts))
    _refuse_lengths(where, found)
    return found


def refuse_too_large(name: str, size_bytes: int, free: int | None, where: str = "memory") -> None:
    """Refuse data that do not fit, before they are copied.

    Raises:
        UserError: they are larger than 90% of what is free; the message has both sizes.
    """
    if free is not None and size_bytes > MOST_OF_MEMORY * free:
        raise UserError(
            f"{name}: {size_bytes / 2**30:.2f} GiB of data do not fit into the {where}, of which "
            f"{free / 2**30:.2f} GiB are free: use fewer rows, or a stream"
        )


def free_bytes() -> int:
    """Bytes of the host's memory that are free."""
    return int(psutil.virtual_memory().available)


def _nest(where: str, part: Any) -> Any:
    """A part of the data with NumPy arrays as its leaves.

    Raises:
        UserError: a leaf is no array of numbers.
    """
    import keras

    if part is None:
        return None

    def as_array(leaf: Any) -> NDArray[Any]:
        """A leaf as an array of numbers."""
        try:
            array = np.asarray(leaf)
        except ValueError as error:
            raise UserError(f"{where}: {error}: give all samples the same shape") from error
        if array.dtype.kind == "f":
            array = array.astype(np.float32, copy=False)
            _refuse_nan(where, array)
        elif array.dtype.kind not in "iub":
            kind = "text" if array.dtype.kind in "US" else f"of type {array.dtype}"
            raise UserError(f"{where} is {kind}: make numbers of it")
        if array.ndim == 0:
            raise UserError(
                f"{where} holds {type(leaf).__name__} {str(leaf)[:40]!r}, which is no array: give "
                f"arrays, a Synthetic, or a function that returns {_STREAMS}"
            )
        return array

    return keras.tree.map_structure(as_array, part)


def _refuse_nan(where: str, array: NDArray[Any]) -> None:
    for first in range(0, len(array) if array.ndim else 0, _ROWS_A_TEST):
        if not np.isfinite(array[first : first + _ROWS_A_TEST]).all():
            raise UserError(f"{where} holds NaN or infinity: leave such samples out, or fill them")


def _refuse_lengths(where: str, data: Arrays) -> None:
    lengths = sorted({len(leaf) for leaf in data.leaves})
    if len(lengths) > 1:
        raise UserError(
            f"{where} has arrays of {lengths[0]} and {lengths[-1]} rows: make them equal"
        )
    if lengths == [0] or not lengths:
        raise UserError(f"{where} is empty: give at least one sample")


def _stream(where: str, function: Callable[..., Any], batch_size: int) -> Stream:
    """The stream that a function returns, after a look at its first batch.

    Raises:
        UserError: the function raises an error or returns something else, or the stream is
            empty, or its batches have another size.
    """
    stream = _opened(where, function, batch_size)
    if not _is_stream(stream):
        raise UserError(
            f"{where}: the function returned {_type_name(stream)}: it must return {_STREAMS}"
        )
    first = next(iter(_batches(stream)), None)
    if first is None:
        raise UserError(f"{where}: the stream is empty: give at least one batch")
    head = Arrays(*(_nest(where, part) for part in first))
    _refuse_lengths(where, head)
    if head.rows != batch_size:
        raise UserError(
            f"{where}: the stream gives batches of {head.rows}, and the case has {batch_size}: "
            f"give the function a parameter batch_size, or name --batch-sizes {head.rows}"
        )
    batches, endless = _length(stream)
    repeats = hasattr(stream, "repeat") and hasattr(stream, "cardinality")
    orders = hasattr(stream, "num_batches") and not repeats
    return Stream(where, function, batch_size, head, batches, endless, repeats, orders)


def _opened(name: str, function: Callable[..., Any], batch_size: int) -> Any:
    try:
        takes = "batch_size" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        takes = False
    return called(
        "workload", name, lambda: function(batch_size=batch_size) if takes else function()
    )


def _is_stream(given: Any) -> bool:
    """Whether Keras can train on it batch by batch, and begin again after its end."""
    import keras
    import tensorflow as tf

    if isinstance(given, tf.data.Dataset | keras.utils.PyDataset):
        return True
    makers = {base.__module__.partition(".")[0] for base in type(given).__mro__}
    return bool(makers & {"torch", "grain"}) and hasattr(given, "__iter__")


def _batches(stream: Any) -> Iterator[tuple[Any, ...]]:
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


def _length(stream: Any) -> tuple[int | None, bool]:
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


def _type_name(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def of_rounds(name: str, data: Data, steps: int | None, batch_size: int) -> Data:
    """The data of rounds of `steps` steps; all of the data where that is None.

    Of arrays, these are the rows of the first `steps` batches: each round trains on them.

    Raises:
        UserError: an epoch has fewer steps, or the stream never ends and `steps` is None.
    """
    if isinstance(data, Stream):
        if steps is None and data.endless:
            raise UserError(
                f"{name}: the stream never ends, so it has no epoch: add --steps N, or let it end"
            )
        known = data.batches
    else:
        known = data.rows // batch_size
    if steps is None:
        return data
    if known is not None and steps > known:
        raise UserError(
            f"--steps {steps}: an epoch of {name} has {known} whole batches of {batch_size}: name "
            "fewer steps, or leave --steps out"
        )
    if isinstance(data, Arrays):
        return data.first(steps * batch_size)
    if known is not None and not data.repeats and known % steps:
        fits = max(count for count in range(1, steps + 1) if known % count == 0)
        raise UserError(
            f"--steps {steps}: does not divide the {known} batches of {name}, at whose end Keras "
            f"ends a round: name --steps {fits}"
        )
    return replace(data, steps=steps)
