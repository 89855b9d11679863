"""TensorFlow without Keras: the epoch of `tensorflow_function` compiled by XLA."""

from __future__ import annotations

from bench.peers import tensorflow_function
from bench.peers.training import ByHand, Training
from fmnist_models.dataset import TrainingData


def build(data: TrainingData, training: Training) -> ByHand:
    """The training as one XLA program an epoch."""
    return tensorflow_function.by_hand(data, training, jit_compile=True)
