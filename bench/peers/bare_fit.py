"""`Model.fit` as a user's own script calls it: what the suite's `fit` must not fall behind."""

from __future__ import annotations

import time

import keras

from bench.peers.launch import PeerLaunch
from fmnist_models import architectures, optimizers
from fmnist_models.dataset import TrainingData


class _Clock(keras.callbacks.Callback):
    """Times each epoch as Keras's progress bar does: from its begin to its end."""

    def __init__(self, launch: PeerLaunch) -> None:
        super().__init__()
        self._launch = launch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        seconds = time.perf_counter() - self._began
        if epoch > 0 and logs is not None:
            self._launch.add(seconds, logs["loss"], logs["accuracy"])


def train(data: TrainingData, batch_size: int, rounds: int, seed: int) -> PeerLaunch:
    """One call of `fit` for `relu_mlp` with Adam, its first epoch not timed."""
    keras.utils.set_random_seed(seed)
    model = architectures.build("relu_mlp")
    model.compile(optimizers.create("adam"), "sparse_categorical_crossentropy", ["accuracy"])
    launch = PeerLaunch(len(data.train_x))
    model.fit(
        data.train_x,
        data.train_y,
        batch_size=batch_size,
        epochs=rounds + 1,
        verbose=0,
        callbacks=[_Clock(launch)],
    )
    return launch
