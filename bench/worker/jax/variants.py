"""Leaves parts out of a step of JAX, inside the worker's process.

Keras's step on JAX takes the state of the model and returns it. What a variant keeps is in more
variables, which travel at the end of the metrics' part of that state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import keras

from bench.schema.profile import Variant
from bench.worker.ready import Ready
from bench.worker.variants import PartialStep, Replaced, sizes_of
from fmnist_models.loops.base import Work
from fmnist_models.loops.watch import standing_in


class JaxParts(PartialStep):
    """The replacements for parts of a model's step.

    What is not kept is not computed: XLA leaves out all that no result of a call needs.

    Args:
        work: model and data.
    """

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        weights = work.model.trainable_variables
        leaves = work.batch.leaves
        sizes = sizes_of(work)
        self._loss = _zeros((), "float32")
        # One set for each batch size: if the last, smaller batch overwrote the gradients of
        # the full batches, XLA would not compute those.
        self._gradients = {n: [_zeros(w.shape, w.dtype) for w in weights] for n in sizes}
        self._batch = {
            n: [_zeros((n, *leaf.shape[1:]), "float32") for leaf in leaves] for n in sizes
        }
        # The values of what is kept while a step is traced; None at any other time.
        self._values: dict[int, Any] | None = None
        self._rows = 0

    @contextmanager
    def only(self, variant: Variant, loop: str) -> Iterator[None]:
        """Within the context, leave in the step only the parts of `variant`."""
        kept = self._kept(variant, loop)
        with ExitStack() as stack:
            stack.enter_context(super().only(variant, loop))
            if kept:
                model = self._model
                step = model.train_step
                carrying = self._carrying(step, kept)
                # A trace tells programs apart by their names.
                carrying.__name__ = f"{step.__name__}_{variant}"
                stack.enter_context(standing_in(model, "train_step", carrying))
                stack.enter_context(self._among_the_metrics(kept))
            yield

    def ready(self, work: Work) -> Ready:
        """Batches on the device."""
        return Ready(work)

    def _kept(self, variant: Variant, loop: str) -> list[keras.Variable]:
        """What a variant keeps; nothing where it leaves nothing out."""
        if not self._left_out(variant, loop):
            return []
        more = {Variant.BACKWARD: self._gradients, Variant.INPUT: self._batch}.get(variant, {})
        return [self._loss, *(variable for each in more.values() for variable in each)]

    def _among_the_metrics(self, kept: Sequence[keras.Variable]) -> Any:
        """The context in which the state has these variables, but not inside the step."""
        own = type(self._model).metrics_variables

        def with_kept(model: keras.Model) -> list[Any]:
            """The metrics' variables."""
            found: list[Any] = own.fget(model)
            return (
                found if self._values is not None or model is not self._model else [*found, *kept]
            )

        return standing_in(type(self._model), "metrics_variables", property(with_kept))

    def _carrying(
        self, step: Callable[[Any, Any], Any], kept: Sequence[keras.Variable]
    ) -> Callable[[Any, Any], Any]:
        """The step, on a state that has these variables too."""

        def carrying(state: Any, data: Any) -> Any:
            """One step."""
            *parts, metrics = state
            own = len(metrics) - len(kept)
            values = zip(map(id, kept), metrics[own:], strict=True)
            self._values, self._rows = dict(values), jax.tree.leaves(data)[0].shape[0]
            try:
                logs, told = step((*parts, metrics[:own]), data)
                *parts, metrics = told
                return logs, (*parts, [*metrics, *self._values.values()])
            finally:
                self._values = None

        return carrying

    def _keep(self, variable: keras.Variable, value: Any) -> None:
        assert self._values is not None
        self._values[id(variable)] = jnp.asarray(value, variable.dtype).reshape(variable.shape)

    def _nothing(self, *given: Any) -> Any:
        state, _ = given
        self._keep_loss(1.0)
        return self._no_metrics(), state

    def _keep_batch(self, *given: Any) -> Any:
        # Weights of classes, which `compiled` adds, have no variable.
        for variable, leaf in zip(self._batch[self._rows], jax.tree.leaves(given[1]), strict=False):
            self._keep(variable, leaf)
        return self._nothing(*given)

    def _keep_loss(self, loss: Any, sample_weight: Any = None) -> None:
        assert self._values is not None
        self._keep(self._loss, self._values[id(self._loss)] + loss)

    def _no_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {name: jnp.zeros(()) for name in self._names}

    def _without_gradients(self) -> list[Replaced]:
        model = self._model
        found: list[Replaced] = [(model.optimizer, "stateless_apply", self._drop_gradients)]
        step = getattr(model.train_step, "watched", model.train_step)
        if not model.jit_compile and getattr(step, "__func__", None) is keras.Model.train_step:
            # Without a compiler, JAX computes gradients that nothing needs.
            found.append((jax, "value_and_grad", _value_alone))
        return found

    def _without_update(self) -> list[Replaced]:
        return [(self._model.optimizer, "stateless_apply", self._keep_gradients)]

    def _drop_gradients(self, slots: Any, grads: Any, trainable: Any) -> tuple[Any, Any]:
        """Ignore the gradients, so that they are not computed."""
        return trainable, slots

    def _keep_gradients(self, slots: Any, grads: Any, trainable: Any) -> tuple[Any, Any]:
        """Keep the gradients, as far as they have the form of the weights."""
        for variable, gradient in zip(self._gradients[self._rows], grads, strict=False):
            if gradient is not None and gradient.shape == tuple(variable.shape):
                self._keep(variable, gradient)
        return trainable, slots


def _value_alone(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
    """`jax.value_and_grad` without the gradients."""

    def valued(*args: Any, **kwargs: Any) -> tuple[Any, None]:
        """What the function returns."""
        return function(*args, **kwargs), None

    return valued


def _zeros(shape: Sequence[int], dtype: str) -> keras.Variable:
    return keras.Variable(jnp.zeros(shape, dtype), trainable=False, dtype=dtype)
