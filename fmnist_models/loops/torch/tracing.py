"""A training step of Keras as one graph of PyTorch's operations: forward, backward and update.

Keras's step on PyTorch is Python: it runs the layers, calls `loss.backward()`, and assigns to
variables. Here it is run once while `make_fx` records each operation below it, also those of the
gradients. The graph that results has no Python of Keras left. It changes its arguments in place,
which are the tensors of the model's variables themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import torch
from keras.src.backend.torch import core
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from fmnist_models.loops.base import metrics_of, state_variables
from fmnist_models.loops.torch.held import HeldTensor
from fmnist_models.loops.watch import layers_of, standing_in

# Numbers that a graph keeps of what Keras computes on the host, such as a learning rate.
_SMALL = 4096


class State:
    """Every tensor that a step may change, and the places where the model holds it.

    Args:
        model: a compiled model whose variables and metrics are built.

    Attributes:
        tensors: the tensors, which share their memory with the model's variables.
    """

    def __init__(self, model: keras.Model) -> None:
        places: dict[int, tuple[torch.Tensor, list[tuple[dict[str, Any], str]]]] = {}

        def add(owner: dict[str, Any], name: str) -> None:
            """Add a tensor in an attribute or a register."""
            tensor = owner[name]
            if isinstance(tensor, torch.Tensor):
                places.setdefault(id(tensor), (tensor, []))[1].append((owner, name))

        metrics = [v for metric in metrics_of(model) for v in metric.variables]
        for variable in [*state_variables(model), *model.metrics_variables, *metrics]:
            if not isinstance(variable, HeldTensor):
                add(vars(variable), "_value")
        # To PyTorch, the layers of a model are no modules of it.
        modules = {id(m): m for layer in layers_of(model) for m in layer.modules()}
        for module in modules.values():
            for register in (module._parameters, module._buffers):
                for name in register:
                    add(register, name)
        self._places = list(places.values())
        self.tensors = [tensor.detach() for tensor, _ in self._places]

    @contextmanager
    def replaced_by(self, tensors: Sequence[torch.Tensor]) -> Iterator[None]:
        """Within the context, the model holds other tensors: leaves where it has leaves."""
        try:
            for (tensor, places), other in zip(self._places, tensors, strict=True):
                # With a view of its own, a gradient is kept there, and not in the argument.
                leaf = other.detach().requires_grad_(tensor.requires_grad)
                for owner, name in places:
                    owner[name] = leaf
            yield
        finally:
            for tensor, places in self._places:
                for owner, name in places:
                    owner[name] = tensor


class TracedStep:
    """A step on rows of the training data, as a graph.

    A call takes the rows from the next place of an order, trains on them, and moves the place on.

    Args:
        train: trains on a batch, which is one tensor for each array of the data; returns logs.
        state: the model's state.
        rows: the number of rows of a step.

    Attributes:
        names: the names of the numbers that a call returns.
    """

    def __init__(self, train: Callable[[list[torch.Tensor]], Any], state: State, rows: int) -> None:
        self._train = train
        self._state = state
        self._rows = rows
        self.names: tuple[str, ...] = ()

    def graph(
        self, place: torch.Tensor, order: torch.Tensor, data: Sequence[torch.Tensor]
    ) -> torch.fx.GraphModule:
        """Trace the step; it is run once for it, with these arguments and the state."""

        def step(*given: Any) -> list[torch.Tensor]:
            """The step; of a method, `make_fx` would take `self` for an argument."""
            return self._step(*given)

        return traced(step, place, order, list(data), self._state.tensors)

    def _step(
        self,
        place: torch.Tensor,
        order: torch.Tensor,
        data: list[torch.Tensor],
        tensors: list[torch.Tensor],
    ) -> list[torch.Tensor]:
        chosen = order[place + torch.arange(self._rows, device=place.device)]
        batch = [leaf.index_select(0, chosen) for leaf in data]
        with running_on(self._state, tensors):
            told = dict(_numbers(self._train(batch)))
        self.names = tuple(told)
        with torch.no_grad():
            place.add_(self._rows)
        return [value.detach() for value in told.values()]


@contextmanager
def running_on(state: State, tensors: list[torch.Tensor]) -> Iterator[None]:
    """Within the context, Keras's step and update run on other tensors, and can be traced."""
    with (
        state.replaced_by(tensors),
        torch.enable_grad(),
        _OnTheDevice(),
        standing_in(core, "cond", _Both(tensors)),
    ):
        yield


def traced(function: Callable[..., Any], *given: Any) -> torch.fx.GraphModule:
    """The graph of a function, which is run once for it; its constants are computed on a GPU."""
    found: torch.fx.GraphModule = make_fx(function)(*given)
    tensors = [x for x in keras.tree.flatten(given) if isinstance(x, torch.Tensor)]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        keep_constants(found)
    return found


class _Both:
    """`keras.ops.cond` without a choice in Python: both branches run, and one's values are kept.

    Loss scaling uses it to leave out an update whose gradients are not finite.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tensors = tensors

    def __call__(self, pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
        if not isinstance(pred, torch.Tensor):
            return true_fn() if pred else false_fn()
        with torch.no_grad():
            before = [tensor.clone() for tensor in self._tensors]
            told = true_fn()
            after = [tensor.clone() for tensor in self._tensors]
            for tensor, value in zip(self._tensors, before, strict=True):
                tensor.copy_(value)
            other = false_fn()
            for tensor, value in zip(self._tensors, after, strict=True):
                tensor.copy_(torch.where(pred, value, tensor))

        def chosen(one: Any, another: Any) -> Any:
            """What one of the branches returned."""
            return one if one is None else torch.where(pred, one, another)

        return keras.tree.map_structure(chosen, told, other)


class _OnTheDevice(TorchFunctionMode):
    """Keeps factors of Keras's optimizers on the device.

    They pass a learning rate, which is a tensor, as the number `alpha` of a sum. PyTorch reads it
    from the device for that, so that each step would wait, and a graph would keep the first value.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        alpha = given.get("alpha")
        if not isinstance(alpha, torch.Tensor):
            return func(*args, **given)
        del given["alpha"]
        target, other = args
        if isinstance(other, list | tuple):
            return func(target, torch._foreach_mul(list(other), alpha), **given)
        return func(target, other * alpha, **given)


def keep_constants(module: torch.fx.GraphModule) -> None:
    """Compute once what depends on no argument of a graph, in place of at each call.

    Keras makes tensors of its numbers on the host, and copies them to the device. A CUDA graph
    cannot hold such a copy.
    """
    values: dict[torch.fx.Node, Any] = {}
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "get_attr":
            values[node] = getattr(module, str(node.target))
            continue
        inputs = node.all_input_nodes
        known = bool(inputs) and all(source in values for source in inputs)
        if node.op != "call_function" or not known or not is_pure(node.target):
            continue
        value = node.target(
            *torch.fx.map_arg(node.args, values.__getitem__),
            **torch.fx.map_arg(node.kwargs, values.__getitem__),
        )
        changed = any(not is_pure(user.target) for user in node.users if callable(user.target))
        if not isinstance(value, torch.Tensor) or value.numel() > _SMALL or changed:
            continue
        values[node] = value
        name = f"_kept_{len(values)}"
        module.register_buffer(name, value, persistent=False)
        with graph.inserting_before(node):
            kept = graph.get_attr(name)
        values[kept] = value
        node.replace_all_uses_with(kept)
    graph.eliminate_dead_code()
    module.recompile()


def is_pure(operation: Any) -> bool:
    """Whether it changes no argument and draws no random numbers."""
    schema = getattr(operation, "_schema", None)
    tags = getattr(operation, "tags", ())
    random = torch.Tag.nondeterministic_seeded in tags
    return schema is not None and not schema.is_mutable and not random


def _numbers(logs: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The single numbers in a step's logs, including those in nested dictionaries."""
    for name, value in logs.items() if isinstance(logs, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif (tensor := keras.ops.convert_to_tensor(value)).numel() == 1:
            yield str(name), tensor.reshape(())
