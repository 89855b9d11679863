"""`compiled` with JAX: a whole epoch as one `jax.jit` over Keras's stateless step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from fmnist_models.dataset import PIXEL_SCALE
from fmnist_models.loops.base import Work, read_logs
from fmnist_models.loops.compiled import CompiledLoop, build_metrics_and_losses
from fmnist_models.loops.jax.replicas import Spread
from fmnist_models.loops.jax.state import State, keep_state, state_of
from fmnist_models.loops.jax.watch import JaxWatch

_numbers = count(1)


class JaxCompiledLoop(CompiledLoop):
    """Trains each epoch in one XLA-compiled call of JAX.

    The state (weights, optimizer, metrics, seeds) is an argument and a result of the call, and its
    memory is donated, so that an update needs no second copy. Between epochs it is in the model's
    variables, as after an epoch of `Model.fit`.

    On several replicas, the data are whole on each device, and each trains its share of the rows
    of a step. Rows of a last step that do not divide are trained by each.
    """

    def __init__(self, work: Work) -> None:
        self._spread = Spread() if work.replicas.spread else None
        super().__init__(work)
        self._watch = cast("JaxWatch", self.watch)

    def _build(self) -> None:
        """Make metrics and losses: a program of replicas has places for all variables."""
        build_metrics_and_losses(self.work, self.watch.plain)

    def new_program(self) -> Any:
        """A new function of a whole epoch, with the model's step of its first call."""

        def epoch(*given: Any) -> tuple[Any, State]:
            """An epoch; of a method, JAX would take the trace of an earlier program."""
            return self._whole_epoch(*given)

        # A trace tells programs apart by their names.
        epoch.__name__ = f"epoch_{next(_numbers)}"
        places = None if self._spread is None else self._spread.after(self.work.model)
        return jax.jit(epoch, donate_argnums=0, out_shardings=places)

    def _put(self, array: NDArray[Any]) -> jax.Array:
        return jax.device_put(array) if self._spread is None else self._spread.put(array)

    def _whole_epoch(
        self, state: State, data: tuple[jax.Array, ...], order: jax.Array
    ) -> tuple[Any, State]:
        batch_size = self.work.batch_size
        full, block, rest = self._steps()
        rows = block * batch_size

        def train_on(batch: Sequence[jax.Array], carried: tuple[Any, State]) -> tuple[Any, State]:
            """Run one step; keep the logs of a model's own step."""
            logs, state = self._step(carried[1], batch)
            if self._spread is not None:
                state = self._spread.kept(state)
            return self._kept(logs), state

        def train_on_block(number: Any, carried: tuple[Any, State]) -> tuple[Any, State]:
            """Run one gather, and its steps."""
            chosen = lax.dynamic_slice_in_dim(order, number * rows, rows)
            if block == 1:
                return train_on(self._batch(data, chosen), carried)
            gathered = self._gathered(data, chosen, block)

            def turn(place: Any, carried: tuple[Any, State]) -> tuple[Any, State]:
                """Run one step on its slice of the block."""
                return train_on(self._step_of(gathered, place), carried)

            found: tuple[Any, State] = lax.fori_loop(0, block, turn, carried)
            return found

        carried = (self._no_logs(state, data, batch_size if full else rest), state)
        if full:
            carried = lax.fori_loop(0, full // block, train_on_block, carried)
        if rest:
            carried = train_on(self._batch(data, order[-rest:]), carried)
        return carried

    def _batch(self, data: Sequence[jax.Array], chosen: jax.Array) -> list[jax.Array]:
        """The chosen rows, of one step."""
        if self._spread is None:
            return _gather(data, chosen)
        return self._spread.step_of(self._spread.gather(data, chosen), 0)

    def _gathered(
        self, data: Sequence[jax.Array], chosen: jax.Array, steps: int
    ) -> list[jax.Array]:
        """The chosen rows, of several steps."""
        if self._spread is None:
            return _gather(data, chosen)
        return self._spread.gather(data, chosen, steps)

    def _step_of(self, gathered: Sequence[jax.Array], place: Any) -> list[jax.Array]:
        """The rows of one of several steps."""
        if self._spread is not None:
            return self._spread.step_of(gathered, place)
        size = self.work.batch_size
        return [lax.dynamic_slice_in_dim(x, place * size, size) for x in gathered]

    def _step(self, state: State, batch: Sequence[jax.Array]) -> tuple[Any, State]:
        leaves = list(batch)
        if self.work.arrays.pixels is not None:
            leaves[0] = _scaled(leaves[0])
        leaves = [x.reshape(-1, *shape) for x, shape in zip(leaves, self._shapes, strict=True)]
        logs, told = self.work.model.train_step(state, self._packed(leaves))
        # A step of the user's own may return tuples; what is carried has one form.
        return logs, tuple(list(part) for part in told)

    def _kept(self, logs: Any) -> Any:
        """The logs of a model's own step; Keras's own are in its metrics."""
        return None if self.watch.plain else logs

    def _no_logs(self, state: State, data: tuple[jax.Array, ...], rows: int) -> Any:
        """Zeros in the form of a step's logs, which an epoch begins with."""
        if self.watch.plain:
            return None
        batch = [jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype) for leaf in data]
        logs, _ = jax.eval_shape(self._step, state, batch)
        return jax.tree.map(lambda form: jnp.zeros(form.shape, form.dtype), logs)

    def _call(self, order: NDArray[np.int32]) -> Any:
        full, _, rest = self._steps()
        self._watch.count(full, self.work.batch_size)
        self._watch.count(bool(rest), rest)
        chosen = order if self._spread is None else self._spread.put(order)
        return self._epoch(state_of(self.work.model), self._data, chosen)

    def _logs(self, told: Any) -> Any:
        logs, state = told
        keep_state(self.work.model, state)
        metrics = dict(self.work.model.get_metrics_result())
        numbers = read_logs(logs)
        return numbers if numbers and set(numbers) != set(metrics) else metrics


def _gather(data: Sequence[jax.Array], chosen: jax.Array) -> list[jax.Array]:
    """The chosen rows; they exist, so that nothing is computed to see whether they do."""
    return [leaf.at[chosen].get(mode="promise_in_bounds") for leaf in data]


def _scaled(pixels: jax.Array) -> jax.Array:
    """Bytes divided by 255.0, equal to that division bit for bit.

    XLA replaces a division by 255 with a product with 1/255, which rounds differently for 126 of
    the 256 bytes. With the two parts of `PIXEL_SCALE` the result is right, because the product
    with the first part is exact.
    """
    values = pixels.astype(jnp.float32)
    high, low = PIXEL_SCALE
    return values * high + values * low
