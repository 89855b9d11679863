"""What `MirroredStrategy` computes for each replica alone, and not for the whole batch.

It adds up gradients, not losses: the loss of each replica is the mean over its own rows, of which
Keras counts one part in as many as there are replicas. So the same work comes out where all have
the same number of rows, and where a loss is a mean over rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src.losses import loss as keras_loss

from bench.schema.cells import few_of
from bench.worker.drawing import drawing
from fmnist_models.arrays import Arrays
from fmnist_models.errors import Unsupported
from fmnist_models.loops.base import Snapshot, Work, state_variables
from fmnist_models.loops.tensorflow.replicas import shares_of
from fmnist_models.loops.watch import layers_of, standing_in
from fmnist_models.stream import Stream

# Rows of each replica's share in a comparison of losses: few, so that they fit any memory.
_FEW_ROWS = 8
# Losses that differ by more, relatively, are no rounding, not even of 16 bits.
_ROUNDING = 5e-3


def per_replica(work: Work) -> list[str]:
    """What is computed otherwise on the replicas of `work` than on one, as warnings.

    Call it in the scope of the strategy, with the model compiled.

    Raises:
        Unsupported: a variable of the model is not on all replicas.
    """
    _refuse_unplaced(work.model)
    tells = (_of_last_batch, _of_layers, _of_drawing, _of_optimizer, _of_loss, _of_compiler)
    return [line for tell in tells for line in tell(work)]


def _refuse_unplaced(model: keras.Model) -> None:
    strategy = tf.distribute.get_strategy()
    for variable in state_variables(model):
        value = variable.value if isinstance(variable, keras.Variable) else variable
        if getattr(value, "distribute_strategy", None) is not strategy:
            raise Unsupported(
                f"model {model.name!r}: its variable {getattr(variable, 'path', value.name)!r} is "
                "not on every replica, as it was made elsewhere: make all layers and variables in "
                "the function that builds the model, under no strategy of its own"
            )


def _of_last_batch(work: Work) -> Iterator[str]:
    count = work.replicas.count
    if isinstance(work.data, Stream):
        if not work.data.endless:
            yield (
                f"a smaller last batch of the stream weighs otherwise than with one replica where "
                f"its rows do not divide by {count}"
            )
        return
    rest = work.data.rows % work.batch_size
    shares = shares_of(rest, count)
    if rest % count == 0 or not shares[-1]:
        # The loop refuses a batch of which a replica has no rows.
        return
    weights = [f"{rest / (count * share):.3g}" for share in shares]
    yield (
        f"the last batch has {rest} rows, of which the {count} replicas train "
        f"{', '.join(map(str, shares))}: in its update a row weighs {_range(weights)} of what it "
        f"weighs with one replica, as {rest} does not divide by {count}"
    )


def _range(weights: list[str]) -> str:
    least, most = min(weights, key=float), max(weights, key=float)
    return least if least == most else f"{least} to {most}"


def _of_layers(work: Work) -> Iterator[str]:
    names = [
        layer.name
        for layer in layers_of(work.model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not layer.synchronized
    ]
    if names:
        yield (
            f"{few_of(names)}: each replica has statistics of its own rows "
            "(BatchNormalization(synchronized=True) has those of the whole batch)"
        )


def _of_drawing(work: Work) -> Iterator[str]:
    """Each replica has a copy of a generator's state: all begin alike, and go on alike."""
    if names := drawing(work.model):
        yield (
            f"{few_of(names)}: each replica draws the same random numbers for its share, where one "
            "draws for the whole batch"
        )


def _of_optimizer(work: Work) -> Iterator[str]:
    optimizer = work.model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    kind = type(inner).__name__
    settings = ("clipnorm", "clipvalue", "global_clipnorm")
    clips = [f"{name}={value}" for name in settings if (value := getattr(inner, name, None))]
    if clips:
        yield (
            f"{kind}({', '.join(clips)}) clips the gradients of each replica, before they are "
            "added up"
        )
    if inner is not optimizer:
        yield "loss scaling looks for infinite gradients on the first replica alone"


def _of_loss(work: Work) -> Iterator[str]:
    """Whether the losses of the replicas add up to the loss of all rows."""
    count = work.replicas.count
    step = getattr(work.model.train_step, "watched", work.model.train_step)
    if getattr(step, "__func__", None) is not keras.Model.train_step:
        yield (
            f"train_step is the model's own: the gradients of {count} replicas are added up, so "
            f"each loss must be its part of a mean, as compute_loss gives it"
        )
        return
    try:
        whole, added = _losses(work)
    except Exception:  # noqa: BLE001 - a model that raises here is told by its first step
        return
    if abs(added - whole) > _ROUNDING * abs(whole):
        yield (
            f"the loss is no mean over rows that Keras takes: {count} replicas add up to "
            f"{added:.4g} where one has {whole:.4g} (let the loss return a value for each row)"
        )


def _of_compiler(work: Work) -> Iterator[str]:
    """Whether the steps of one replica are another program."""
    if str(work.device).startswith("/GPU") and not work.model.jit_compile:
        yield (
            "on a GPU Keras compiles the steps of one replica with XLA where it can, and not those "
            "of several: a part of what they lose may be that"
        )


def _losses(work: Work) -> tuple[float, float]:
    """(loss of one replica with all rows, sum of the losses of replicas with a share each)."""
    count, model = work.replicas.count, work.model
    rows = min(_FEW_ROWS, work.batch.rows // count)
    strategy = tf.distribute.get_strategy()
    snapshot = Snapshot(model)

    def shared() -> Any:
        """The loss of a replica with its own rows."""
        number = int(tf.distribute.get_replica_context().replica_id_in_sync_group)
        return _loss(model, work.batch, slice(number * rows, (number + 1) * rows))

    def whole() -> Any:
        """The loss of all these rows; each replica has the same."""
        return _loss(model, work.batch, slice(0, count * rows))

    try:
        added = sum(map(float, strategy.experimental_local_results(strategy.run(shared))))
        with _unscaled():
            found = strategy.experimental_local_results(strategy.run(whole))
        return float(found[0]), added
    finally:
        snapshot.restore()


@contextmanager
def _unscaled() -> Iterator[None]:
    """The context in which a loss is as it is with one replica."""
    with ExitStack() as stack:
        for name in ("scale_loss_for_distribution", "unscale_loss_for_distribution"):
            stack.enter_context(standing_in(keras_loss, name, lambda value: value))
        yield


def _loss(model: keras.Model, batch: Arrays, rows: slice) -> Any:
    x, y, weights = (
        None if part is None else keras.tree.map_structure(lambda leaf: leaf[rows], part)
        for part in (batch.x, batch.y, batch.sample_weight)
    )
    x = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
    return model.compute_loss(x=x, y=y, y_pred=model(x), sample_weight=weights)
