"""A network whose steps sleep for a known time, which replicas share, and again in each collective.

With PyTorch, where the replicas have a process each. Sleeping needs no core, so the speed-up is a
real one on any machine, and what it must be is known.

Only a worker imports this module, as the builder `bench.evidence.asleep:relu_mlp`.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import keras
import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from bench.evidence.known import COLLECTIVE, ROW, SLEPT
from fmnist_models.architectures import NETWORKS


def relu_mlp() -> keras.Model:
    """The documented ReLU network, which sleeps for each row and for each collective."""
    _sleep_in_collectives(float(os.environ.get(COLLECTIVE, "0")))
    layers = NETWORKS["relu_mlp"].builder().layers
    return keras.Sequential([keras.Input(shape=(28, 28)), Asleep(), *layers], name="relu_mlp")


@keras.saving.register_keras_serializable("fmnist_bench")
class Asleep(keras.layers.Layer):
    """Returns its input after a sleep for each of its rows, while it trains."""

    def call(self, inputs: torch.Tensor, training: bool = False) -> torch.Tensor:
        """The inputs."""
        return torch.ops.fmnist_bench.asleep(inputs) if training else inputs


@torch.library.custom_op("fmnist_bench::asleep", mutates_args=())
def _asleep(inputs: torch.Tensor) -> torch.Tensor:
    rows = len(inputs)
    _sleep(f"{rows} rows", rows * float(os.environ.get(ROW, "0")))
    return inputs.clone()


@_asleep.register_fake
def _(inputs: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(inputs)


def _sleep_in_collectives(seconds: float) -> None:
    """Let each collective of a DistributedDataParallel that is made later end with a sleep."""
    make = DistributedDataParallel.__init__

    def made(self: Any, *args: Any, **settings: Any) -> None:
        """Make one, with a hook."""
        make(self, *args, **settings)

        def late(group: Any, bucket: distributed.GradBucket) -> torch.futures.Future[Any]:
            """PyTorch's own sum of a bucket, and the sleep after it."""

            def asleep(future: torch.futures.Future[Any]) -> torch.Tensor:
                """What was added up."""
                _sleep("collective", seconds)
                summed: torch.Tensor = future.value()
                return summed

            return allreduce_hook(group, bucket).then(asleep)

        # PyTorch refuses annotations that are text.
        late.__annotations__.clear()
        self.register_comm_hook(None, late)

    DistributedDataParallel.__init__ = made


def _sleep(what: str, seconds: float) -> None:
    """Sleep, and note for how long: the system wakes a thread late, on busy cores by much."""
    began = time.perf_counter()
    time.sleep(seconds)
    _notes().write(f"{what} {time.perf_counter() - began}\n")


@cache
def _notes() -> TextIO:
    """A file of this process; it is line-buffered, so that a kill loses no line."""
    folder = Path(os.environ.get(SLEPT, os.devnull))
    return (folder / f"{os.getpid()}.txt" if folder.is_dir() else folder).open("a", buffering=1)
