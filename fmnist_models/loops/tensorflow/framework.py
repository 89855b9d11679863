"""TensorFlow, as the loops need it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf
from keras.src.trainers.data_adapters import get_data_adapter
from numpy.typing import NDArray

from fmnist_models.loops.base import Work
from fmnist_models.loops.framework import Framework
from fmnist_models.loops.tensorflow.compiled import TensorFlowCompiledLoop
from fmnist_models.loops.tensorflow.replicas import evaluating, refuses_spread
from fmnist_models.loops.tensorflow.watch import TensorFlowWatch
from fmnist_models.own import stray_forks_ended
from fmnist_models.replicas import Replicas

# Words in TensorFlow's errors that are due to XLA, not to the step itself.
_XLA = re.compile(r"XLA|unsupported operations|compile-time constant", re.IGNORECASE)


class TensorFlow(Framework):
    """What the loops need of TensorFlow."""

    compiled = TensorFlowCompiledLoop
    compiler = "XLA"
    joins_steps = True

    def watch(
        self, model: keras.Model, device: str | None, first: Sequence[NDArray[Any]]
    ) -> TensorFlowWatch:
        """Observe the step of a model, whose first batch has these arrays."""
        return TensorFlowWatch(model, device, first)

    def compiler_names(self, error: Exception) -> str | None:
        """The part of an error of XLA's that names operations, of at most 120 characters."""
        message = str(error)
        if not isinstance(error, tf.errors.OpError) or not _XLA.search(message):
            return None
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        line = next((line for line in lines if _XLA.search(line)), lines[0])
        # The part before that is the name of the compiled graph.
        return re.sub(r".* on XLA_\w+: ", "", line)[:120]

    def runs_eagerly(self) -> bool:
        """Whether `tf.config.run_functions_eagerly` was called."""
        return bool(tf.config.functions_run_eagerly())

    def on_replicas(self, call: Callable[[], Any]) -> None:
        """Call a function where a step updates metrics; once for each replica."""
        strategy = tf.distribute.get_strategy()
        if strategy.num_replicas_in_sync == 1:
            call()
        else:
            strategy.run(call)

    def own_variables(self, layer: keras.layers.Layer) -> list[tf.Variable]:
        """The TensorFlow variables in attributes of a layer."""
        return [v for v in vars(layer).values() if isinstance(v, tf.Variable)]

    def last_batch(self, stream: Any, most: int) -> Any:
        """The last batch of an opened stream, as a `tf.data.Dataset` of one batch."""
        adapter = get_data_adapter(stream)
        batches = adapter.get_tf_dataset()
        form = batches.element_spec
        if tf.nest.flatten(form)[0].shape[:1].is_fully_defined():
            return None
        last, read = None, 0
        with stray_forks_ended():
            adapter.on_epoch_begin()
            for batch in batches.take(most + 1):
                last, read = batch, read + 1
            adapter.on_epoch_end()
        if read > most:
            return None
        return tf.data.Dataset.from_generator(lambda: iter([last]), output_signature=form)

    def refuses_spread(self, work: Work) -> str | None:
        """Why `Model.fit` cannot train a work on its replicas, and the remedy; else None."""
        return refuses_spread(work)

    def evaluating(
        self, replicas: Replicas, sizes: Collection[int]
    ) -> AbstractContextManager[None]:
        """The context of an evaluation with batches of these sizes; empty where not known."""
        return evaluating(replicas, sizes)


FRAMEWORK = TensorFlow()
