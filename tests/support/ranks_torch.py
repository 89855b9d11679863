"""A replica of several: `python -m support.ranks_torch RANK COUNT MEETING FILE SCENARIO...`.

Each scenario is a function here. What they return is pickled into FILE, by their names.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from bench.worker import network
from bench.worker.framework import framework
from fmnist_models import dataset
from fmnist_models.arrays import Arrays
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Loop, Work
from fmnist_models.loops.torch import stages
from fmnist_models.loops.torch.compiled import TorchCompiledLoop
from fmnist_models.loops.torch.parallel import ParallelProgram
from fmnist_models.loops.watch import standing_in
from fmnist_models.replicas import Replicas
from support.backends import few_images, request
from support.loops import Recorder, clock_of, images, penalized

BATCH = 32


def smooth() -> Any:
    """A model with a penalty, and without kinks, in which rounding would grow."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(16, "tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
            keras.layers.Dense(10, "softmax"),
        ]
    )


class Turns(keras.layers.Layer):
    """Multiplies by a number that rises in each step, and counts the steps."""

    def build(self, shape: Any) -> None:
        self.turn = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        before = keras.ops.convert_to_tensor(self.turn) * 1.0
        self.turn.assign(self.turn + 1.0)
        return x * (1.0 + 0.1 * before) + 0.01 * self.turn


def deep() -> Any:
    """Several layers, with a state that each step changes and its gradients need."""
    hidden = [keras.layers.Dense(16, "tanh") for _ in range(2)]
    return keras.Sequential(
        [keras.Input((784,)), hidden[0], Turns(), hidden[1], keras.layers.Dense(10, "softmax")]
    )


def loop_of(
    build: Callable[[], Any], replicas: Replicas, rows: int, optimizer: Any, **more: Any
) -> Loop:
    """`compiled` on the first images."""
    keras.utils.set_random_seed(3)
    model = build()
    compile_model(model, optimizer, "compiled")
    pixels, y = images()
    pixels, y = pixels[:rows].reshape(rows, *model.input_shape[1:]), y[:rows]
    data = Arrays(dataset.scaled(pixels), y, pixels=pixels)
    work = Work(model, data, BATCH, seed=5, replicas=replicas, **more)
    return LOOPS["compiled"](work)


def values(variables: Any) -> list[Any]:
    """Of weights."""
    return [keras.ops.convert_to_numpy(v).astype(np.float64) for v in variables]


def parallel_of(loop: Loop) -> Any:
    """What adds up the gradients of several replicas, after the warm-up; None for one."""
    program = loop.program if isinstance(loop, TorchCompiledLoop) else None
    return program.parallel if isinstance(program, ParallelProgram) else None


def trained(loop: Loop, hook: Any = None) -> dict[str, Any]:
    """What two epochs made of a model."""
    model = loop.work.model
    before = values(model.trainable_variables)
    loop.warm_up()
    if hook is not None and (parallel := parallel_of(loop)) is not None:
        parallel.register_comm_hook(None, hook)
    kept, traces, recorder = values(model.trainable_variables), loop.traces, Recorder(2)
    loop.train(recorder, 2)
    return {
        "before": before,
        "kept": kept,
        "after": values(model.trainable_variables),
        "others": values(model.non_trainable_variables),
        "logs": recorder.logs,
        "rows": loop.watch.rows(),
        "updates": int(model.optimizer.iterations),
        "optimizer": values(model.optimizer.variables),
        "traced_again": loop.traces - traces,
        "steps_a_call": loop.steps_a_call,
    }


def uneven(replicas: Replicas) -> Any:
    """The last batch has 13 rows, which are not 2 or 4 times as many."""
    adam = keras.optimizers.Adam(0.01)
    loop = loop_of(smooth, replicas, 4 * BATCH + 13, adam, shuffle=False)
    buckets = []

    def counted(group: Any, bucket: Any) -> Any:
        """PyTorch's own hook, which adds up the gradients."""
        buckets.append(bucket.buffer().numel())
        return allreduce_hook(group, bucket)

    # PyTorch reads them, and takes no text.
    counted.__annotations__.clear()
    return {**trained(loop, counted), "buckets": buckets}


def single(replicas: Replicas) -> Any:
    """The last batch has one row; orders are drawn, classes weighed, gradients gathered."""
    gathers = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)
    return trained(loop_of(smooth, replicas, 3 * BATCH + 1, gathers, class_weight={1: 3.0}))


def staged(replicas: Replicas) -> Any:
    """Small buckets, so that the gradients come in stages; a layer has a changing state too."""
    with standing_in(stages, "FIRST_BYTES", 100), standing_in(stages, "BYTES", 2000):
        loop = loop_of(deep, replicas, 2 * BATCH + 5, keras.optimizers.Adam(0.01), shuffle=False)
        found = trained(loop)
    parallel = parallel_of(loop)
    return {**found, "stages": len(parallel.module.buckets) if parallel else 1}


def scaled(replicas: Replicas) -> Any:
    """The scale of the loss grows after three updates."""
    scaling = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=2.0**10, dynamic_growth_steps=3
    )
    return trained(loop_of(smooth, replicas, 2 * BATCH, scaling, shuffle=False))


def overflowing(replicas: Replicas) -> Any:
    """In 16 bits, the scale of the loss is too large at first, so that updates are left out."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        scaling = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**20
        )
        return trained(loop_of(smooth, replicas, 4 * BATCH, scaling, shuffle=False))
    finally:
        keras.config.set_dtype_policy("float32")


def normalized(replicas: Replicas) -> Any:
    """With BatchNormalization, whose statistics each replica has for itself."""
    loop = loop_of(penalized, replicas, 2 * BATCH, keras.optimizers.SGD(0.1), shuffle=False)
    return {**trained(loop), "warnings": framework().per_replica(loop.work)}


def counting(replicas: Replicas) -> Any:
    """A weight for each sample falls by 1 / rows of the batch whenever that is trained."""
    samples = 3 * BATCH + 5
    model = keras.Sequential(
        [
            keras.Input((samples,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros"),
        ]
    )
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, y: y, jit_compile=False)
    data = Arrays(np.eye(samples, dtype=np.float32), np.zeros((samples, 1), np.float32))
    loop = LOOPS["compiled"](Work(model, data, BATCH, seed=5, replicas=replicas))
    loop.warm_up()
    loop.train(Recorder(1), 1)
    return -values(model.trainable_variables)[0][:, 0]


def dropped(replicas: Replicas) -> Any:
    """The first random numbers of a process after the warm-up."""
    loop = loop_of(smooth, replicas, BATCH, keras.optimizers.SGD(0.1))
    loop.warm_up()
    return torch.rand(3).tolist()


def facts(replicas: Replicas) -> Any:
    """What a device of several replicas measures."""
    device = framework().device("cpu", "float32", replicas)
    device.wait_for_others()
    return device.all_reduce_s(1000)


def launched(replicas: Replicas) -> Any:
    """The messages of a launch of three seconds, which joins the processes itself."""
    asked = replace(request("compiled"), min_seconds=3.0)
    case = replace(asked.case, replicas=replicas.count, processes=replicas.processes)
    asked = replace(asked, case=case, rank=replicas.rank, meeting=replicas.meeting)
    told: list[dict[str, Any]] = []
    with standing_in(network, "time", clock_of(replicas.rank)):
        network.measure_network(asked, few_images(), told.append, None)
    return told


def main() -> None:
    """Run the scenarios; that of a whole launch is alone."""
    rank, count, meeting, file, *names = sys.argv[1:]
    torch.set_num_threads(1)
    processes = int(count)
    replicas = Replicas(processes, processes, int(rank), meeting if processes > 1 else "")
    # What the compiler makes of a graph is tested elsewhere, and takes most of the time.
    backend = os.environ.get("RANKS_COMPILER", "eager")
    quick = partial(torch.compile, backend=backend)
    with standing_in(torch, "compile", quick):
        if names == ["launched"]:
            found = {"launched": launched(replicas)}
        else:
            device = framework().device("cpu", "float32", replicas)
            device.configure()
            with device.replicated():
                found = {name: globals()[name](replicas) for name in names}
    Path(file).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
