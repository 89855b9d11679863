"""What is PyTorch's own: its steps, traced and replayed, and the counts of a step of one's own."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import torch
from support import ROOT
from support.backends import few_images, own, request
from support.loops import BATCH, SAMPLES, Recorder, distance, trained, work
from support.own_step_torch import OwnStep

from bench.schema.errors import Invalid
from bench.worker import network
from bench.worker.framework import framework
from fmnist_models import dataset
from fmnist_models.architectures import NETWORKS
from fmnist_models.errors import Unsupported
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Work
from fmnist_models.loops.torch.compiled import _scaled
from fmnist_models.loops.torch.replay import replayed
from fmnist_models.loops.torch.tracing import keep_constants


def test_bytes_become_what_a_division_gives() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    expected = dataset.scaled(every.numpy())
    for function in (_scaled, torch.compile(_scaled)):
        assert np.array_equal(function(every).numpy(), expected)


def test_data_are_copied_once() -> None:
    """Those that NumPy may not write to, as the embedded images, would be copied twice."""
    loop = LOOPS["compiled"]
    array = np.zeros(2**20, np.uint8)
    array.flags.writeable = False
    tracemalloc.start()
    try:
        tensor = loop._put(SimpleNamespace(), array)  # type: ignore[attr-defined]
        assert tracemalloc.get_traced_memory()[1] < 1.5 * array.nbytes
    finally:
        tracemalloc.stop()
    tensor.add_(1)
    assert array.max() == 0


class AsksForANumber(OwnStep):
    """A step in which Python reads a number: no graph can hold it."""

    def train_step(self, data: Any) -> Any:
        told = super().train_step(data)
        return {"own": float(told["own"])}


def test_a_step_that_cannot_be_traced_is_one_line_with_a_remedy() -> None:
    loop = own(AsksForANumber, "compiled")
    with pytest.raises(
        Unsupported,
        match=r"^torch\.compile cannot compile the training step .*--loops fit: Python asks for",
    ):
        loop.warm_up()
    fits = own(AsksForANumber, "fit")
    fits.warm_up()
    told = Recorder(1)
    fits.train(told, 1)
    assert set(told.logs[0]) == {"own"}


def seeded() -> Any:
    """Dropout with a seed of its own draws by a generator that Python seeds in each step."""
    return keras.Sequential(
        [keras.Input((784,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(10, "softmax")]
    )


def test_a_seeded_dropout_is_no_constant_of_the_graph() -> None:
    with pytest.raises(Unsupported, match="such as the seed of a random generator"):
        trained("compiled", seeded, "sgd")


def dropping() -> Any:
    return keras.Sequential(
        [keras.Input((784,)), keras.layers.Dropout(0.5), keras.layers.Dense(10, "softmax")]
    )


@pytest.mark.parametrize("name", ["fit", "compiled"])
def test_dropout_draws_anew_in_each_step(name: str) -> None:
    """Weights that stay and the same rows: with the same mask, each loss would be the same."""
    model = dropping()
    compile_model(model, keras.optimizers.SGD(0.0), name)
    loop = LOOPS[name](work(model, SAMPLES, seed=5, shuffle=False))
    loop.warm_up()
    told = Recorder(3)
    loop.train(told, 3)
    assert len({log["loss"] for log in told.logs}) == 3


class Running(keras.layers.Layer):
    """A module of PyTorch with a buffer, which Keras knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(784)

    def call(self, x: Any) -> Any:
        return self.norm(x)


def with_a_module() -> Any:
    return keras.Sequential([keras.Input((784,)), Running(), keras.layers.Dense(10, "softmax")])


def test_the_buffers_of_a_module_are_a_part_of_the_state() -> None:
    ends = []
    for name, warm in (("fit", False), ("fit", True), ("compiled", True)):
        _, _, _, model, _ = trained(name, with_a_module, "sgd", warm=warm)
        norm = model.layers[0].norm.module
        ends.append((int(norm.num_batches_tracked), norm.running_mean.numpy()))
    # Keras calls a module to see the shapes too. What the warm-up counted is taken back.
    assert len({count for count, _ in ends}) == 1
    assert all(np.allclose(ends[0][1], mean, atol=1e-6) for _, mean in ends[1:])
    assert np.abs(ends[0][1]).max() > 0


def test_the_schedule_of_a_learning_rate_goes_on_in_the_graph() -> None:
    """As a number of the first step, the rate would never fall."""
    ends = []
    for name in ("fit", "compiled"):
        keras.utils.set_random_seed(3)
        model = NETWORKS["softmax"].builder()
        rate = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.1)
        compile_model(model, keras.optimizers.SGD(rate), name)
        loop = LOOPS[name](work(model, seed=5, shuffle=False))
        loop.warm_up()
        loop.train(Recorder(1), 1)
        ends.append([np.array(w) for w in model.get_weights()])
    assert distance(*ends) < 1e-5


def test_updates_that_are_not_finite_are_left_out_in_the_graph() -> None:
    """Loss scaling chooses between two updates by a number of the step."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(3)
        model = NETWORKS["softmax"].builder()
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**40
        )
        compile_model(model, optimizer, "compiled")
        loop = LOOPS["compiled"](work(model, seed=5, shuffle=False))
        loop.warm_up()
        scale = float(model.optimizer.dynamic_scale)
        loop.train(Recorder(1), 1)
        assert 0 <= int(model.optimizer.iterations) < 5
        assert float(model.optimizer.dynamic_scale) < scale
        assert all(np.isfinite(w).all() for w in model.get_weights())
    finally:
        keras.config.set_dtype_policy("float32")


def test_what_is_compiled_inside_a_round_voids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = LOOPS["compiled"]
    run = compiled._run  # type: ignore[attr-defined]

    def wasteful(loop: Any, epoch: int) -> Any:
        """Compile something new in every epoch."""
        torch.compile(lambda x: x + epoch, backend="eager")(torch.ones(1))
        return run(loop, epoch)

    monkeypatch.setattr(compiled, "_run", wasteful)
    with pytest.raises(Invalid, match=r"round 2 compiled something with torch\.compile"):
        network.measure_network(request("compiled"), few_images(), lambda _: None, None)


def test_settings_that_change_the_precision_are_refused() -> None:
    framework().device("cpu", "float32").configure()
    framework().refuse_settings("float32")
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(Invalid, match="'medium', and a float32 case has 'highest'"):
            framework().refuse_settings("float32")
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    try:
        with pytest.raises(Invalid, match="TF32 of convolutions on in a float32 case"):
            framework().refuse_settings("float32")
    finally:
        torch.backends.cudnn.allow_tf32 = False
    cudnn: Any = torch.backends.cudnn
    for newer in (torch.backends.cuda.matmul, cudnn.conv):
        before = newer.fp32_precision
        newer.fp32_precision = "tf32"
        try:
            with pytest.raises(Invalid, match=r"fp32_precision of torch\.backends: leave it out"):
                framework().refuse_settings("float32")
        finally:
            newer.fp32_precision = before
    framework().refuse_settings("float32")
    with torch.autocast("cpu"), pytest.raises(Invalid, match=r"torch\.autocast on"):
        framework().refuse_settings("float32")
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(Invalid, match=r"default dtype torch\.float64"):
            framework().refuse_settings("float32")
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_depends_on_no_argument_is_computed_once() -> None:
    """What Keras makes of its numbers on the host would be copied to a GPU at each call."""
    factor = torch.tensor([2.0, 3.0])

    def step(x: torch.Tensor) -> torch.Tensor:
        """A sum with constants, random numbers, and a tensor that is changed."""
        counted = torch.zeros(2)
        counted.add_(factor)
        return x * (factor.to(torch.float64) + 1).sum() + counted.sum() + torch.rand(2)

    graph = torch.fx.experimental.proxy_tensor.make_fx(step)(torch.ones(2))
    before = len(graph.graph.nodes)
    keep_constants(graph)
    assert len(graph.graph.nodes) < before
    for x in (torch.ones(2), torch.tensor([3.0, 4.0])):
        torch.manual_seed(1)
        expected = step(x)
        torch.manual_seed(1)
        assert torch.equal(graph(x), expected)


class FakeCuda:
    """As much of `torch.cuda` as a capture asks for; kernels run when they are dispatched."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def Stream(self) -> Any:  # noqa: N802 - PyTorch's name
        return SimpleNamespace(wait_stream=lambda _: self.log.append("wait"))

    def current_stream(self) -> Any:
        return SimpleNamespace(wait_stream=lambda _: self.log.append("wait"))

    @contextmanager
    def stream(self, _: Any) -> Iterator[None]:
        self.log.append("aside")
        yield

    def CUDAGraph(self) -> Any:  # noqa: N802 - PyTorch's name
        return SimpleNamespace(replay=lambda: self.log.append("replay"))

    @contextmanager
    def graph(self, _: Any, *, capture_error_mode: str) -> Iterator[None]:
        self.log.append(f"capture {capture_error_mode}")
        yield


def test_a_call_is_captured_after_it_ran_aside_and_then_replayed() -> None:
    cuda = FakeCuda()

    def call() -> str:
        """A call that is noted."""
        cuda.log.append("call")
        return "told"

    found = replayed(call, lambda: cuda.log.append("begin"), SimpleNamespace(cuda=cuda))
    assert cuda.log == [
        "wait", "aside", *["begin", "call"] * 3, "wait", "begin", "capture global", "call",
    ]  # fmt: skip
    assert [found(), found()] == ["told", "told"]
    assert cuda.log[-2:] == ["replay", "replay"]


def test_what_a_call_reads_lives_as_long_as_its_replay() -> None:
    """A graph has the addresses of the constants of a compiled step, and keeps no tensor alive."""
    graph = torch.fx.experimental.proxy_tensor.make_fx(lambda x: x + torch.ones(2))(torch.ones(2))
    kept = weakref.ref(graph)
    call = partial(torch.compile(graph, backend="eager"), torch.ones(2))
    found = replayed(call, lambda: None, SimpleNamespace(cuda=FakeCuda()))
    del graph, call
    gc.collect()
    assert kept() is not None
    assert found().tolist() == [2.0, 2.0]


# As a worker: it imports everything, starts no thread, and each launch is a fork of it.
TEMPLATE = """
import os
from bench.worker import launch, training  # noqa: F401
from fmnist_models.architectures import NETWORKS
from support.own_step_torch import OwnStep
from support.loops import trained
for _ in range(2):
    child = os.fork()
    if child == 0:
        _, after, told, *_ = trained("fit", NETWORKS["relu_mlp"].builder, "sgd")
        os._exit(0 if len(told.logs) == 2 else 2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
print("both trained")
"""


def test_a_process_that_imported_keras_may_fork_and_train() -> None:
    """The launches on a CPU are forks of a template."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TEMPLATE],
        env={**os.environ, **threads, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.strip() == "both trained", done.stderr[-2000:]


def test_several_steps_a_call_are_refused_by_keras() -> None:
    """So `multistep` is skipped; if Keras learns it, the skip can go."""
    model = NETWORKS["softmax"].builder()
    model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=2)
    with pytest.raises(ValueError, match="must be 1 with the PyTorch backend"):
        model.make_train_function()


def test_products_of_float16_are_computed_in_float32_on_a_cpu() -> None:
    """So mixed_float16 is skipped there."""
    _, _, _, _, loop = trained("fit", NETWORKS["softmax"].builder, "sgd", "mixed_float16")
    assert {p.dtype for p in framework().products(loop.watch)} == {"float32"}


def test_a_rest_that_is_smaller_than_a_batch_is_a_step_of_its_own() -> None:
    model = NETWORKS["softmax"].builder()
    compile_model(model, keras.optimizers.SGD(0.1), "compiled")
    loop = LOOPS["compiled"](work(model, BATCH, seed=5))
    assert isinstance(loop.work, Work)
    loop.warm_up()
    loop.train(Recorder(1), 1)
    assert int(model.optimizer.iterations) == 5
