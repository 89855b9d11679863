"""These tests train with JAX, in this process: `tox -e tests-jax` runs them where it is alone."""

from __future__ import annotations

import os


def pytest_ignore_collect() -> bool | None:
    """Leave them out where Keras has another framework, which it would have for all tests."""
    return None if os.environ.get("KERAS_BACKEND") == "jax" else True
