"""PyTorch in eager mode, with fused Adam and the images on the device, in float32 (its default)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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


def place_data(data: TrainingData) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels, on the GPU where PyTorch has one.

    Everything else is put there by name: a default device would slow down every call.
    """
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.from_numpy(np.ascontiguousarray(data.train_x)).to(place)
    return images, torch.from_numpy(data.train_y).long().to(place)


def network(training: Training, place: torch.device) -> nn.Sequential:
    """784-100-10 with a ReLU and the common initial weights; PyTorch keeps kernels transposed."""
    model = nn.Sequential(nn.Linear(*UNITS[:2]), nn.ReLU(), nn.Linear(*UNITS[1:]))
    with torch.no_grad():
        for parameter, value in zip(
            model.parameters(), initial_weights(training.seed), strict=True
        ):
            parameter.copy_(torch.from_numpy(value.T))
    return model.to(place)


def sums(place: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of an epoch's losses, and of its right answers, before the first step."""
    return torch.zeros((), device=place), torch.zeros((), dtype=torch.long, device=place)


def build(data: TrainingData, training: Training) -> ByHand:
    """The training with a ReLU; loss and hits stay on the device until an epoch's end."""
    images, labels = place_data(data)
    model = network(training, images.device)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=LEARNING_RATE, betas=(BETA_1, BETA_2), eps=EPSILON, fused=True
    )
    criterion = nn.CrossEntropyLoss()

    def epoch(order: NDArray[np.int32]) -> tuple[float, float | None]:
        """Train an epoch in this order; returns its mean loss and accuracy."""
        loss_sum, hit_sum = sums(images.device)
        for rows in torch.from_numpy(order).long().to(images.device).split(training.batch_size):
            x, y = images[rows], labels[rows]
            optimizer.zero_grad(set_to_none=True)
            logits = model(x)
            loss = criterion(logits, y)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(rows)
            if training.accuracy:
                hit_sum += (logits.detach().argmax(1) == y).sum()
        accuracy = hit_sum.item() / len(order) if training.accuracy else None
        return loss_sum.item() / len(order), accuracy

    return ByHand(epoch, lambda: kept(model.parameters()))


def kept(parameters: Iterable[torch.Tensor]) -> list[NDArray[np.float32]]:
    """Parameters as `initial_weights` has them."""
    return [value.detach().cpu().numpy().T.copy() for value in parameters]
