"""The loops with any framework: the same weights, the same counts, and what a launch proves."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from support.backends import Batches, few_images, own, request, streamed
from support.loops import BATCH, SAMPLES, Recorder, distance, images, penalized, trained, work

from bench.schema.requests import CeilingsRequest
from bench.session import doctor
from bench.verdicts.validity import Verdict
from bench.worker import ceilings, network, probe
from bench.worker.framework import framework
from fmnist_models import dataset
from fmnist_models.architectures import NETWORKS
from fmnist_models.arrays import Arrays
from fmnist_models.data import as_data
from fmnist_models.errors import UserError
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Work
from fmnist_models.own import remedy

BACKEND = keras.backend.backend()
BUILDERS = {name: network.builder for name, network in NETWORKS.items()} | {"penalized": penalized}
# Keras refuses several steps a call with PyTorch.
OTHER_LOOPS = {"jax": ["multistep", "compiled"], "torch": ["compiled"]}[BACKEND]
PRECISIONS = ["mixed_bfloat16", "mixed_float16"]
OwnStep = import_module(f"support.own_step_{BACKEND}").OwnStep
LOOPS_HERE = ["fit", *OTHER_LOOPS]


@cache
def by_fit(
    model: str, optimizer: str, precision: str
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], list[dict[str, float]]]:
    before, after, told, *_ = trained("fit", BUILDERS[model], optimizer, precision)
    return before, after, told.logs


# Each optimizer and precision with the networks that have the most operations.
SETTINGS = [
    ("softmax", "adam", "float32"),
    ("sigmoid_mlp", "adam", "float32"),
    *(
        (model, optimizer, precision)
        for model in ("relu_mlp", "penalized")
        for optimizer, precision in (
            *((name, "float32") for name in ("adam", "sgd", "rmsprop", "sgd_nesterov", "adagrad")),
            ("adam", "mixed_bfloat16"),
            ("adam", "mixed_float16"),
        )
    ),
]


@pytest.mark.parametrize("loop", OTHER_LOOPS)
@pytest.mark.parametrize(("model", "optimizer", "precision"), SETTINGS)
def test_loops_end_with_the_same_weights(
    loop: str, model: str, optimizer: str, precision: str
) -> None:
    start, reference, fit_logs = by_fit(model, optimizer, precision)
    same, other, told, *_ = trained(loop, BUILDERS[model], optimizer, precision)
    assert distance(start, same) == 0
    bound = 1e-4 if precision == "float32" else 5e-2
    assert distance(reference, other) <= bound * distance(start, reference)
    for expected, found in zip(fit_logs, told.logs, strict=True):
        assert found == pytest.approx(expected, rel=1e-4 if precision == "float32" else 1e-2)


def test_the_warm_up_leaves_no_trace() -> None:
    for loop in ("fit", "compiled"):
        _, warm, *_ = trained(loop, penalized, "adam", warm=True)
        _, cold, *_ = trained(loop, penalized, "adam", warm=False)
        assert distance(warm, cold) == 0


def test_a_shuffled_epoch_trains_each_image_once_in_the_order_of_all_frameworks() -> None:
    """As NumPy draws it from the seed and the number of the epoch."""
    ends = []
    order = np.arange(SAMPLES, dtype=np.int32)
    np.random.default_rng((5, 0)).shuffle(order)
    for shuffle in (True, False):
        keras.utils.set_random_seed(3)
        model = penalized()
        compile_model(model, keras.optimizers.SGD(0.1), "compiled")
        given = work(model, seed=5, shuffle=shuffle)
        if not shuffle:
            x, y = (part[order] for part in given.arrays.packed)
            given = replace(given, data=Arrays(x, y))
        loop = LOOPS["compiled"](given)
        loop.warm_up()
        loop.train(Recorder(1), 1)
        ends.append([np.array(w) for w in model.get_weights()])
    assert distance(*ends) < 1e-5


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
    told = Recorder(1)
    loop.train(told, 1)
    assert np.isfinite(told.logs[0]["loss"])


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


@pytest.mark.parametrize("loop", LOOPS_HERE)
def test_a_launch_passes_its_own_checks(loop: str) -> None:
    messages: list[dict[str, Any]] = []
    network.measure_network(request(loop), few_images(), messages.append, None)
    *rounds, result = messages
    assert [(r["samples"], r["updates"]) for r in rounds] == [(400, 7), (400, 7)]
    assert result["jit_compile"] is (BACKEND == "jax" or loop == "compiled")
    assert result["steps_a_call"] == (7 if (BACKEND, loop) == ("jax", "compiled") else 1)
    assert result["precision_share"] == 1.0
    assert result["software"][BACKEND]
    assert result["dense_layers"] == [(784, 100), (100, 10)]


@pytest.mark.parametrize("loop", LOOPS_HERE)
# Keras computes float16 in float32 with PyTorch on a CPU.
@pytest.mark.parametrize("precision", PRECISIONS[: 1 if BACKEND == "torch" else 2])
def test_a_launch_in_16_bits_proves_it(loop: str, precision: str) -> None:
    messages: list[dict[str, Any]] = []
    network.measure_network(request(loop, precision), few_images(), messages.append, None)
    assert messages[-1]["precision_share"] == 1.0


def test_a_step_of_ones_own_trains_alike_and_tells_its_own_logs() -> None:
    ends = []
    for name in ("fit", "compiled"):
        loop = own(OwnStep, name)
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
        loop = own(partial(OwnStep, rows), name)
        loop.warm_up()
        loop.watch.count_from_here()
        loop.train(Recorder(1), 1)
        assert loop.watch.given() == (5, SAMPLES)
        assert loop.watch.rows() == trains


class ForAnother(keras.Model):
    """A step as another framework has it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(10)

    def call(self, x: Any) -> Any:
        return self.dense(keras.ops.reshape(x, (-1, 784)))

    if BACKEND == "jax":

        def train_step(self, data: Any) -> Any:
            return {}

    else:

        def train_step(self, state: Any, data: Any) -> Any:  # type: ignore[misc]
            return {}, state


@pytest.mark.parametrize("name", ["fit", "compiled"])
def test_a_step_for_another_framework_is_refused_by_name(name: str) -> None:
    takes = {"jax": "state, data", "torch": "data"}[BACKEND]
    said = rf"Keras calls it as train_step\({takes}\) with the backend {BACKEND}"
    with pytest.raises(UserError, match=said):
        own(ForAnother, name)


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


@pytest.mark.parametrize("loop", ["fit", "compiled"])
def test_products_are_found_with_their_layer_and_dtype(loop: str) -> None:
    _, _, _, _, trained_loop = trained(loop, narrow, "sgd")
    found = framework().products(trained_loop.watch)
    forward = {p.layer: p.dtype for p in found if p.forward}
    assert forward == {"narrow": "bfloat16", "wide": "float32"}
    rows = max(p.flops for p in found if p.layer == "narrow" and p.forward)
    assert rows == 2 * BATCH * 784 * 100


def test_looking_at_products_changes_nothing() -> None:
    _, _, _, model, loop = trained("fit", penalized, "adam")
    before = model.get_weights()
    framework().products(loop.watch)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_flops_of_a_step_are_those_of_its_products() -> None:
    _, _, _, _, loop = trained("fit", BUILDERS["sigmoid_mlp"], "sgd")
    counted = framework().step_flops(loop.work, loop)
    # The first layer's input has no gradient.
    assert counted.flops_per_sample == 2 * (2 * 784 * 100 + 3 * 100 * 10)


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


def test_ceilings_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "PRODUCT_SIZES", (64,))
    monkeypatch.setattr(ceilings, "TRIAD_BYTES", (2**12,))
    monkeypatch.setattr(ceilings, "TRIAD_CALL_BYTES", 2**14)
    asked = CeilingsRequest("cpu", "float32", None, "before", (("relu_mlp", 64), ("softmax", 300)))
    found = ceilings.measure_ceilings(asked, few_images())
    path = {"jax": "xla", "torch": "plain"}[BACKEND]
    assert (found.backend, set(found.matmul_flops_per_s)) == (BACKEND, {path})
    assert set(found.products_s) == {"784x100-100x10-b64", "784x10-b300"}


def test_the_doctor_looks_at_the_framework_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_NOISE_S", 0.0)
    report = doctor.diagnose("cpu")
    found = {check.name: check for check in report.checks}
    title = {"jax": "JAX", "torch": "PyTorch"}[BACKEND]
    assert f", {title} " in found["versions"].finding
    assert found["device"].finding.startswith(f"{title} sees it: ")
    names = ("versions", "device", "placement", "waiting")
    assert {found[name].verdict for name in names} == {Verdict.OK}, report
    assert found["memory counter"].verdict is Verdict.OK
    assert f"{title} process" not in found


def test_a_chain_of_products_is_waited_for() -> None:
    """On JAX the call returns before the products are computed; the wait must not be lost."""
    target = import_module(f"bench.worker.{BACKEND}.probe").PROBED("cpu")
    target.device.configure()
    factor = target.square(512)
    told = probe._waiting(target, on_cpu=True)
    assert told["synced_s"] > 0.5 * told["read_s"]
    assert float(target.chain(factor, 2)) == pytest.approx(
        float((np.asarray(factor) @ np.asarray(factor) @ np.asarray(factor)).sum()), rel=1e-2
    )


def test_too_little_memory_has_its_remedy() -> None:
    """The framework's own error, for 4 PB; JAX tells it where the result is asked for."""
    with pytest.raises(Exception, match=r"(?i)memory") as raised:
        keras.ops.convert_to_numpy(keras.ops.zeros((10**9, 10**6)))
    assert remedy(raised.value).startswith(": too little memory: make the model")
