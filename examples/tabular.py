"""A table with two inputs, numbers and a category, and a number to predict.

Shows a dictionary of inputs, and a score of which less is better, with a target to reach.

    fmnist-bench run --models examples/tabular.py:prices --loops fit,multistep,compiled \
        --optimizers adam
"""

import keras
import numpy as np

from fmnist_models import Workload

NUMBERS, CITIES = 6, 40


def table(rows, seed):
    """Prices that depend on a few numbers of a flat, and on its city."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, NUMBERS)).astype("float32")
    city = rng.integers(CITIES, size=rows).astype("int32")
    price = numbers @ np.linspace(-1, 1, NUMBERS) + np.sin(city) + 0.5 * numbers[:, 0] ** 2
    price += rng.normal(0, 0.1, rows)
    return {"numbers": numbers, "city": city}, price.astype("float32")


def prices():
    numbers = keras.Input((NUMBERS,), name="numbers")
    city = keras.Input((), dtype="int32", name="city")
    x = keras.layers.Concatenate()([numbers, keras.layers.Embedding(CITIES, 4)(city)])
    x = keras.layers.Dense(32, activation="relu")(x)
    price = keras.layers.Dense(1)(x)
    return Workload(
        model=keras.Model({"numbers": numbers, "city": city}, price, name="prices"),
        train=table(4096, seed=1),
        validation=table(1024, seed=2),
        test=table(1024, seed=3),
        loss="mse",
        metrics=["mae"],
        score="mae",
        better="min",
        target=0.5,
        batch_size=32,
    )
