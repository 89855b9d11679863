"""The loops with JAX: the same weights, the same counts, and what a launch proves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from support.loops import BATCH, SAMPLES, Recorder, distance, images, penalized, trained, work

from bench.schema.case import Case
from bench.schema.errors import Invalid
from bench.schema.requests import LaunchRequest
from bench.worker import ceilings, network
from bench.worker.framework import framework
from bench.worker.jax import products
from fmnist_models import dataset
from fmnist_models.architectures import NETWORKS
from fmnist_models.data import as_data
from fmnist_models.errors import UserError
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Work
from fmnist_models.loops.jax.compiled import _scaled

BUILDERS = {name: network.builder for name, network in NETWORKS.items()} | {"penalized": penalized}


@cache
def by_fit(
    model: str, optimizer: str, precision: str
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], list[dict[str, float]]]:
    before, after, told, *_ = trained("fit", BUILDERS[model], optimizer, precision)
    return before, after, told.logs


@pytest.mark.parametrize("loop", ["multistep", "compiled"])
@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        *((name, "float32") for name in ("adam", "sgd", "rmsprop", "sgd_nesterov", "adagrad")),
        ("adam", "mixed_bfloat16"),
        ("adam", "mixed_float16"),
    ],
)
@pytest.mark.parametrize("model", BUILDERS)
def test_loops_end_with_the_same_weights(
    loop: str, optimizer: str, precision: str, model: str
) -> None:
    start, reference, fit_logs = by_fit(model, optimizer, precision)
    same, other, told, *_ = trained(loop, BUILDERS[model], optimizer, precision)
    assert distance(start, same) == 0
    bound = 1e-4 if precision == "float32" else 5e-2
    assert distance(reference, other) <= bound * distance(start, reference)
    for expected, found in zip(fit_logs, told.logs, strict=True):
        assert found == pytest.approx(expected, rel=1e-4 if precision == "float32" else 1e-2)


def test_bytes_become_what_a_division_gives() -> None:
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(np.asarray(jax.jit(_scaled)(every)), dataset.scaled(every))


def test_the_warm_up_leaves_no_trace() -> None:
    for loop in ("fit", "compiled"):
        _, warm, *_ = trained(loop, penalized, "adam", warm=True)
        _, cold, *_ = trained(loop, penalized, "adam", warm=False)
        assert distance(warm, cold) == 0


class OwnStep(keras.Model):
    """A step as Keras's guide for JAX teaches it; it may leave samples out."""

    def __init__(self, rows: int | None = None) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(10)
        self._rows = rows

    def call(self, x: Any) -> Any:
        return self.dense(keras.ops.reshape(x, (-1, 784)))

    def train_step(self, state: Any, data: Any) -> Any:
        trainable, fixed, slots, metrics = state
        x, y = (part[: self._rows] for part in data)

        def loss_of(weights: Any) -> Any:
            logits, updated = self.stateless_call(weights, fixed, x)
            losses = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
            return keras.ops.mean(losses), updated

        (loss, updated), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return {"own": loss}, (trainable, updated, slots, metrics)


def own(loop: str, rows: int | None = None) -> Any:
    keras.utils.set_random_seed(3)
    model = OwnStep(rows)
    model(np.zeros((1, 28, 28), np.float32))
    compile_model(model, keras.optimizers.SGD(0.1), loop)
    pixels, y = images()
    data = as_data("own", "train", (dataset.scaled(pixels), y), BATCH, None)
    return LOOPS[loop](Work(model, data, BATCH, seed=5, shuffle=False))


def test_a_step_of_ones_own_trains_alike_and_tells_its_own_logs() -> None:
    ends = []
    for name in ("fit", "compiled"):
        loop = own(name)
        loop.warm_up()
        told = Recorder(2)
        loop.train(told, 2)
        ends.append((loop.work.model.get_weights(), told.logs))
    (one, fit_logs), (other, logs) = ends
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(one, other, strict=True))
    assert [set(log) for log in logs] == [{"own"}, {"own"}]
    assert [log["own"] for log in fit_logs] == pytest.approx([log["own"] for log in logs], rel=1e-5)


@pytest.mark.parametrize("name", ["fit", "compiled"])
def test_calls_and_rows_of_a_step_of_ones_own_are_counted(name: str) -> None:
    for rows, trains in ((None, SAMPLES), (100, 4 * 100 + 76)):
        loop = own(name, rows)
        loop.warm_up()
        loop.watch.count_from_here()
        loop.train(Recorder(1), 1)
        assert loop.watch.given() == (5, SAMPLES)
        assert loop.watch.rows() == trains


class InAnotherWay(OwnStep):
    """A step whose layers see one sample, or a part of the batch, at a time; all are trained."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self._way = way

    def train_step(self, state: Any, data: Any) -> Any:
        trainable, fixed, slots, metrics = state
        x, y = data

        def loss_of(weights: Any, x: Any, y: Any) -> Any:
            logits, _ = self.stateless_call(weights, fixed, x)
            losses = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
            return keras.ops.mean(losses)

        grad = jax.grad(loss_of)
        if self._way == "vmap":
            each = jax.vmap(lambda x, y: grad(trainable, x[None], y[None]))(x, y)
            gradients = jax.tree.map(lambda g: g.mean(0), each)
        elif self._way == "scan":
            parts = (x.reshape(2, -1, 28, 28), y.reshape(2, -1))

            def turn(total: Any, part: Any) -> Any:
                """Add the gradients of a part."""
                return jax.tree.map(jax.numpy.add, total, grad(trainable, *part)), None

            zeros = jax.tree.map(jax.numpy.zeros_like, trainable)
            gradients, _ = jax.lax.scan(turn, zeros, parts)
        else:
            self._jitted = getattr(self, "_jitted", jax.jit(grad))
            gradients = self._jitted(trainable, x, y)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        # A tuple, where Keras's own step returns lists.
        return {"own": y[0]}, (tuple(trainable), fixed, slots, metrics)


@pytest.mark.parametrize("name", ["fit", "compiled"])
@pytest.mark.parametrize("way", ["vmap", "scan", "jit"])
def test_rows_that_cannot_be_counted_are_not_said_to_be_fewer(name: str, way: str) -> None:
    keras.utils.set_random_seed(3)
    model = InAnotherWay(way)
    model(np.zeros((1, 28, 28), np.float32))
    compile_model(model, keras.optimizers.SGD(0.1), name)
    pixels, y = images()
    data = as_data("own", "train", (dataset.scaled(pixels[:512]), y[:512]), BATCH, None)
    loop = LOOPS[name](Work(model, data, BATCH, seed=5, shuffle=False))
    loop.warm_up()
    loop.watch.count_from_here()
    loop.train(Recorder(1), 1)
    assert loop.watch.given() == (2, 512)
    assert loop.watch.rows() in (None, 512)


def two_outputs() -> Any:
    inputs = keras.Input((784,))
    heads = [keras.layers.Dense(10, "softmax", name=name)(inputs) for name in ("one", "other")]
    return keras.Model(inputs, heads)


def test_a_model_of_several_outputs_trains_alike() -> None:
    """Its losses have metrics of their own, which the first step would make."""
    pixels, y = images()
    x = dataset.scaled(pixels).reshape(SAMPLES, 784)
    ends = []
    for name in ("fit", "compiled"):
        keras.utils.set_random_seed(3)
        model = two_outputs()
        losses = ["sparse_categorical_crossentropy"] * 2
        compile_model(model, keras.optimizers.SGD(0.1), name, losses, None)
        data = as_data("own", "train", (x, (y, y)), BATCH, None)
        loop = LOOPS[name](Work(model, data, BATCH, seed=5, shuffle=False))
        loop.warm_up()
        told = Recorder(2)
        loop.train(told, 2)
        ends.append((model.get_weights(), told.logs))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(ends[0][0], ends[1][0], strict=True))
    assert [set(log) for log in ends[1][1]] == [set(log) for log in ends[0][1]]


def test_the_last_batch_of_a_stream_may_have_weights_of_classes() -> None:
    model = NETWORKS["softmax"].builder()
    compile_model(model, keras.optimizers.SGD(0.1), "fit")
    data = as_data("own", "train", lambda batch_size: Batches(batch_size), 32, None)
    loop = LOOPS["fit"](Work(model, data, 32, seed=5, class_weight={0: 2.0}))
    loop.warm_up()
    loop.train(Recorder(1), 1)


class Restart(keras.callbacks.Callback):
    """Counts the updates anew in each epoch, as warm restarts do."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.optimizer.iterations.assign(0)


@pytest.mark.parametrize("name", ["fit", "compiled"])
def test_what_a_callback_does_to_the_updates_is_not_the_rounds(name: str) -> None:
    _, _, _, _, trained_loop = trained(name, NETWORKS["softmax"].builder, "sgd")
    loop = LOOPS[name](replace(trained_loop.work, callbacks=(Restart(),)))
    loop.warm_up()

    class Counted(Recorder):
        """Keeps the updates of each epoch."""

        def epoch_ends(self, logs: Any) -> bool:
            found.append(int(loop.work.model.optimizer.iterations) - loop.updates_before)
            return super().epoch_ends(logs)

    found: list[int] = []
    loop.train(Counted(2), 2)
    assert found == [5, 5]


def request(loop: str, precision: str = "float32", model: str = "relu_mlp") -> LaunchRequest:
    case = Case(model, "adam", loop, batch_size=64, precision=precision, backend="jax")
    return LaunchRequest(case, 0, 1, 2, 7)


@cache
def few_images() -> dataset.TrainingData:
    data = dataset.load()
    return dataset.split(
        replace(
            data,
            train_images=data.train_images[:500],
            train_labels=data.train_labels[:500],
            test_images=data.test_images[:50],
            test_labels=data.test_labels[:50],
        )
    )


@pytest.mark.parametrize("loop", ["fit", "multistep", "compiled"])
def test_a_launch_passes_its_own_checks(loop: str) -> None:
    messages: list[dict[str, Any]] = []
    network.measure_network(request(loop), few_images(), messages.append, None)
    *rounds, result = messages
    assert [(r["samples"], r["updates"]) for r in rounds] == [(400, 7), (400, 7)]
    assert result["jit_compile"] is True
    assert result["precision_share"] == 1.0
    assert result["software"]["jax"] == jax.__version__
    assert result["dense_layers"] == [(784, 100), (100, 10)]


def test_something_compiled_inside_a_round_voids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = LOOPS["compiled"]
    run = compiled._run  # type: ignore[attr-defined]

    def wasteful(loop: Any, epoch: int) -> Any:
        """Compile something new in every epoch."""
        jax.jit(lambda x: x + epoch)(1.0)
        return run(loop, epoch)

    monkeypatch.setattr(compiled, "_run", wasteful)
    with pytest.raises(Invalid, match="round 1 traced the training step again"):
        network.measure_network(request("compiled"), few_images(), lambda _: None, None)


def narrow() -> Any:
    """A model whose first layer computes in 16 bits, whatever the case says."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Lambda(lambda x: keras.ops.cast(x, "bfloat16"), dtype="bfloat16"),
            keras.layers.Dense(100, dtype="mixed_bfloat16", name="narrow"),
            keras.layers.Dense(10, "softmax", name="wide"),
        ]
    )


def test_products_are_found_with_their_layer_and_dtype() -> None:
    _, _, _, _, loop = trained("compiled", narrow, "sgd")
    found = framework().products(loop.watch)
    forward = {p.layer: p.dtype for p in found if p.forward}
    assert forward == {"narrow": "bfloat16", "wide": "float32"}
    rows = max(p.flops for p in found if p.layer == "narrow" and p.forward)
    assert rows == 2 * BATCH * 784 * 100


def test_the_flops_of_a_step_are_those_of_its_products() -> None:
    _, _, _, _, loop = trained("fit", BUILDERS["sigmoid_mlp"], "sgd")
    counted = framework().step_flops(loop.work, loop)
    # The first layer's input has no gradient.
    assert counted.flops_per_sample == 2 * (2 * 784 * 100 + 3 * 100 * 10)


def test_convolutions_are_counted() -> None:
    def convolved(x: Any, kernel: Any) -> Any:
        """A convolution of 3 x 3 from 4 to 8 channels."""
        return jax.lax.conv(x, kernel, (1, 1), "SAME")

    forms = (jax.ShapeDtypeStruct(s, "float32") for s in ((2, 4, 5, 5), (8, 4, 3, 3)))
    (found,) = products.products_of(convolved, *forms)
    assert found.flops == 2 * (2 * 8 * 5 * 5) * (4 * 3 * 3)


class Batches(keras.utils.PyDataset):
    """Three batches, the last one smaller."""

    def __init__(self, batch_size: int, width: int = 784) -> None:
        super().__init__()
        self._sizes = [batch_size, batch_size, batch_size // 2]
        self._width = width

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, number: int) -> Any:
        x = np.ones((self._sizes[number], self._width), np.float32)
        return x, np.zeros(len(x), np.int32)


def streamed(open_stream: Callable[[int], Any]) -> Any:
    model = NETWORKS["softmax"].builder()
    compile_model(model, keras.optimizers.SGD(0.1), "fit")
    data = as_data("own", "train", open_stream, 32, None)
    return LOOPS["fit"](Work(model, data, 32, seed=5))


def test_a_stream_trains_and_its_smaller_batch_is_compiled_before() -> None:
    loop = streamed(lambda batch_size: Batches(batch_size))
    loop.warm_up()
    traces = loop.traces
    loop.watch.count_from_here()
    loop.train(Recorder(1), 1)
    assert loop.traces == traces
    assert (loop.watch.rows(), loop.watch.reshaped()) == (80, 0)
    told = framework().waiting_of(loop.work, framework().device("cpu", "float32"))
    assert 0 <= told["waiting_share"] < 1
    assert told["resident_step_s"] > 0


def test_settings_that_change_the_precision_are_refused() -> None:
    framework().device("cpu", "float32")
    framework().refuse_settings("float32")
    with jax.default_matmul_precision("tensorfloat32"), pytest.raises(Invalid, match="leave it"):
        framework().refuse_settings("float32")
    with jax.enable_x64(True), pytest.raises(Invalid, match="jax_enable_x64"):
        framework().refuse_settings("float32")


def test_ceilings_are_measured_through_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.schema.requests import CeilingsRequest

    monkeypatch.setattr(ceilings, "PRODUCT_SIZES", (64,))
    monkeypatch.setattr(ceilings, "TRIAD_BYTES", (2**12,))
    monkeypatch.setattr(ceilings, "TRIAD_CALL_BYTES", 2**14)
    asked = CeilingsRequest("cpu", "float32", None, "before", (("relu_mlp", 64), ("softmax", 300)))
    found = ceilings.measure_ceilings(asked, few_images())
    assert (found.backend, set(found.matmul_flops_per_s)) == ("jax", {"xla"})
    assert set(found.products_s) == {"784x100-100x10-b64", "784x10-b300"}


def test_a_profile_says_that_it_cannot_split_a_step() -> None:
    device = framework().device("cpu", "float32")
    with pytest.raises(UserError, match="cannot split a step of JAX yet: choose --backends"):
        framework().parts(work(NETWORKS["relu_mlp"].builder(), seed=5), "fit", device)
