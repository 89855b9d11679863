"""The same initial weights with every framework, distributed as Keras's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

SHAPE = (200, 100)


def drawn(name: str, number: int = 1, **settings: Any) -> Any:
    import keras

    from fmnist_models.loops.start import the_same_weights

    with the_same_weights(number):
        initializer = keras.initializers.get({"class_name": name, "config": settings})
        return np.asarray(keras.ops.convert_to_numpy(initializer(SHAPE, dtype="float32")))


@pytest.mark.parametrize(
    "name", ["GlorotUniform", "HeNormal", "RandomNormal", "TruncatedNormal", "RandomUniform"]
)
def test_numbers_are_distributed_as_keras_draws_them(name: str) -> None:
    import keras

    found = drawn(name)
    keras.utils.set_random_seed(1)
    own = np.asarray(keras.ops.convert_to_numpy(getattr(keras.initializers, name)()(SHAPE)))
    assert found.dtype == own.dtype == np.float32
    assert found.std() == pytest.approx(own.std(), rel=0.03)
    assert abs(found).max() == pytest.approx(abs(own).max(), rel=0.35)
    assert not np.array_equal(found, own)


def test_orthogonal_stays_orthogonal() -> None:
    found = drawn("Orthogonal", gain=2.0)
    assert np.allclose(found.T @ found, 4 * np.eye(SHAPE[1]), atol=1e-4)


@pytest.mark.parametrize("name", ["GlorotUniform", "HeNormal", "Orthogonal"])
def test_the_seed_alone_decides(name: str) -> None:
    assert np.array_equal(drawn(name, 1), drawn(name, 1, seed=9))
    assert not np.array_equal(drawn(name, 1), drawn(name, 2))


def known(build: Callable[[], Any]) -> str:
    from fmnist_models.loops.start import digest_of_weights, the_same_weights

    with the_same_weights(7):
        return digest_of_weights(build())


def test_the_digest_is_the_same_with_every_framework() -> None:
    """`tox -e tests-jax` runs this with JAX too."""
    import keras

    def build() -> Any:
        """Uniform weights of two layers."""
        layers = keras.layers
        return keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])

    assert known(build) == DIGEST
    # Outside of the context, Keras draws its own.
    from fmnist_models.loops.start import digest_of_weights

    assert digest_of_weights(build()) != DIGEST


DIGEST = "9409c669248435031c9fff3c6a2404aeb7d0ed96685cf73eefe1ca120c124f33"
