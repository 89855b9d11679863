"""The matrix products and convolutions of a step that PyTorch runs, by their operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.worker.precision import Product
from fmnist_models.loops.base import Snapshot
from fmnist_models.loops.torch.watch import TorchWatch
from fmnist_models.loops.watch import standing_in


class Uncountable(Exception):
    """The step runs products inside an operation whose FLOPs PyTorch does not know."""


def products_of(watch: TorchWatch, data: Any) -> list[Product]:
    """The products of one step on a batch, which is run for it; the model is restored.

    FLOPs are those of `torch.utils.flop_counter`: 2 for each multiply-add.
    """
    model = watch.model
    snapshot = Snapshot(model)
    # Between two epochs, Keras's model is in its mode for evaluation.
    trains = model.training
    found = _Products()
    try:
        with torch.random.fork_rng(), found.naming_layers(), found:
            model.train()
            watch.step(data)
    finally:
        model.train(trains)
        snapshot.restore()
    return found.products


class _Products(TorchDispatchMode):
    """Keeps the products that run within its context."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []
        self._layers: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        told = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if "rnn" in str(packet):
            raise Uncountable(f"{packet} joins them")
        count: Callable[..., int] | None = flop_registry.get(packet)
        if count is not None:
            tensors = [a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()]
            flops = int(count(*args, **(kwargs or {}), out_val=told))
            # Gradients are computed within a task of the autograd engine.
            forward = torch._C._current_graph_task_id() == -1
            layer = self._layers[-1] if self._layers and forward else str(packet)
            dtype = str(tensors[-1].dtype).removeprefix("torch.") if tensors else ""
            if dtype:
                self.products.append(Product(layer, dtype, flops, forward))
        return told

    @contextmanager
    def naming_layers(self) -> Iterator[None]:
        """Within the context, products are of the innermost layer that is called."""
        call = keras.layers.Layer.__call__

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            """Call a layer, under its name."""
            self._layers.append(layer.name)
            try:
                return call(layer, *args, **kwargs)
            finally:
                self._layers.pop()

        with standing_in(keras.layers.Layer, "__call__", called):
            yield
