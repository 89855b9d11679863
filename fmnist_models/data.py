"""A workload's data in the form for the loops, or one line that says what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_models.arrays import Arrays, free_bytes
from fmnist_models.errors import UserError
from fmnist_models.stream import (
    Stream,
    batches_of,
    is_stream,
    length_of,
    opened,
    takes_batch_size,
)
from fmnist_models.synthetic import made
from fmnist_models.workload import Synthetic

# Rows that are tested for NaN at a time, so that the test needs little memory.
_ROWS_A_TEST = 4096
_STREAMS = "a tf.data.Dataset, a keras.utils.PyDataset, a PyTorch DataLoader or a Grain loader"
# The parts of a workload's data.
PARTS = ("train", "validation", "test")

Data = Arrays | Stream


def as_data(name: str, what: str, given: Any, batch_size: int, train: Any) -> Data:
    """A workload's data in the form for the loops.

    Floating-point arrays become float32, as Keras makes them; other arrays are not copied.

    Args:
        name: the workload, for messages.
        what: one of `PARTS`.
        given: as `fmnist_models.workload.Workload` describes.
        batch_size: samples a step, for a stream.
        train: the training data, as given, whose rule the labels of a `Synthetic` follow.

    Raises:
        UserError: the data are of another form, have unequal lengths, are empty, are not numbers,
            hold NaN, or do not fit into the memory.
    """
    where = f"{name}: {what}"
    if isinstance(given, Synthetic):
        of = train if isinstance(train, Synthetic) else given
        return Arrays(*made(where, given, PARTS.index(what), of, free_bytes()))
    if callable(given) and not isinstance(given, np.ndarray):
        stream = _stream(where, given, batch_size)
        if what == PARTS[0]:
            _refuse_batches(stream)
        return stream
    if is_stream(given):
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
    _refuse_rows(where, found)
    return found


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


def _refuse_rows(where: str, data: Arrays) -> None:
    """Refuse rows that do not fit together.

    Raises:
        UserError: arrays have unequal lengths or none, or weights have no labels.
    """
    if data.y is None and data.sample_weight is not None:
        raise UserError(
            f"{where} has weights without labels, which Model.fit leaves out: give the weights as "
            "labels to a loss of the model's own, or write (inputs, labels, weights)"
        )
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
        UserError: the function raises an error or returns something else, or the stream is empty.
    """
    stream = opened(where, function, batch_size)
    if not is_stream(stream):
        raise UserError(
            f"{where}: the function returned {_type_name(stream)}: it must return {_STREAMS}"
        )
    first = next(iter(batches_of(stream)), None)
    if first is None:
        raise UserError(f"{where}: the stream is empty: give at least one batch")
    head = Arrays(*(_nest(where, part) for part in first))
    _refuse_rows(where, head)
    batches, endless = length_of(stream)
    repeats = hasattr(stream, "repeat") and hasattr(stream, "cardinality")
    orders = hasattr(stream, "num_batches") and not repeats
    return Stream(where, function, batch_size, head, batches, endless, repeats, orders)


def _refuse_batches(stream: Stream) -> None:
    """Refuse training data in batches of another size than the case's.

    Raises:
        UserError: the message says what to change.
    """
    rows, wanted = stream.head.rows, stream.batch_size
    if rows == wanted:
        return
    remedy = "give the function a parameter batch_size"
    if takes_batch_size(stream.function):
        remedy = "let the function make batches of its batch_size"
    raise UserError(
        f"{stream.name}: the stream gives batches of {rows}, and the case has {wanted}: {remedy}, "
        f"or name --batch-sizes {rows}"
    )


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
