"""scikit-learn's `MLPClassifier`, by `partial_fit` on a whole epoch in the given order.

It computes in float32, with the same Adam, epsilon and batches as the others, and no penalty. It
makes one-hot labels of the epoch's labels at each call, and it computes no accuracy while it
trains: that would be another pass over the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from bench.peers.training import (
    BETA_1,
    BETA_2,
    EPSILON,
    LEARNING_RATE,
    UNITS,
    ByHand,
    Training,
    initial_weights,
)
from fmnist_models.dataset import TrainingData


class _Begun(MLPClassifier):  # type: ignore[misc]
    """Begins with given weights; scikit-learn would draw the biases too."""

    def begin_with(self, weights: list[NDArray[np.float32]]) -> None:
        """Begin with these kernels and biases, in turn."""
        self._given = list(zip(weights[::2], weights[1::2], strict=True))

    def _init_coef(
        self, fan_in: int, fan_out: int, dtype: object
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._given.pop(0)


def build(data: TrainingData, training: Training) -> ByHand:
    """The training; an epoch is one call of `partial_fit`."""
    images, labels = data.train_x, data.train_y
    classes = np.arange(UNITS[-1])
    network = _Begun(
        hidden_layer_sizes=UNITS[1:-1],
        alpha=0.0,
        batch_size=min(training.batch_size, len(images)),
        learning_rate_init=LEARNING_RATE,
        beta_1=BETA_1,
        beta_2=BETA_2,
        epsilon=EPSILON,
        shuffle=False,
    )
    network.begin_with(initial_weights(training.seed))

    def epoch(order: NDArray[np.int32]) -> tuple[float, None]:
        """Train an epoch in this order; returns its mean loss."""
        network.partial_fit(images[order], labels[order], classes=classes)
        return float(network.loss_), None

    def weights() -> list[NDArray[np.float32]]:
        """Kernels and biases, in turn."""
        pairs = zip(network.coefs_, network.intercepts_, strict=True)
        return [value for pair in pairs for value in pair]

    return ByHand(epoch, weights)
