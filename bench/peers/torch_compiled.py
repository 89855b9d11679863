"""PyTorch with each step as one graph: forward, gradients and Adam in one `torch.compile`.

The gradients are those of `torch.func`, because a compiled function ends at `loss.backward()`. In
a trial on one core this took 0.83 (batch 32) and 0.89 (512) times as long as compiled forward and
backward passes beside fused Adam, which took as long as an eager step at 32.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bench.peers.torch_eager import kept, network, place_data, sums
from bench.peers.training import BETA_1, BETA_2, EPSILON, LEARNING_RATE, ByHand, Training
from fmnist_models.dataset import TrainingData


def build(data: TrainingData, training: Training) -> ByHand:
    """The training; Python calls the compiled step for each batch."""
    images, labels = place_data(data)
    model = network(training, images.device)
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    first, second = (
        {name: torch.zeros_like(value) for name, value in weights.items()} for _ in range(2)
    )
    number = torch.zeros((), device=images.device)
    loss_sum, hit_sum = sums(images.device)

    def loss_and_logits(
        weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss of a batch, and its logits."""
        logits = torch.func.functional_call(model, weights, (x,))
        return functional.cross_entropy(logits, y), logits

    def step(rows: torch.Tensor) -> None:
        """One update on the rows of a batch, in place."""
        x, y = images[rows], labels[rows]
        slopes, (loss, logits) = torch.func.grad_and_value(loss_and_logits, has_aux=True)(
            weights, x, y
        )
        number.add_(1)
        scale = LEARNING_RATE / (1 - BETA_1**number)
        correction = (1 - BETA_2**number).sqrt()
        for name, weight in weights.items():
            slope = slopes[name]
            first[name].lerp_(slope, 1 - BETA_1)
            second[name].mul_(BETA_2).addcmul_(slope, slope, value=1 - BETA_2)
            weight.sub_(scale * first[name] / (second[name].sqrt() / correction + EPSILON))
        loss_sum.add_(loss * len(rows))
        if training.accuracy:
            hit_sum.add_((logits.argmax(1) == y).sum())

    # Another number of rows, that of the last step, gets a graph of its own.
    compiled = torch.compile(step, fullgraph=True, dynamic=False)

    def epoch(order: NDArray[np.int32]) -> tuple[float, float | None]:
        """Train an epoch in this order; returns its mean loss and accuracy."""
        loss_sum.zero_()
        hit_sum.zero_()
        for rows in torch.from_numpy(order).long().to(images.device).split(training.batch_size):
            compiled(rows)
        accuracy = hit_sum.item() / len(order) if training.accuracy else None
        return loss_sum.item() / len(order), accuracy

    return ByHand(epoch, lambda: kept(weights.values()))
