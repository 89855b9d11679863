"""Makes the data of a `Synthetic`: labels that depend on the inputs, so that a model can learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_models.errors import UserError
from fmnist_models.workload import Synthetic

# The share of its rows that training data give as validation and as test data.
_OTHER_SHARE = 0.25
# The share of integer inputs that tell of the class, and the share of the vocabulary that they use.
_TELLING, _TELLING_WORDS = 0.5, 0.05
# Scale of a class's pattern beside noise of 1, and of the noise in a number to predict.
_PATTERN, _NOISE = 0.5, 0.1
# Values that are drawn at a time: what is needed beside the result is some times larger than it.
_BLOCK = 2**18


def made(
    where: str, wanted: Synthetic, place: int, train: Synthetic, free: int | None
) -> tuple[Any, NDArray[Any]]:
    """(inputs, labels) of one part of the data; equal for equal arguments.

    The memory that it needs is that of the result, of the classes' patterns and of one block.

    Args:
        where: the workload and the part, for messages.
        wanted: the description.
        place: 0 for training data, 1 for validation and 2 for test data: other rows.
        train: the description of the training data: the labels of all parts depend on the inputs
            in the same way. Where it is `wanted`, validation and test data have fewer rows.
        free: bytes of the memory that are free; None where that is not known.

    Raises:
        UserError: shapes and types do not fit together or cannot be used, or the data do not fit
            into the memory.
    """
    gives = place > 0 and wanted is train
    rows = max(1, int(_OTHER_SHARE * wanted.rows)) if gives else wanted.rows
    inputs = _inputs(where, wanted)
    needed = sum(_bytes(wanted, rows, shape, dtype) for _, shape, dtype in inputs)
    if free is not None and needed > free / 2:
        raise UserError(
            f"{where}: {needed / 2**30:.2f} GiB of Synthetic data do not fit into the memory, of "
            f"which {free / 2**30:.2f} GiB are free: use fewer rows"
        )
    rule = np.random.default_rng((train.seed, 3))
    draw = np.random.default_rng((wanted.seed, place))
    if wanted.classes is not None:
        labels: NDArray[Any] = draw.integers(wanted.classes, size=rows, dtype=np.int32)
    else:
        labels = np.zeros((rows, 1), np.float32)
    arrays = {}
    for name, shape, dtype in inputs:
        if wanted.classes is not None:
            arrays[name] = _of_classes(wanted, labels, shape, dtype, rule, draw)
        else:
            arrays[name], part = _with_number(wanted, rows, shape, dtype, rule, draw)
            labels += part[:, None]
    if wanted.classes is None:
        labels += np.float32(_NOISE) * draw.standard_normal(labels.shape, np.float32)
    return _as_given(wanted.shapes, arrays), labels


def _of_classes(
    wanted: Synthetic,
    labels: NDArray[Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rule: np.random.Generator,
    draw: np.random.Generator,
) -> NDArray[Any]:
    """Inputs that tell of their class: by a pattern under noise, or by words that it prefers."""
    assert wanted.classes is not None
    found = np.empty((len(labels), *shape), dtype)
    if dtype.kind == "f":
        patterns = rule.standard_normal((wanted.classes, *shape), np.float32)
        patterns *= np.float32(_PATTERN)
        for block in _blocks(found):
            values = draw.standard_normal(found[block].shape, np.float32)
            values += patterns[labels[block]]
            found[block] = values
        return found
    few = max(1, int(_TELLING_WORDS * wanted.vocabulary))
    words = rule.integers(wanted.vocabulary, size=(wanted.classes, few))
    for block in _blocks(found):
        size = found[block].shape
        indices = draw.integers(wanted.vocabulary, size=size)
        telling = draw.random(size, np.float32) < _TELLING
        places = draw.integers(few, size=size)
        preferred = words[labels[block].reshape(-1, *(1 for _ in shape)), places]
        found[block] = np.where(telling, preferred, indices)
    return found


def _with_number(
    wanted: Synthetic,
    rows: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rule: np.random.Generator,
    draw: np.random.Generator,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Inputs, and their part of the number to predict: a weighted mean of values, of variance 1."""
    found, part = np.empty((rows, *shape), dtype), np.empty(rows, np.float32)
    if dtype.kind == "f":
        weights = rule.standard_normal(math.prod(shape), np.float32)
        weights /= np.float32(np.linalg.norm(weights))
        for block in _blocks(found):
            values = draw.standard_normal(found[block].shape, np.float32)
            part[block] = values.reshape(len(values), -1) @ weights
            found[block] = values
        return found, part
    of_word = rule.standard_normal(wanted.vocabulary, np.float32)
    of_word /= np.float32(math.sqrt(math.prod(shape)))
    for block in _blocks(found):
        words = draw.integers(wanted.vocabulary, size=found[block].shape)
        part[block] = of_word[words].reshape(len(words), -1).sum(axis=1)
        found[block] = words
    return found, part


def _blocks(found: NDArray[Any]) -> Iterator[slice]:
    """The rows of an array in blocks of about `_BLOCK` values."""
    rows = max(1, _BLOCK * len(found) // found.size)
    return (slice(first, first + rows) for first in range(0, len(found), rows))


def _bytes(wanted: Synthetic, rows: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of an input with `rows` rows, and of the patterns of its classes."""
    patterns = 4 * (wanted.classes or 1) if dtype.kind == "f" else 0
    return math.prod(shape) * (rows * dtype.itemsize + patterns)


def _inputs(where: str, wanted: Synthetic) -> list[tuple[Any, tuple[int, ...], np.dtype[Any]]]:
    """(name, shape of a sample, type) of each input; a lone input is called None."""
    shapes, dtypes = wanted.shapes, wanted.dtypes
    if isinstance(shapes, Mapping):
        items = list(shapes.items())
    elif _is_shape(shapes):
        items = [(None, shapes)]
    else:
        items = list(enumerate(shapes)) if isinstance(shapes, tuple | list) else [(None, shapes)]
    found = []
    for name, shape in items:
        several = isinstance(dtypes, Mapping | tuple | list)
        try:
            dtype = np.dtype(dtypes[name] if several else dtypes)
        except (TypeError, KeyError, IndexError) as error:
            raise UserError(
                f"{where}: Synthetic(dtypes={dtypes!r}): name a type of NumPy for each input"
            ) from error
        if not _is_shape(shape):
            raise UserError(f"{where}: Synthetic(shapes={shapes!r}): a shape is a tuple of sizes")
        if dtype.kind not in "fiu":
            raise UserError(f"{where}: Synthetic(dtypes={dtypes!r}): must be floats or integers")
        if dtype.kind in "iu" and wanted.vocabulary - 1 > np.iinfo(dtype).max:
            raise UserError(
                f"{where}: Synthetic(vocabulary={wanted.vocabulary}): does not fit into {dtype}"
            )
        found.append((name, tuple(shape), dtype))
    return found


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(
        isinstance(side, int) and side > 0 for side in value
    )


def _as_given(shapes: Any, arrays: Mapping[Any, NDArray[Any]]) -> Any:
    """The inputs in the form of `shapes`."""
    if None in arrays:
        return arrays[None]
    return dict(arrays) if isinstance(shapes, Mapping) else tuple(arrays.values())
