"""What each variant of a step computes, with JAX or PyTorch: work is checked, never time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from support.backends import Batches, streamed
from support.loops import BATCH, SAMPLES, Recorder, penalized, trained, work

from bench.schema.profile import Variant
from bench.worker.framework import framework
from bench.worker.variants import Variants
from fmnist_models import optimizers
from fmnist_models.architectures import NETWORKS
from fmnist_models.loops import compile_model
from fmnist_models.stream import Stream

BACKEND = keras.backend.backend()
LOOPS = {"jax": ("fit", "multistep", "compiled"), "torch": ("fit", "compiled")}[BACKEND]
REST = SAMPLES % BATCH


def variants_of(loop: str, build: Callable[[], Any], **more: Any) -> tuple[Variants, Any]:
    device = framework().device("cpu", "float32")
    device.configure()
    keras.utils.set_random_seed(3)
    model = build()
    compile_model(model, optimizers.create("adam"), loop)
    made = framework().parts(work(model, seed=5, shuffle=False, **more), loop, device)
    assert isinstance(made, Variants)
    made.warm_up()
    return made, model


@cache
def of_relu_mlp(loop: str) -> tuple[Variants, Any]:
    """The variants of one loop, which take long to compile."""
    return variants_of(loop, NETWORKS["relu_mlp"].builder)


@pytest.fixture
def shared(loop: str) -> Iterator[tuple[Variants, Any]]:
    """Variants and their model, which each test finds as they were after the warm-up."""
    made, model = of_relu_mlp(loop)
    yield made, model
    made._snapshot.restore()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reading_leaves_the_model_as_it_was(loop: str, shared: tuple[Variants, Any]) -> None:
    for made, model in (shared, variants_of(loop, penalized)):
        assert_readings_leave_as_it_was(made, model)


def assert_readings_leave_as_it_was(made: Variants, model: Any) -> None:
    before = model.get_weights()
    slots = [np.array(v) for v in model.optimizer.variables]
    step, apply = model.train_step, type(model.optimizer).apply
    for variant in (*made.names, Variant.STEP):
        wall_s, cpu_s = made.read(variant)
        assert wall_s > 0
        assert cpu_s >= 0
        for then, now in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(then, now)
        for then, variable in zip(slots, model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(then, np.array(variable))
    assert model.train_step is step
    assert "apply" not in vars(model.optimizer)
    assert type(model.optimizer).apply is apply
    assert "metrics_variables" not in vars(type(model))
    assert not getattr(model, "_buffers", {})


def kept_gradients(made: Any, rows: int) -> list[Any]:
    parts = made._parts
    if BACKEND == "jax":
        return [np.array(variable) for variable in parts._gradients[rows]]
    weights = made._work.model.trainable_variables
    return [parts._buffers[f"_kept_gradient_{n}"].numpy() for n in range(len(weights))]


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if (BACKEND, loop) != ("torch", "fit")])
def test_the_gradients_that_are_kept_are_those_of_the_last_batch(
    loop: str, shared: tuple[Variants, Any]
) -> None:
    made, model = shared
    before = [np.array(w, np.float64) for w in model.get_weights()]
    made.read(Variant.BACKWARD)
    found = kept_gradients(made, REST)
    if BACKEND == "jax":
        # Those of the full batches too: else XLA would not compute them.
        assert all(np.any(gradient) for gradient in kept_gradients(made, BATCH))
    everything = made._work.arrays
    rows = slice(-REST, None) if loop == "compiled" else slice(0, REST)
    # One step of plain SGD on these rows moves the weights by the gradients.
    plain = keras.models.clone_model(model)
    plain.set_weights(before)
    plain.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    plain.train_on_batch(everything.x[rows], everything.y[rows])
    for gradient, then, now in zip(found, before, plain.get_weights(), strict=True):
        np.testing.assert_allclose(gradient, then - now, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_leaves_nothing_out_trains_as_the_loop_does(
    loop: str, shared: tuple[Variants, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected, _, _, _ = trained(loop, NETWORKS["relu_mlp"].builder, "adam")
    made, model = shared
    driver, program = made._programs[made.names[-1]]
    monkeypatch.setattr(driver, "program", program)
    driver.train(Recorder(), 2)
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loop", LOOPS)
def test_only_what_updates_makes_steps(loop: str, shared: tuple[Variants, Any]) -> None:
    made, model = shared
    counted, seen = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made._snapshot, "restore", lambda: None)
        for variant in made.names:
            before = int(model.optimizer.iterations)
            made.read(variant)
            counted[variant] = int(model.optimizer.iterations) - before
            seen[variant] = float(model.get_metrics_result()["accuracy"])
            model.reset_metrics()
    steps = -(-SAMPLES // BATCH)
    updating = {Variant.OPTIMIZER, Variant.METRICS}
    if loop != "compiled":
        updating.add(Variant.INPUT)
    assert counted == {v: steps if v in updating else 0 for v in made.names}
    measuring = {Variant.METRICS} | ({Variant.INPUT} if loop != "compiled" else set())
    assert {variant for variant, accuracy in seen.items() if accuracy > 0} == measuring


@pytest.mark.parametrize("loop", LOOPS)
def test_a_batch_that_is_ready_has_the_weights_of_its_classes(loop: str) -> None:
    """With weights of 0 for all classes but one, most gradients would be others."""
    weights = {label: float(label == 3) for label in range(10)}
    made, _ = variants_of(loop, NETWORKS["softmax"].builder, class_weight=weights)
    if (BACKEND, loop) == ("torch", "fit"):
        ready = made._parts.ready(made._work)
        (_, y, found), *_ = ready.get_torch_dataloader()
        np.testing.assert_array_equal(np.array(found), np.array(y) == 3)
        return
    made.read(Variant.BACKWARD)
    gradient = np.abs(kept_gradients(made, REST)[1])
    assert gradient.argmax() == 3
    assert gradient[3] > 0


@pytest.mark.skipif(BACKEND != "jax", reason="PyTorch's `fit` compiles nothing anyway")
def test_a_step_that_jax_does_not_compile_computes_no_gradients_for_its_forward_pass() -> None:
    import jax

    device = framework().device("cpu", "float32")
    device.configure()
    model = NETWORKS["softmax"].builder()
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    made = framework().parts(work(model, seed=5, shuffle=False), "fit", device)
    assert isinstance(made, Variants)
    made.warm_up()
    own = jax.value_and_grad
    with made._parts.only(Variant.FORWARD, "fit"):
        found = jax.value_and_grad(lambda w: (2 * w, "told"), has_aux=True)(3.0)
    assert found == ((6.0, "told"), None)
    assert jax.value_and_grad is own
    with made._parts.only(Variant.BACKWARD, "fit"):
        assert jax.value_and_grad is own


def test_a_stream_is_taken_apart_over_a_known_number_of_steps() -> None:
    device = framework().device("cpu", "float32")
    device.configure()
    given = streamed(lambda batch_size: Batches(batch_size)).work
    assert isinstance(given.data, Stream)
    few = replace(given, data=replace(given.data, steps=2))
    made = framework().parts(few, "fit", device)
    assert isinstance(made, Variants)
    made.warm_up()
    before = given.model.get_weights()
    for variant in (*made.names, Variant.STEP):
        assert made.read(variant)[0] > 0
        assert all(map(np.array_equal, before, given.model.get_weights()))
    assert made._parts.ready(few).num_batches == 2
