"""Observes a training step while TensorFlow traces it.

Inside a `tf.function`, Python runs only when the step is traced, so observing costs the traced
program nothing. Only a step that is not Keras's own gets a few more scalar operations. They count
its calls and the rows that it is given and trains, because its metrics need not count them. So
do streams whose batches may change their shape, to count those that do.

Of several replicas, `MirroredStrategy` traces the step once for each, in threads that take turns
wherever the replicas meet. That is one trace here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from threading import local
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from fmnist_models.loops.watch import StepWatch, layers_of, standing_in

# Keys of the counters of a step's calls, and of the rows that it is given.
_CALLS, _GIVEN = "calls", "given"
# The key of the counter of batches whose samples have another shape than those of the first batch.
_RESHAPED = "reshaped"


@dataclass(frozen=True, slots=True)
class Called:
    """One call of a layer inside a traced step: the operations `first` to `last` of `graph`.

    Where replicas meet in a layer, these are operations of others too: `replica` is the call's own.
    """

    layer: str
    graph: Any
    first: int
    last: int
    replica: int = 0


@dataclass(frozen=True, slots=True)
class Traced:
    """One trace of a step.

    Attributes:
        graph: the function graph that contains it.
        first, last: its operations are `graph.get_operations()[first:last]`, of all replicas.
        calls: the calls of layers; inner calls are before the calls that made them.
    """

    graph: Any
    first: int
    last: int
    calls: list[Called] = field(default_factory=list)


class TensorFlowWatch(StepWatch):
    """Observes the training step of one model.

    Args:
        model: a compiled model.
        device: TensorFlow's name of the device for counters; None leaves it to TensorFlow.
        first: the arrays of the first batch, in Keras's order.

    Attributes:
        traced: each trace: how often the step's Python code ran inside a `tf.function`.
    """

    def __init__(
        self, model: keras.Model, device: str | None, first: Sequence[NDArray[Any]]
    ) -> None:
        super().__init__(model, first)
        self._replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # What a replica's thread is in the midst of; the stand-ins are there for all of them.
        self._now = local()
        self._inside = 0
        self._standing_in = ExitStack()
        self._before: dict[int | str | None, int] = {}
        self.traced: list[Traced] = []
        with tf.device(device):
            # Counters are made here, because a `tf.function` cannot make variables. The key None is
            # for layers that the model gets later.
            of_own = [] if self.plain else [*map(id, layers_of(model)), None, _CALLS, _GIVEN]
            self._counters: dict[int | str | None, Any] = {
                key: self._counter(key) for key in [_RESHAPED, *of_own]
            }

    def _counter(self, key: int | str | None) -> tf.Variable:
        """A counter at 0; each replica counts its own share of the rows."""
        how: dict[str, Any] = {}
        if self._replicas > 1:
            # A call, or a batch, is one for all replicas, and the first one always has rows.
            whole = key in (_CALLS, _RESHAPED)
            to_all = tf.VariableAggregation
            how = {
                "synchronization": tf.VariableSynchronization.ON_READ,
                "aggregation": to_all.ONLY_FIRST_REPLICA if whole else to_all.SUM,
            }
        return tf.Variable(0, dtype=tf.int64, trainable=False, **how)

    def watched_step(self) -> Callable[[Any], Any]:
        """The model's step, observed by this watch."""

        def watched(data: Any) -> Any:
            """One step."""
            if tf.executing_eagerly():
                self.eager = True
                self._count_call(data)
                with self._watching():
                    return self.step(data)
            self._count_call(data)
            self._trace_begins()
            with self._watching():
                logs = self.step(data)
            self._trace_ends()
            return logs

        watched.watched = self.step  # type: ignore[attr-defined]
        return watched

    def count_from_here(self) -> None:
        """Count calls and rows from now on."""
        self._before = {key: int(counted.numpy()) for key, counted in self._counters.items()}

    def rows(self) -> int | None:
        """Rows that the step trained since `count_from_here`."""
        if self.plain:
            return self._plain_rows()
        counted = [self._since(key) for key in self._counters if not isinstance(key, str)]
        return max(counted) if any(counted) else None

    def given(self) -> tuple[int, int] | None:
        """(calls, rows in their data) of a step that is not Keras's own, else None."""
        return None if self.plain else (self._since(_CALLS), self._since(_GIVEN))

    def reshaped(self) -> int:
        """Batches since `count_from_here` whose samples have another shape than the first one's."""
        return self._since(_RESHAPED)

    def _since(self, key: int | str | None) -> int:
        return int(self._counters[key].numpy()) - self._before[key]

    def _trace_begins(self) -> None:
        """Note a trace; the first replica's begins that of all of them."""
        if self._replicas == 1 or _replica() == 0:
            self._traces += 1
            graph = tf.compat.v1.get_default_graph()
            first = len(graph.get_operations())
            self.traced.append(Traced(graph, first, first))

    def _trace_ends(self) -> None:
        trace = self.traced[-1]
        self.traced[-1] = replace(trace, last=len(trace.graph.get_operations()))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Within the context, note calls of layers, and whether the loss is scaled.

        The threads of the replicas are in it together, so the first one that comes puts the
        stand-ins there, and the last one that goes takes them away.
        """
        self._now.depth = 0
        if self._inside == 0:
            self._stand_in()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._standing_in.close()

    def _stand_in(self) -> None:
        call = keras.layers.Layer.__call__
        optimizer = self.model.optimizer
        scale = optimizer.scale_loss
        now = self._now

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            """Call a layer; count the rows where the step itself makes the call."""
            depth = getattr(now, "depth", None)
            if depth is None:
                # It is called by a thread of its own, which no step waits for.
                return call(layer, *args, **kwargs)
            if depth == 0 and not self.plain:
                self._count(layer, (args, kwargs))
            graph = tf.compat.v1.get_default_graph()
            first = len(graph.get_operations())
            now.depth = depth + 1
            try:
                return call(layer, *args, **kwargs)
            finally:
                now.depth = depth
                last = len(graph.get_operations())
                if self.traced:
                    number = 0 if self._replicas == 1 else _replica()
                    self.traced[-1].calls.append(Called(layer.name, graph, first, last, number))

        def scaled(loss: Any) -> Any:
            """Scale a loss with the optimizer, and note it."""
            self.scales = True
            return scale(loss)

        self._standing_in.enter_context(standing_in(keras.layers.Layer, "__call__", called))
        self._standing_in.enter_context(standing_in(optimizer, "scale_loss", scaled))

    def _count(self, layer: Any, given: Any) -> None:
        """Count the rows of a call's first input, where the layer has weights to train."""
        tensors = [item for item in tf.nest.flatten(given) if getattr(item, "shape", None)]
        if not tensors or not (layer.trainable_variables or not layer.built):
            return
        key = id(layer) if id(layer) in self._counters else None
        self._counters[key].assign_add(_rows_of(tensors[0]))

    def _count_call(self, data: Any) -> None:
        """Count what `reshaped` and `given` tell of a call of the step."""
        leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
        if not self.plain:
            # A call that meets the end of a stream has no data, but runs what needs none.
            with tf.control_dependencies(leaves[:1]):
                self._counters[_CALLS].assign_add(1)
            self._counters[_GIVEN].assign_add(_rows_of(leaves[0]))
        # Weights of classes, which Keras adds to the labels, have no shape here.
        for leaf, shape in zip(leaves, self._shapes, strict=False):
            # Where the trace knows the shape, all of its batches have it.
            if leaf.shape[1:] != tf.TensorShape(shape):
                same = tf.reduce_all(tf.equal(tf.shape(leaf)[1:], tf.constant(shape, tf.int32)))
                self._counters[_RESHAPED].assign_add(tf.cast(~same, tf.int64))
                break


def _rows_of(tensor: Any) -> Any:
    return tf.shape(tensor, out_type=tf.int64)[0]


def _replica() -> int:
    """The number of the replica whose step is traced; 0 where none is."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else int(tf.get_static_value(context.replica_id_in_sync_group))
