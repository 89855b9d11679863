"""JAX with optax: one jitted epoch, `lax.scan` over its batches, data on the device."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from bench.peers.launch import Epoch, Training
from fmnist_models.dataset import TrainingData


def build(data: TrainingData, training: Training) -> Epoch:
    """The epoch of 784-100-10 with a ReLU and Adam, weights and slots donated to each call."""
    images, labels = jnp.asarray(data.train_x), jnp.asarray(data.train_y)
    batch = training.batch_size
    first, second = jax.random.split(jax.random.key(training.seed))
    glorot = jax.nn.initializers.glorot_uniform()
    params = {
        "hidden": {"w": glorot(first, (784, 100)), "b": jnp.zeros(100)},
        "output": {"w": glorot(second, (100, 10)), "b": jnp.zeros(10)},
    }
    optimizer = optax.adam(1e-3, eps=1e-7)
    full = len(data.train_x) // batch

    def loss_and_hits(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean loss of a batch, and how many of it were right."""
        hidden = jax.nn.relu(x @ params["hidden"]["w"] + params["hidden"]["b"])
        logits = hidden @ params["output"]["w"] + params["output"]["b"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), (logits.argmax(-1) == y).sum()

    def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
        """One update on a batch."""
        params, slots, loss_sum, hit_sum = carry
        (loss, hits), grads = jax.value_and_grad(loss_and_hits, has_aux=True)(
            params, images[rows], labels[rows]
        )
        updates, slots = optimizer.update(grads, slots, params)
        params = optax.apply_updates(params, updates)
        return (params, slots, loss_sum + loss * rows.size, hit_sum + hits), None

    def whole_epoch(params: Any, slots: Any, order: jax.Array) -> Any:
        """Every full batch, then the rest."""
        carry = (params, slots, jnp.float32(0), jnp.int32(0))
        carry, _ = jax.lax.scan(step, carry, order[: full * batch].reshape(full, batch))
        if full * batch < order.size:
            carry, _ = step(carry, order[full * batch :])
        return carry

    run = jax.jit(whole_epoch, donate_argnums=(0, 1))
    state: list[Any] = [params, optimizer.init(params)]

    def epoch(order: NDArray[np.int32]) -> tuple[float, float]:
        """Mean loss and accuracy of an epoch in this order."""
        state[0], state[1], loss_sum, hit_sum = run(*state, jnp.asarray(order))
        return float(loss_sum) / order.size, int(hit_sum) / order.size

    return epoch
