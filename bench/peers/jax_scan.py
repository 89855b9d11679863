"""JAX with optax: a jitted epoch that runs `lax.scan` over its batches, with data on the device."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from bench.peers.training import (
    BETA_1,
    BETA_2,
    EPSILON,
    LEARNING_RATE,
    ByHand,
    Training,
    initial_weights,
)
from fmnist_models.dataset import TrainingData
from fmnist_models.errors import UserError


def refuse_wrong_results() -> None:
    """Refuse a JAX that computes one of two known wrong results on CPUs.

    Some releases compute them without an error. The first is a batch of products with one matrix
    and a sum over each (jax-ml/jax#39103: the last row was wrong under `jit`). The second is the
    arc tangent of 50 numbers and more (jax-ml/jax#39352). Both are tested in float32, and in
    float64 where JAX has it enabled.

    Raises:
        UserError: this JAX computes one of them wrong, so its speed cannot be compared.
    """
    kinds = [(jnp.float32, 32_769)]
    if jax.config.jax_enable_x64:
        kinds.append((jnp.float64, 16_385))
    for kind, rows in kinds:
        name = np.dtype(kind).name
        counted = np.arange(rows, dtype=name)
        matrix = jnp.eye(3, dtype=kind)
        x = jnp.asarray(np.stack((counted, 0 * counted, 0 * counted), axis=1))
        squared = jax.jit(jax.vmap(lambda row, m=matrix: jnp.sum((m @ row) ** 2)))
        _must_agree(f"a vmapped product and sum in {name}", squared(x), counted**2)
        for count in (49, 50, 64, 100, 200):
            values = np.linspace(-5, 5, count, dtype=name)
            for arctan in (jnp.arctan, jax.jit(jnp.arctan)):
                told = arctan(jnp.asarray(values))
                _must_agree(f"the arctan of {count} values in {name}", told, np.arctan(values))


def _must_agree(what: str, told: jax.Array, right: NDArray[Any]) -> None:
    if not np.allclose(told, right, rtol=1e-5, atol=1e-6):
        raise UserError(
            f"JAX {jax.__version__} computes {what} wrong, so its speed cannot be compared: "
            "pip install -c constraints.txt jax"
        )


def build(data: TrainingData, training: Training) -> ByHand:
    """The training of 784-100-10 with a ReLU and Adam; weights and slots are donated to each call.

    Raises:
        UserError: the installed JAX computes wrong results.
    """
    if jax.default_backend() == "gpu":
        # The default there is TF32, which the check would take for a wrong result.
        jax.config.update("jax_default_matmul_precision", "float32")
    refuse_wrong_results()
    images, labels = jnp.asarray(data.train_x), jnp.asarray(data.train_y)
    batch = training.batch_size
    params = [jnp.asarray(value) for value in initial_weights(training.seed)]
    optimizer = optax.adam(LEARNING_RATE, BETA_1, BETA_2, EPSILON)
    full = len(data.train_x) // batch

    def loss_and_hits(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean loss of a batch, and its number of right answers (0 without accuracy)."""
        hidden = jax.nn.relu(x @ params[0] + params[1])
        logits = hidden @ params[2] + params[3]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        hits = (logits.argmax(-1) == y).sum() if training.accuracy else jnp.int32(0)
        return losses.mean(), hits

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
        """Train on every full batch, then on the rest."""
        carry = (params, slots, jnp.float32(0), jnp.int32(0))
        carry, _ = jax.lax.scan(step, carry, order[: full * batch].reshape(full, batch))
        if full * batch < order.size:
            carry, _ = step(carry, order[full * batch :])
        return carry

    run = jax.jit(whole_epoch, donate_argnums=(0, 1))
    state: list[Any] = [params, optimizer.init(params)]

    def epoch(order: NDArray[np.int32]) -> tuple[float, float | None]:
        """Train an epoch in this order; returns its mean loss and accuracy."""
        state[0], state[1], loss_sum, hit_sum = run(*state, jnp.asarray(order))
        accuracy = int(hit_sum) / order.size if training.accuracy else None
        return float(loss_sum) / order.size, accuracy

    return ByHand(epoch, lambda: [np.asarray(value) for value in state[0]])
