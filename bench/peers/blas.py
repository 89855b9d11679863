"""The training by hand against NumPy's BLAS, with every buffer allocated before the first step.

It is what a person could reach without a compiler: products by the machine's BLAS into buffers that
exist, all weights, gradients and slots in one flat array each, and Adam over these in place.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

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

Floats = NDArray[np.float32]


class _Adam:
    """Adam over one flat array, in place, in Keras's form ("epsilon hat")."""

    def __init__(self, weights: Floats) -> None:
        self._weights = weights
        self._first, self._second = np.zeros_like(weights), np.zeros_like(weights)
        self._buffer = np.empty_like(weights)
        self._steps = 0

    def update(self, slopes: Floats) -> None:
        """Update the weights; the slopes are overwritten."""
        self._steps += 1
        buffer = self._buffer
        np.multiply(slopes, np.float32(1 - BETA_1), out=buffer)
        self._first *= np.float32(BETA_1)
        self._first += buffer
        np.square(slopes, out=slopes)
        slopes *= np.float32(1 - BETA_2)
        self._second *= np.float32(BETA_2)
        self._second += slopes
        np.sqrt(self._second, out=buffer)
        buffer += np.float32(EPSILON)
        np.divide(self._first, buffer, out=buffer)
        corrected = math.sqrt(1 - BETA_2**self._steps) / (1 - BETA_1**self._steps)
        buffer *= np.float32(LEARNING_RATE * corrected)
        self._weights -= buffer


class _Step:
    """One update on a batch of a fixed size, whose buffers it owns."""

    def __init__(self, batch: int, weights: Floats, accuracy: bool) -> None:
        inputs, hidden, classes = UNITS
        self._weights, self._slopes = _split(weights), np.empty_like(weights)
        self._by_layer = _split(self._slopes)
        self._x = np.empty((batch, inputs), np.float32)
        self._y = np.empty(batch, np.int32)
        self._hidden, self._back = (np.empty((batch, hidden), np.float32) for _ in range(2))
        self._is_active = np.empty((batch, hidden), np.bool_)
        self._logits = np.empty((batch, classes), np.float32)
        self._rows, self._accuracy = np.arange(batch), accuracy

    def train(
        self, images: Floats, labels: NDArray[np.int32], rows: NDArray[np.int32], adam: _Adam
    ) -> tuple[float, int]:
        """Update on these samples; returns the sums of their losses and of their hits."""
        kernel, bias, kernel_2, bias_2 = self._weights
        np.take(images, rows, axis=0, out=self._x, mode="clip")
        np.take(labels, rows, out=self._y, mode="clip")
        np.matmul(self._x, kernel, out=self._hidden)
        self._hidden += bias
        np.maximum(self._hidden, 0, out=self._hidden)
        np.matmul(self._hidden, kernel_2, out=self._logits)
        self._logits += bias_2
        hits = int((self._logits.argmax(1) == self._y).sum()) if self._accuracy else 0
        loss = self._softmax()
        slope, slope_bias, slope_2, slope_bias_2 = self._by_layer
        np.matmul(self._hidden.T, self._logits, out=slope_2)
        np.sum(self._logits, axis=0, out=slope_bias_2)
        np.matmul(self._logits, kernel_2.T, out=self._back)
        np.greater(self._hidden, 0, out=self._is_active)
        self._back *= self._is_active
        np.matmul(self._x.T, self._back, out=slope)
        np.sum(self._back, axis=0, out=slope_bias)
        adam.update(self._slopes)
        return loss, hits

    def _softmax(self) -> float:
        """Turn the logits into the slope of the mean loss; returns the sum of the losses."""
        logits = self._logits
        logits -= logits.max(axis=1, keepdims=True)
        right = logits[self._rows, self._y]
        np.exp(logits, out=logits)
        sums = logits.sum(axis=1, keepdims=True)
        loss = float(np.log(sums).sum() - right.sum())
        logits /= sums
        logits[self._rows, self._y] -= 1
        logits /= np.float32(len(self._y))
        return loss


def build(data: TrainingData, training: Training) -> ByHand:
    """The training of 784-100-10 with a ReLU and Adam, in float32."""
    images, labels = data.train_x, data.train_y.astype(np.int32)
    weights = np.concatenate([value.ravel() for value in initial_weights(training.seed)])
    adam = _Adam(weights)
    steps: dict[int, _Step] = {}

    def epoch(order: NDArray[np.int32]) -> tuple[float, float | None]:
        """Train an epoch in this order; returns its mean loss and accuracy."""
        loss, hits = 0.0, 0
        for start in range(0, len(order), training.batch_size):
            rows = order[start : start + training.batch_size]
            if len(rows) not in steps:
                steps[len(rows)] = _Step(len(rows), weights, training.accuracy)
            told = steps[len(rows)].train(images, labels, rows, adam)
            loss, hits = loss + told[0], hits + told[1]
        return loss / len(order), hits / len(order) if training.accuracy else None

    return ByHand(epoch, lambda: [value.copy() for value in _split(weights)])


def _split(flat: Floats) -> list[Floats]:
    """Views of a flat array as kernels and biases, in turn."""
    found, at = [], 0
    for rows, columns in pairwise(UNITS):
        for shape in ((rows, columns), (columns,)):
            size = math.prod(shape)
            found.append(flat[at : at + size].reshape(shape))
            at += size
    return found
