"""Names the parts of a model's step in a trace of PyTorch's profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import torch
from torch._inductor import config
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from bench.analysis.trace_events import STEP_TRACED
from fmnist_models.loops.torch.tracing import TracedStep
from fmnist_models.loops.watch import standing_in


@contextmanager
def naming(model: keras.Model) -> Iterator[None]:
    """Within the context, layers, loss, metrics and the update are annotations of a trace.

    Where the step is traced into a graph they are not: they would be a part of it. The kernels
    that `torch.compile` makes for a CPU have their names.
    """
    update = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    owners = [
        (keras.layers.Layer, "__call__", None),
        (model, "_compute_loss", "compile_loss"),
        (model.optimizer, "apply", update.name),
        (model._loss_tracker, "update_state", "compute_metrics"),
        (model, "compute_metrics", "compute_metrics"),
    ]
    with ExitStack() as stack:
        for owner, attribute, name in owners:
            named = _named(getattr(owner, attribute), name)
            stack.enter_context(standing_in(owner, attribute, named))
        traced = _annotated(TracedStep.graph, STEP_TRACED)
        stack.enter_context(standing_in(TracedStep, "graph", traced))
        stack.enter_context(config.patch({"cpp.enable_kernel_profile": True}))
        yield


def _named(function: Callable[..., Any], name: str | None) -> Callable[..., Any]:
    """A function under a name; a layer's call under that of the layer, which comes first."""

    def called(*args: Any, **kwargs: Any) -> Any:
        """Call it, as an annotation where nothing traces it."""
        if get_proxy_mode() is not None or torch.compiler.is_compiling():
            return function(*args, **kwargs)
        with torch.profiler.record_function(name or args[0].name):
            return function(*args, **kwargs)

    return called


def _annotated(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        """Call it, as an annotation."""
        with torch.profiler.record_function(name):
            return function(*args, **kwargs)

    return called
