"""Counts the FLOPs of a training step: lowers it for XLA, runs nothing, changes nothing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

from bench.analysis.lowered import Uncountable, module_flops
from bench.worker.counting import Counted, checked, uncounted
from bench.worker.tensorflow.layer_calls import LayerCalls
from fmnist_models.loops.watch import layers_of, standing_in

_LONGEST_REASON = 120


def step_flops(model: keras.Model, step: Callable[[Any], Any], batch: Any) -> Counted:
    """Count the FLOPs of one step of `model`.

    The step is traced once more and lowered for the device of `batch`. Nothing is run or compiled.
    Of several replicas, it is the step of the first one.
    Recurrent layers are lowered as loops, because XLA knows nothing of cuDNN's; both have the same
    products. The layers' own count is compared where the step is Keras's own.

    Args:
        model: a compiled model whose optimizer is built.
        step: its training step, without the observation of a loop.
        batch: what the step takes: tensors, whose first dimension is the samples.
    """
    calls = LayerCalls()
    kept: list[Any] = []

    def watched(data: Any) -> Any:
        """The step, with the calls of its layers noted."""
        kept.clear()
        with ExitStack() as stack:
            stack.enter_context(_first_replica(model.optimizer, kept))
            for layer in layers_of(model):
                if hasattr(layer, "use_cudnn"):
                    stack.enter_context(standing_in(layer, "use_cudnn", False))
            stack.enter_context(calls.watching())
            return step(data), kept

    first = tf.nest.flatten(batch)[0]
    try:
        flops = module_flops(_lowered(watched, batch, first.device))
    except Uncountable as error:
        return uncounted(str(error))
    except Exception as error:  # noqa: BLE001 - a step that runs eagerly raises anything here
        return uncounted(_in_a_line(str(error) or type(error).__name__))
    plain = getattr(step, "__func__", None) is keras.Model.train_step
    expected = calls.flops(model.trainable_variables) if plain else None
    return checked(flops, expected, first.shape[0], "the lowered step")


class _Alone(tf.distribute.ReplicaContext):  # type: ignore[misc]
    """The first replica, which waits for no other one."""

    def all_reduce(self, reduce_op: Any, value: Any, options: Any = None) -> Any:
        """The value of this replica."""
        return value


@contextmanager
def _first_replica(optimizer: Any, kept: list[Any]) -> Iterator[None]:
    """The context of the first replica's step; one replica needs none.

    The update, which no product is part of, would reach for the variables of all replicas. So the
    gradients are only kept, in `kept`.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        yield
        return

    def keep(grads: Any, trainable_variables: Any = None) -> None:
        """Keep the gradients."""
        kept.extend(gradient for gradient in grads if gradient is not None)

    with _Alone(strategy, 0), standing_in(optimizer, "apply", keep):
        yield


def _lowered(step: Callable[[Any], Any], batch: Any, device: str) -> bytes:
    program = tf.function(step, jit_compile=True, autograph=False)
    with warnings.catch_warnings():
        # The step's own warnings came in training. To name the device is deprecated, but without
        # it TensorFlow draws a random number to find one.
        warnings.simplefilter("ignore")
        lower = program.experimental_get_compiler_ir(batch)
        module: bytes = lower(stage="hlo_serialized", device_name=device)
    return module


def _in_a_line(message: str) -> str:
    """The first line of a message, without the name of the compiled graph, shortened."""
    line = next((line.strip() for line in message.splitlines() if line.strip()), "")
    line = re.sub(r".* on XLA_\w+: ", "", line).replace(";", ",")
    return line[:_LONGEST_REASON]
