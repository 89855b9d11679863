"""PyTorch, as the loops need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import torch
from numpy.typing import NDArray
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InvalidCxxCompiler

from fmnist_models.loops.framework import Framework
from fmnist_models.loops.torch.compiled import TorchCompiledLoop
from fmnist_models.loops.torch.held import HeldTensor, held_by
from fmnist_models.loops.torch.watch import TorchWatch
from fmnist_models.stream import last_of

# What PyTorch says where Python asks for a number of a step that is traced.
_ASKED = "trying to get value out of a tracing tensor"


class Torch(Framework):
    """What the loops need of PyTorch."""

    compiled = TorchCompiledLoop
    compiler = "torch.compile"
    joins_steps = False

    def watch(
        self, model: keras.Model, device: str | None, first: Sequence[NDArray[Any]]
    ) -> TorchWatch:
        """Observe the step of a model, whose first batch has these arrays."""
        return TorchWatch(model, first)

    def compiler_names(self, error: Exception) -> str | None:
        """What stopped the trace or the compilation, in at most 120 characters."""
        if "InvalidCxxCompiler" in str(error) or isinstance(error, InvalidCxxCompiler):
            return "it found no C++ compiler: install g++, or name one in CXX"
        if _ASKED in str(error):
            return (
                "Python asks for a number while the step runs, such as the seed of a random "
                "generator, or to choose a branch"
            )
        if isinstance(error, TorchDynamoException):
            return str(error).splitlines()[0][:120]
        return None

    def runs_eagerly(self) -> bool:
        """Whether `torch.compile` is switched off."""
        return bool(torch._dynamo.config.disable)

    def own_variables(self, layer: keras.layers.Layer) -> list[HeldTensor]:
        """The buffers of a layer, and of modules of PyTorch in it."""
        return list(held_by(layer))

    def last_batch(self, stream: Any, most: int) -> Any:
        """The last batch of an opened stream, as a `PyDataset` of one batch."""
        return last_of(stream, most)


FRAMEWORK = Torch()
