"""Training data in memory.

A nest is an array, or a tuple, list or dictionary of nests. Keras is imported inside the functions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_models.errors import UserError

# The share of the free memory that data may take: the training needs memory beside it.
MOST_OF_MEMORY = 0.9


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


def refuse_too_large(
    name: str,
    size_bytes: int,
    free: int | None,
    where: str = "memory",
    remedy: str = "use fewer rows, or a stream",
) -> None:
    """Refuse data that do not fit, before they are copied.

    Raises:
        UserError: they are larger than 90% of what is free; the message has both sizes.
    """
    if free is not None and size_bytes > MOST_OF_MEMORY * free:
        raise UserError(
            f"{name}: {size_bytes / 2**30:.2f} GiB of data do not fit into the {where}, of which "
            f"{free / 2**30:.2f} GiB are free: {remedy}"
        )
