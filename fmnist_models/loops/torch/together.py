"""What the processes of several replicas agree on, beside the gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import torch
from torch import distributed

from fmnist_models.errors import Unsupported
from fmnist_models.loops.base import Snapshot, Work, metrics_of
from fmnist_models.loops.torch.held import held_by
from fmnist_models.loops.watch import layers_of

# Largest difference, as a share of the whole, that is taken for rounding.
_ROUNDING = 1e-3
_ROUNDING_16_BITS = 2e-2
_ALONE = "leave --replicas out"


def refuse_own_step(work: Work, *, plain: bool) -> None:
    """Refuse a training step whose numbers nothing knows how to join.

    Raises:
        Unsupported: the model has a `train_step` or metrics of its own.
    """
    if not plain:
        raise Unsupported(
            f"the train_step or the metrics of model {work.model.name!r} are its own, so how to "
            "join the gradients and logs of several processes is not known: override "
            f"compute_loss in their place, {_ALONE}, or choose the backend jax"
        )


def refuse_what_is_no_sum(work: Work, batch: Callable[[int, int], Any]) -> None:
    """Refuse a loss or a metric of which replicas would make another number than one alone.

    The loss of a batch must be the mean over its rows, and a metric's variables sums over them.
    This is tried on two parts of the first batch, with as many rows as a replica trains; the state
    is restored.

    Args:
        work: the work, with its metrics built.
        batch: the rows from one on to another one, packed as the step takes them.

    Raises:
        Unsupported: the loss is a sum, or divides by weights or a mask; or a metric is a
            maximum, for example.
    """
    model = work.model
    rows = min(work.batch_size, work.arrays.rows) // work.replicas.count
    if not rows:
        return
    snapshot = Snapshot(model)
    model.eval()
    found = []
    for first, end in ((0, rows), (rows, 2 * rows), (0, 2 * rows)):
        found.append(_metrics_after(model, batch(first, end)))
        snapshot.restore()
    others = [
        variable.path
        for variable, one, other, both in zip(_metric_variables(model), *found, strict=True)
        if not _is_close(both, one + other, _rounding(model))
    ]
    trackers = {variable.path for variable in model.metrics[0].variables}
    if trackers & set(others):
        raise Unsupported(
            f"the loss of model {model.name!r} is not the mean over the rows of a batch (it may be "
            "a sum, or divide by weights or a mask), and replicas take the mean of theirs: let it "
            f"be one, or {_ALONE}"
        )
    if others:
        raise Unsupported(
            f"{', '.join(others)} of model {model.name!r} is no sum over rows, so a metric of all "
            f"replicas is not known from theirs: leave it out, or {_ALONE}"
        )


def told_of_states(work: Work, batch: Callable[[int, int], Any]) -> list[str]:
    """A warning of the state that each replica changes by the rows of its own part of a batch.

    Such are averages over the rows of the batches so far. This is tried on two parts of the first
    batch; the state is restored. Statistics of BatchNormalization are left out.

    Args:
        work: the work.
        batch: the rows from one on to another one, packed as the step takes them.
    """
    model = work.model
    rows = min(work.batch_size, work.arrays.rows) // work.replicas.count
    states = _states(model)
    if not rows or not states:
        return []
    snapshot = Snapshot(model)
    model.train()
    training = {"training": True} if model._call_has_training_arg else {}
    found = []
    for first in (0, rows):
        with torch.no_grad():
            model(batch(first, first + rows)[0], **training)
            found.append([state.value.to(torch.float64, copy=True) for state in states])
        snapshot.restore()
    model.eval()
    others = [
        state.path
        for state, one, other in zip(states, *found, strict=True)
        if not _is_close(one, other, _rounding(model))
    ]
    if not others:
        return []
    return [
        f"{', '.join(others)}: each replica changes these by its own part of a batch, so they "
        "differ among the replicas within an epoch; what is kept is the first one's"
    ]


def _states(model: keras.Model) -> list[Any]:
    """What a step may change beside weights, with its path."""
    layers = list(layers_of(model))
    normalize = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    left_out = {id(variable.value) for layer in normalize for variable in layer.variables}
    kind = torch.nn.modules.batchnorm._BatchNorm
    inner = [part for layer in layers for part in layer.modules() if isinstance(part, kind)]
    left_out |= {id(buffer) for part in inner for buffer in part.buffers()}
    held = [*model.non_trainable_variables, *(h for layer in layers for h in held_by(layer))]
    return [h for h in held if h.value.is_floating_point() and id(h.value) not in left_out]


def join_epoch(model: keras.Model) -> None:
    """Make metrics those of all processes, and other state that of the first one.

    `DistributedDataParallel` takes buffers from the first process too, before each step. Where
    they are statistics that a step only writes, once an epoch gives the same.
    """
    buffers = [held.value for layer in layers_of(model) for held in held_by(layer)]
    with torch.no_grad():
        for variable in _metric_variables(model):
            distributed.all_reduce(variable.value)
        for tensor in [*(v.value for v in model.non_trainable_variables), *buffers]:
            distributed.broadcast(tensor, 0)


def _metric_variables(model: keras.Model) -> list[keras.Variable]:
    others = [v for metric in metrics_of(model) for v in metric.variables]
    return list({id(v): v for v in [*model.metrics_variables, *others]}.values())


def _metrics_after(model: keras.Model, batch: Any) -> list[torch.Tensor]:
    """The variables of the metrics after a step that evaluates a batch."""
    model.reset_metrics()
    with torch.no_grad():
        keras.Model.test_step(model, batch)
        return [v.value.to(torch.float64, copy=True) for v in _metric_variables(model)]


def _rounding(model: keras.Model) -> float:
    exact = model.compute_dtype in ("float32", "float64")
    return _ROUNDING if exact else _ROUNDING_16_BITS


def _is_close(whole: torch.Tensor, found: torch.Tensor, rounding: float) -> bool:
    if not whole.isfinite().all() and not found.isfinite().all():
        # A loss that is not finite is told by the first round.
        return True
    return bool((whole - found).abs().sum() <= rounding * whole.abs().sum())
