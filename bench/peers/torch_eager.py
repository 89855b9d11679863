"""PyTorch in eager mode, with fused Adam and the images on the device, in float32 (its default)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.peers.launch import Epoch, Training
from fmnist_models.dataset import TrainingData


def build(data: TrainingData, training: Training) -> Epoch:
    """The epoch of 784-100-10 with a ReLU; loss and hits stay on the device until its end."""
    torch.manual_seed(training.seed)
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    place = torch.get_default_device()
    images = torch.from_numpy(np.ascontiguousarray(data.train_x)).to(place)
    labels = torch.from_numpy(data.train_y).long().to(place)
    model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    for layer in (model[0], model[2]):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    criterion = nn.CrossEntropyLoss()

    def epoch(order: NDArray[np.int32]) -> tuple[float, float]:
        """Train an epoch in this order; returns its mean loss and accuracy."""
        loss_sum, hit_sum = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for rows in torch.from_numpy(order).long().to(place).split(training.batch_size):
            x, y = images[rows], labels[rows]
            optimizer.zero_grad(set_to_none=True)
            logits = model(x)
            loss = criterion(logits, y)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(rows)
            hit_sum += (logits.detach().argmax(1) == y).sum()
        return loss_sum.item() / len(order), hit_sum.item() / len(order)

    return epoch
