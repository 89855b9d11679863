"""A recurrent net that tells slow waves from fast ones, whatever their phase.

Shows a model that is compiled already: its optimizer, with its schedule, its loss and its metrics
are kept, and the column `optimizer` says `own`.

    fmnist-bench run --models examples/recurrent.py:waves --loops fit,multistep,compiled
"""

import keras
import numpy as np

from fmnist_models import Workload

STEPS, CLASSES = 24, 3


def sequences(rows, seed):
    """Waves of 2, 3 or 4 periods with a random phase, in noise: shape (rows, STEPS, 1)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(CLASSES, size=rows).astype("int32")
    phase = rng.uniform(0, 2 * np.pi, (rows, 1))
    x = np.sin(np.linspace(0, 2 * np.pi, STEPS) * (y[:, None] + 2) + phase)
    x += rng.normal(0, 0.3, x.shape)
    return x[..., None].astype("float32"), y


def waves():
    model = keras.Sequential(
        [
            keras.Input((STEPS, 1)),
            keras.layers.GRU(24),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ],
        name="waves",
    )
    rate = keras.optimizers.schedules.CosineDecay(0.02, decay_steps=320)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return Workload(
        model=model,
        train=sequences(2048, seed=1),
        validation=sequences(512, seed=2),
        test=sequences(512, seed=3),
        batch_size=32,
    )
