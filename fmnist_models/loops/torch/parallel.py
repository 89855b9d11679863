"""The compiled steps of a model that has a replica in each of several processes.

The gradients go through PyTorch's `DistributedDataParallel`, which must see them before they are
used. So Keras's step is two graphs: one from the data to the gradients, and one that updates the
weights with the mean that `DistributedDataParallel` puts into their `grad`. Of a large model, the
first one is cut into stages, and the gradients of one are sent while the next one computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import torch
from torch.nn.parallel import DistributedDataParallel

from fmnist_models.errors import Unsupported
from fmnist_models.loops.torch.program import Call, Program
from fmnist_models.loops.torch.replay import replayed
from fmnist_models.loops.torch.stages import Stage, arguments_of, buckets_of, stages_of
from fmnist_models.loops.torch.tracing import State, running_on, traced
from fmnist_models.loops.watch import standing_in
from fmnist_models.replicas import Replicas

Gradients = Callable[[], Sequence[torch.Tensor]]


def share_of(rows: int, replicas: Replicas) -> tuple[int, int]:
    """(first row, number of rows) of a batch that the replica of this process trains.

    Where the rows do not divide, the first replicas train one more than the others, or the only
    one.
    """
    each, more = divmod(rows, replicas.count)
    rank = replicas.rank
    return rank * each + min(rank, more), each + (rank < more)


class ParallelProgram(Program):
    """The compiled steps of a replica, one for each number of rows of the whole batch.

    Args:
        train: trains on a batch.
        replicas: the replicas; their processes have met.

    Attributes:
        parallel: makes the mean of all replicas of each gradient. None before the first call.
    """

    def __init__(self, train: Callable[[list[torch.Tensor]], Any], replicas: Replicas) -> None:
        super().__init__(train)
        self._replicas = replicas
        self.parallel: DistributedDataParallel | None = None

    def _compiled(
        self, rows: int, data: tuple[torch.Tensor, ...], begin: Callable[[], Any]
    ) -> Call:
        found = TracedGradients(self._model, self._train, self._state, rows, self._replicas)
        graph = found.graph(self._place, self._order, data)
        weights = [weight.value for weight in found.weights]
        if not weights:
            raise Unsupported(
                f"no weight of model {self._model.name!r} has a gradient, so its replicas have "
                "nothing to add up: leave --replicas out"
            )
        buckets = buckets_of([weight.nbytes for weight in weights])
        values = dict(zip(arguments_of(graph), self._given(data), strict=True))
        gradients = []
        for number, stage in enumerate(stages_of(graph, buckets)):
            call = _StageCall(torch.compile(stage.module), stage, values)
            gradients.append(self._captured(call, begin if number == 0 else _nothing))
        if share_of(rows, self._replicas)[1] == 0:
            zeros = [[torch.zeros_like(weights[n]) for n in bucket] for bucket in buckets]
            gradients = [partial(list, some) for some in zeros]
        if self.parallel is None:
            # The module has no buffers, which would be sent before each step.
            self.parallel = DistributedDataParallel(
                _HandsOut(weights, buckets), gradient_as_bucket_view=True
            )
            self._update = self._compiled_update(found, weights)
        step = partial(self._call, self.parallel, gradients, weights)
        begin()
        step()
        return step, ()

    def _given(self, data: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """The arguments of the graph of gradients."""
        return [self._place, self._order, *data, *self._state.tensors]

    def _compiled_update(
        self, found: TracedGradients, weights: Sequence[torch.Tensor]
    ) -> Callable[[Sequence[torch.Tensor]], Any]:
        """A function that updates the weights, given their gradients; it has been run."""
        given = [torch.zeros_like(weight) for weight in weights]

        def update(gradients: list[torch.Tensor], tensors: list[torch.Tensor]) -> list[Any]:
            """Keras's update."""
            with running_on(self._state, tensors), torch.no_grad():
                found.apply(gradients)
            return []

        compiled = torch.compile(traced(update, given, self._state.tensors))
        if not given[0].is_cuda:
            compiled(given, self._state.tensors)
            return lambda gradients: compiled(list(gradients), self._state.tensors)
        replay = self._captured(partial(compiled, given, self._state.tensors), _nothing)

        def updated(gradients: Sequence[torch.Tensor]) -> None:
            """Update them with gradients in memory that may move, as buckets do once."""
            torch._foreach_copy_(given, list(gradients))
            replay()

        return updated

    def _captured(self, call: Callable[[], Any], begin: Callable[[], Any]) -> Callable[[], Any]:
        """A call after it was compiled and run; on a GPU as a CUDA graph."""
        begin()
        call()
        if not self._place.is_cuda:
            return call
        # NCCL's own thread asks for its events meanwhile.
        captured: Callable[[], Any] = replayed(call, begin, errors="thread_local")
        # A capture computes nothing, and the next stage reads what this one leaves.
        begin()
        captured()
        return captured

    def _call(
        self,
        parallel: DistributedDataParallel,
        gradients: Sequence[Gradients],
        weights: Sequence[Any],
    ) -> tuple[()]:
        """Train a step."""
        for weight in weights:
            weight.grad = None
        with torch.enable_grad():
            parallel(gradients).backward()
        self._update([weight.grad for weight in weights])
        return ()


class TracedGradients:
    """The gradients of a replica's share of a batch, as a graph.

    Args:
        model: the model.
        train: trains on a batch, which is one tensor for each array of the data.
        state: the model's state.
        rows: the number of rows of a step of all replicas.
        replicas: the replicas.

    Attributes:
        weights: the variables that have a gradient.
    """

    def __init__(
        self,
        model: keras.Model,
        train: Callable[[list[torch.Tensor]], Any],
        state: State,
        rows: int,
        replicas: Replicas,
    ) -> None:
        self._optimizer = model.optimizer
        self._train = train
        self._state = state
        self._rows = rows
        self._first, self._here = share_of(rows, replicas)
        # `DistributedDataParallel` takes the mean over replicas, and some may have more rows.
        self._factor = self._here * replicas.count / rows
        self._variables: list[keras.Variable] = []
        self._has: list[bool] = []

    @property
    def weights(self) -> list[keras.Variable]:
        """The variables that have a gradient, in the order of the gradients."""
        pairs = zip(self._variables, self._has, strict=True)
        return [variable for variable, has in pairs if has]

    def apply(self, gradients: Sequence[torch.Tensor]) -> None:
        """Update the weights, as Keras's step does with its own gradients."""
        left = iter(gradients)
        every = [next(left) if has else None for has in self._has]
        self._optimizer.apply(every, self._variables)

    def graph(
        self, place: torch.Tensor, order: torch.Tensor, data: Sequence[torch.Tensor]
    ) -> torch.fx.GraphModule:
        """Trace what Keras's step does without its update; it is run once for it.

        A replica without rows takes one row, for its graph is not called.
        """

        def gradients(*given: Any) -> list[torch.Tensor]:
            """Those of the weights; of a method, `make_fx` would take `self` for an argument."""
            return self._gradients(*given)

        return traced(gradients, place, order, list(data), self._state.tensors)

    def _gradients(
        self,
        place: torch.Tensor,
        order: torch.Tensor,
        data: list[torch.Tensor],
        tensors: list[torch.Tensor],
    ) -> list[torch.Tensor]:
        first = min(self._first, self._rows - 1)
        own = torch.arange(first, first + max(self._here, 1), device=place.device)
        chosen = order[place + own]
        batch = [leaf.index_select(0, chosen) for leaf in data]
        found: list[torch.Tensor] = []

        def keep(grads: Any, trainable_variables: Any) -> None:
            """Keep the gradients in place of an update."""
            self._variables = list(trainable_variables)
            self._has = [gradient is not None for gradient in grads]
            found.extend(gradient for gradient in grads if gradient is not None)

        with running_on(self._state, tensors), standing_in(self._optimizer, "apply", keep):
            self._train(batch)
        with torch.no_grad():
            place.add_(self._rows)
            found = [gradient.detach() for gradient in found]
            return found if self._factor == 1 else [x * self._factor for x in found]


class _StageCall:
    """Calls a stage, with what the stages before it left.

    Args:
        function: the stage, compiled.
        stage: what it takes and returns.
        values: what there is by name, which the call adds to.
    """

    def __init__(
        self, function: Callable[..., Any], stage: Stage, values: dict[str, torch.Tensor]
    ) -> None:
        self._function = function
        self._stage = stage
        self._values = values

    def __call__(self) -> list[torch.Tensor]:
        """The gradients."""
        told = list(self._function(*(self._values[name] for name in self._stage.needed)))
        own = len(self._stage.gradients)
        self._values.update(zip(self._stage.left, told[own:], strict=True))
        return told[:own]


class _HandsOut(torch.nn.Module):
    """Has the weights for parameters, and for their gradients those that it is given.

    Args:
        weights: the weights.
        buckets: the numbers of those whose gradients are computed together, in their order.
    """

    def __init__(self, weights: Sequence[torch.Tensor], buckets: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._weights = torch.nn.ParameterList(weights)
        self.buckets = buckets

    def forward(self, gradients: Sequence[Gradients]) -> Any:
        """A number whose backward pass gives the gradients to the weights, bucket by bucket."""
        with torch.no_grad():
            first = gradients[0]()
        number: torch.Tensor | None = None
        for bucket, call in reversed(
            [*zip(self.buckets, [partial(list, first), *gradients[1:]], strict=True)]
        ):
            number = _Given.apply(call, number, *(self._weights[n] for n in bucket))
        return number


class _Given(torch.autograd.Function):
    """A number whose gradients are given; those of the number before it come later."""

    @staticmethod
    def forward(ctx: Any, gradients: Gradients, before: Any, *weights: torch.Tensor) -> Any:
        """Zero."""
        ctx.gradients = gradients
        return weights[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        """The gradients."""
        return (None, gradient if ctx.needs_input_grad[1] else None, *ctx.gradients())


def _nothing() -> None:
    """Of an update and of later stages, nothing has to be put back before a call."""
