"""The matrix products and convolutions of a step that PyTorch runs, and the calls of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.worker.counting import Counted, checked, met_within, uncounted
from bench.worker.layer_rules import Call, flops_of, has_rule, tensors_of
from bench.worker.precision import Product
from fmnist_models.loops.base import Snapshot
from fmnist_models.loops.watch import standing_in


class Uncountable(Exception):
    """The step runs products inside an operation whose FLOPs PyTorch does not know."""


def products_of(model: keras.Model, step: Callable[[Any], Any], data: Any) -> Products:
    """The products of one step on a batch, which is run for it; the model is restored."""
    snapshot = Snapshot(model)
    # Between two epochs, Keras's model is in its mode for evaluation.
    trains = model.training
    found = Products()
    try:
        with torch.random.fork_rng(), found.watching_layers(), found:
            model.train()
            step(data)
    finally:
        model.train(trains)
        snapshot.restore()
    return found


def step_flops(model: keras.Model, step: Callable[[Any], Any], data: Any, rows: int) -> Counted:
    """Count the FLOPs of one step of `model`, which is run once more; the model is restored.

    The layers' own count is compared where the step is Keras's own.

    Args:
        model: a compiled model whose optimizer is built.
        step: its training step, without the observation of a loop.
        data: a batch of so many `rows`, in Keras's form.
        rows: samples of the batch.
    """
    try:
        found = products_of(model, step, data)
    except Uncountable as error:
        return uncounted(str(error))
    plain = getattr(step, "__func__", None) is keras.Model.train_step
    flops = sum(product.flops for product in found.products)
    return checked(flops, found.layer_flops() if plain else None, rows, "the step's operations")


class Products(TorchDispatchMode):
    """Keeps the products that run within its context.

    FLOPs are those of `torch.utils.flop_counter`, 2 for each multiply-add, with two exceptions, so
    that a model has the same with each framework. A convolution's are without the products of the
    zeros that pad its input. Those of attention are counted on a CPU too, and its gradient's
    without the scores that it computes again.

    Attributes:
        products: in the order in which they ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []
        self._layers: list[Any] = []
        self._calls: list[Call] = []
        self._others = False
        # Arrays to which zeros were added, with how many: kept, so that no other has their place.
        self._padded: dict[int, tuple[torch.Tensor, Sequence[int]]] = {}

    def layer_flops(self) -> int | None:
        """The FLOPs of the step by the settings of its layers.

        None where a product is made by something else than a layer of which the rule is known.
        """
        return None if self._others else flops_of(self._calls)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        told = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if "rnn" in str(packet):
            raise Uncountable(f"{packet} joins them")
        if packet is torch.ops.aten.constant_pad_nd:
            self._padded[told.data_ptr()] = (told, args[1])
        if packet is torch.ops.aten.convolution:
            self._add(packet, args[1], self._convolution(*args[:2], told, *args[3:9]))
        elif packet is torch.ops.aten.convolution_backward:
            output, given, kernel, _, *settings, wanted = args
            one = self._convolution(given, kernel, output, *settings)
            self._add(packet, kernel, sum(wanted[:2]) * one)
        elif "scaled_dot_product" in str(packet):
            # Each of the two products has two gradients.
            backward = str(packet).endswith("_backward")
            query, key, value = args[1:4] if backward else args[:3]
            self._add(packet, value, (1 + backward) * _attention(query, key, value))
        elif packet in flop_registry:
            tensors = [a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()]
            flops = int(flop_registry[packet](*args, **(kwargs or {}), out_val=told))
            if tensors:
                self._add(packet, tensors[-1], flops)
        return told

    def _add(self, packet: Any, given: torch.Tensor, flops: int) -> None:
        """Keep a product with the dtype of what it was given, and see who made it."""
        # Gradients are computed within a task of the autograd engine.
        forward = torch._C._current_graph_task_id() == -1
        layer = self._layers[-1].name if self._layers and forward else str(packet)
        dtype = str(given.dtype).removeprefix("torch.")
        self.products.append(Product(layer, dtype, flops, forward))
        within = forward and bool(self._layers)
        self._others |= within and not any(map(has_rule, self._layers))

    def _convolution(
        self,
        given: torch.Tensor,
        kernel: torch.Tensor,
        output: torch.Tensor,
        *settings: Any,
    ) -> int:
        """FLOPs of a convolution, or of one of its two gradients, which are as many.

        Args:
            given: its input, channels first.
            kernel: its filter.
            output: its result.
            settings: stride, padding, dilation, whether it is transposed, and what follows.
        """
        strides, paddings, gaps, transposed, *_ = settings
        # A transposed one is the gradient of a convolution that takes its output to its input.
        small, large = (given, output) if transposed else (output, given)
        axes = large.ndim - 2
        _, pads = self._padded.get(given.data_ptr(), (None, ()))
        # Zeros are told from the last axis backwards, before and after each.
        pads = [*pads, *[0] * (2 * axes - len(pads))]
        terms = int(given.shape[0] * kernel.shape[0] * kernel.shape[1])
        for axis in range(axes):
            low, high = pads[2 * (axes - 1 - axis)], pads[2 * (axes - 1 - axis) + 1]
            terms *= met_within(
                small.shape[2 + axis],
                kernel.shape[2 + axis],
                large.shape[2 + axis] - low - high,
                strides[axis % len(strides)],
                gaps[axis % len(gaps)],
                paddings[axis % len(paddings)] + low,
            )
        return 2 * terms

    @contextmanager
    def watching_layers(self) -> Iterator[None]:
        """Within the context, calls of layers are noted, and whose call makes a product."""
        call = keras.layers.Layer.__call__

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            """Call a layer, and note the call."""
            self._layers.append(layer)
            try:
                result = call(layer, *args, **kwargs)
            finally:
                self._layers.pop()
            if has_rule(layer):
                self._calls.append(_call(layer, args, kwargs, result))
            return result

        with standing_in(keras.layers.Layer, "__call__", called):
            yield


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    """FLOPs of the scores and of the weighed values; the arrays end with (places, numbers)."""
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return int(2 * pairs * (query.shape[-1] + value.shape[-1]))


def _call(layer: Any, args: Any, kwargs: Any, result: Any) -> Call:
    given = tensors_of(layer, args, kwargs, torch.is_tensor)
    depends = {name for name, tensor in given.items() if tensor.requires_grad}
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    first = keras.tree.flatten(result)[0]
    return Call(layer, shapes, tuple(first.shape), depends, in_a_row=True)
