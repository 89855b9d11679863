"""How `Model.fit` spreads batches over the replicas of a `MirroredStrategy`, and what it cannot."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext

from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

from fmnist_models.loops.base import Work
from fmnist_models.loops.watch import standing_in
from fmnist_models.replicas import Replicas
from fmnist_models.stream import Stream


def shares_of(rows: int, replicas: int) -> list[int]:
    """The rows of a batch that each replica is given.

    All take the same number, rounded up, as long as there are rows.
    """
    each = -(-rows // replicas)
    return [max(0, min(each, rows - number * each)) for number in range(replicas)]


def refuses_spread(work: Work) -> str | None:
    """Why `Model.fit` cannot train a work on its replicas, and the remedy; None where it can.

    XLA and conditions of a step end at a device: "Trying to access resource .../replica_1 located
    in device CPU:1 from device CPU:0", and "`merge_call` called while defining a new graph".
    """
    count, model = work.replicas.count, work.model
    if model.jit_compile:
        return (
            f"replicas {count}: model {model.name!r} has jit_compile=True, and XLA cannot reach "
            "the variables of another replica: leave it to Keras, which turns it off there"
        )
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    gathered = getattr(optimizer, "gradient_accumulation_steps", None)
    if gathered:
        return (
            f"replicas {count}: {type(optimizer).__name__} gathers the gradients of {gathered} "
            "steps, and MirroredStrategy cannot add up under a condition: leave "
            "gradient_accumulation_steps out, or choose the backend jax"
        )
    if isinstance(work.data, Stream):
        return None
    rest = work.data.rows % work.batch_size
    if rest == work.data.rows and rest % count:
        # Keras takes the mean of the shares of the first batch, to see its shape.
        return (
            f"replicas {count}: {rest} rows are less than a batch, and do not divide by {count}: "
            f"leave out {rest % count} of them"
        )
    shares = shares_of(rest, count)
    if rest and not shares[-1]:
        # BatchNormalization would make NaN of no rows, on that replica alone.
        return (
            f"replicas {count}: the last batch has {rest} rows, of which they train "
            f"{', '.join(map(str, shares))}, and none is too few: leave out {rest} of "
            f"{work.data.rows} rows, or name another batch size"
        )
    return None


def evaluating(replicas: Replicas, sizes: Collection[int]) -> AbstractContextManager[None]:
    """The context of an evaluation with batches of these sizes; empty where not known.

    Keras takes the mean of the shares of the first batch to see its shape, which needs shares of
    one size. A model that has trained is built, so Keras need not see it.
    """
    even = sizes and not any(size % replicas.count for size in sizes)
    if not replicas.spread or even:
        return nullcontext()
    return standing_in(TensorFlowTrainer, "_maybe_symbolic_build", lambda *_, **__: None)
