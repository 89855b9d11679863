"""`Model.fit` as in a user's script; the suite's `fit` must not be slower."""

from __future__ import annotations

import keras

from bench.peers.launch import keras_model
from bench.peers.tensorflow_function import set_products
from bench.peers.training import PeerLaunch, Stopwatch, Training
from bench.worker.protocol import Pause
from fmnist_models import optimizers
from fmnist_models.dataset import TrainingData

# The callback ends the training.
ENDLESS = 10**9


class _Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Times each epoch as Keras's progress bar does: from its beginning to its end."""

    def __init__(self, launch: PeerLaunch, rounds: int, pause: Pause) -> None:
        super().__init__()
        self._launch = launch
        self._rounds = rounds
        self._pause = pause

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._watch = Stopwatch()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop it; the first epoch is not kept. Pause before the next one."""
        if epoch > 0 and logs is not None:
            self._launch.add(self._watch, logs["loss"], logs.get("accuracy"))
        if len(self._launch.seconds) < self._rounds:
            self._pause()
        else:
            self.model.stop_training = True


def train(data: TrainingData, training: Training, rounds: int, pause: Pause) -> PeerLaunch:
    """Train with one call of `fit`; the first epoch is not timed."""
    set_products(training)
    model, data = keras_model(training, data)
    model.compile(
        optimizers.create(training.optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"] if training.accuracy else [],
    )
    launch = PeerLaunch(training.batch_size, len(data.train_x))
    model.fit(
        data.train_x,
        data.train_y,
        batch_size=training.batch_size,
        epochs=ENDLESS,
        verbose=0,
        callbacks=[_Clock(launch, rounds, pause)],
    )
    return launch
