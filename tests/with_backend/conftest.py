"""These tests train in this process with the framework that KERAS_BACKEND names.

`tox -e tests-jax` and `tox -e tests-torch` run them where it is the only one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_OTHERS = ("jax", "torch")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out all of them where Keras has TensorFlow, and those of another framework."""
    backend = os.environ.get("KERAS_BACKEND")
    if backend not in _OTHERS:
        return True
    others = tuple(f"test_{name}" for name in _OTHERS if name != backend)
    return True if collection_path.name.startswith(others) else None


@pytest.fixture(autouse=True)
def rounds_as_fit() -> Iterator[None]:
    """PyTorch's compiler rounds each 16-bit result, as its own operations do.

    By itself it keeps the results within a kernel in 32 bits. Then weights in 16 bits differ by
    that rounding, which hides other differences.
    """
    if os.environ.get("KERAS_BACKEND") != "torch":
        yield
        return
    import torch
    from torch._inductor import config

    # The work is small: two threads wait for each other longer than they compute.
    torch.set_num_threads(1)

    with config.patch(emulate_precision_casts=True):
        yield


@pytest.fixture(autouse=True)
def usual_precision() -> Iterator[None]:
    """A launch sets the dtype policy of its process, which here is that of all tests."""
    import keras

    yield
    keras.config.set_dtype_policy("float32")
