"""`Model.fit` as in a user's script; the suite's `fit` must not be slower."""

from __future__ import annotations

import time

import keras

from bench.peers.launch import PeerLaunch, Training, keras_model
from fmnist_models import optimizers
from fmnist_models.dataset import TrainingData


class _Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Times each epoch as Keras's progress bar does: from its beginning to its end."""

    def __init__(self, launch: PeerLaunch) -> None:
        super().__init__()
        self._launch = launch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop it; the first epoch is not kept."""
        seconds = time.perf_counter() - self._began
        if epoch > 0 and logs is not None:
            self._launch.add(seconds, logs["loss"], logs["accuracy"])


def train(data: TrainingData, training: Training, rounds: int) -> PeerLaunch:
    """Train with one call of `fit`; the first epoch is not timed."""
    model, data = keras_model(training, data)
    model.compile(
        optimizers.create(training.optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    launch = PeerLaunch(len(data.train_x))
    model.fit(
        data.train_x,
        data.train_y,
        batch_size=training.batch_size,
        epochs=rounds + 1,
        verbose=0,
        callbacks=[_Clock(launch)],
    )
    return launch
