"""What all peers share: the training, its initial weights and orders, and what a launch tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Of the network that peers by hand train: 784-100-10.
UNITS = (784, 100, 10)
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


@dataclass(frozen=True, slots=True)
class Training:
    """The training of a peer.

    Attributes:
        batch_size: samples a step; the last step takes the rest.
        seed: seed of the weights and of the order.
        model, optimizer, precision: as the matrix spells them; peers that are not Keras train
            only relu_mlp with Adam in float32.
        accuracy: compute and report the accuracy.
        device: `cpu`, `gpu` or `gpu:N`.
    """

    batch_size: int
    seed: int
    model: str = "relu_mlp"
    optimizer: str = "adam"
    precision: str = "float32"
    accuracy: bool = True
    device: str = "cpu"


class Stopwatch:
    """Reads the seconds since it was made, by the clock and of this process's CPU time."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._clock = time.perf_counter()

    def read(self) -> tuple[float, float]:
        """(seconds, CPU seconds)."""
        return time.perf_counter() - self._clock, time.process_time() - self._cpu


@dataclass(frozen=True, slots=True)
class PeerLaunch:
    """The rounds of one batch size that one process measured.

    Attributes:
        batch_size: samples a step.
        samples: samples trained in each round.
        seconds: seconds of each round, without the first epoch, which traces and compiles.
        cpu_seconds: CPU time of the process in each of them.
        losses, accuracies: running means over each of these epochs; no accuracies where
            `Training.accuracy` is False.
        device: the device that the framework used: `cpu`, or the name of a GPU.
        software: versions of what trained.
    """

    batch_size: int
    samples: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    device: str = ""
    software: str = ""

    def add(self, watch: Stopwatch, loss: float, accuracy: float | None) -> None:
        """Add a round that ends now; `accuracy` is None where it was not computed."""
        seconds, cpu_seconds = watch.read()
        self.seconds.append(seconds)
        self.cpu_seconds.append(cpu_seconds)
        self.losses.append(loss)
        if accuracy is not None:
            self.accuracies.append(accuracy)


@dataclass(frozen=True, slots=True)
class ByHand:
    """A training that is ready to run.

    Attributes:
        epoch: trains one epoch in an order of samples, and returns mean loss and accuracy (None
            without accuracy) when everything is computed.
        weights: the weights now, in the order and the shapes of `initial_weights`.
    """

    epoch: Callable[[NDArray[np.int32]], tuple[float, float | None]]
    weights: Callable[[], list[NDArray[np.float32]]]


def initial_weights(seed: int) -> list[NDArray[np.float32]]:
    """Kernel and bias of the hidden layer, then of the output layer, before the first step.

    As in Keras: kernels are Glorot uniform, and biases 0. They are those that Keras draws within
    `fmnist_models.loops.start.the_same_weights`, so all peers begin alike.
    """
    draw = np.random.default_rng(seed)
    found = []
    for rows, columns in pairwise(UNITS):
        limit = np.sqrt(6 / (rows + columns))
        found.append(draw.uniform(-limit, limit, (rows, columns)).astype(np.float32))
        found.append(np.zeros(columns, np.float32))
    return found


def order_of(seed: int, epoch: int, samples: int) -> NDArray[np.int32]:
    """The order of samples of an epoch; the same as that of the suite's `compiled`."""
    order = np.arange(samples, dtype=np.int32)
    np.random.default_rng((seed, epoch)).shuffle(order)
    return order
