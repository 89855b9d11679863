"""Initial weights that are the same with every framework.

Each framework draws its own random numbers from a seed. Where their trainings are compared, a
model must begin with the same weights, so the numbers are drawn by NumPy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend import random
from numpy.typing import NDArray
from scipy import stats

from fmnist_models.loops.watch import standing_in

# As in Keras: numbers further from the mean are drawn again.
_CUT = 2.0


@contextmanager
def the_same_weights(seed: int) -> Iterator[None]:
    """Within the context, Keras draws the same numbers with every framework.

    The numbers depend on `seed` and on the order of the draws alone; the seeds of initializers are
    not used. Shapes and distributions are those of Keras's own.
    """
    draw = np.random.default_rng(seed)

    def given(values: NDArray[np.float64], dtype: Any) -> Any:
        """The numbers as a tensor; float32 in between, so that all round them alike."""
        dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        return keras.ops.cast(keras.ops.convert_to_tensor(values.astype(np.float32)), dtype)

    def normal(
        shape: Sequence[int], mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, **_: Any
    ) -> Any:
        """Numbers of a normal distribution."""
        return given(draw.normal(mean, stddev, tuple(shape)), dtype)

    def truncated_normal(
        shape: Sequence[int], mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, **_: Any
    ) -> Any:
        """Numbers of a normal distribution without its tails."""
        cut = stats.truncnorm.rvs(-_CUT, _CUT, size=tuple(shape), random_state=draw)
        return given(np.asarray(mean + stddev * cut), dtype)

    def uniform(
        shape: Sequence[int], minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, **_: Any
    ) -> Any:
        """Numbers of a uniform distribution."""
        return given(draw.uniform(minval, maxval, tuple(shape)), dtype)

    def orthogonal(initializer: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        """A matrix with orthogonal rows or columns, whose signs a framework's QR may choose."""
        rows, columns = int(np.prod(shape[:-1])), int(shape[-1])
        q, r = np.linalg.qr(draw.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))
        return given(initializer.gain * (q if rows >= columns else q.T).reshape(shape), dtype)

    with ExitStack() as stack:
        for name, drawn in (
            ("normal", normal),
            ("truncated_normal", truncated_normal),
            ("uniform", uniform),
        ):
            stack.enter_context(standing_in(random, name, drawn))
        kind = keras.initializers.Orthogonal
        stack.enter_context(standing_in(kind, "__call__", orthogonal))
        yield


def digest_of_weights(model: keras.Model) -> str:
    """SHA-256 of the trainable weights in their order, hexadecimal."""
    found = hashlib.sha256()
    for variable in model.trainable_variables:
        value = np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
        found.update(f"{value.shape}".encode())
        found.update(np.ascontiguousarray(value).data)
    return found.hexdigest()


def norms_of_weights(model: keras.Model) -> list[float]:
    """The Euclidean norm of each trainable weight, in their order."""
    return [
        float(np.linalg.norm(np.asarray(keras.ops.convert_to_numpy(variable), np.float64)))
        for variable in model.trainable_variables
    ]
