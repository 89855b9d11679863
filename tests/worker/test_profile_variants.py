"""What each variant of a step computes, on real TensorFlow: work is checked, never time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from support.loops import BATCH, SAMPLES, Recorder, penalized, trained, work

from bench.schema.profile import CHAINS, Variant
from fmnist_models.architectures import NETWORKS

LOOPS = tuple(CHAINS)
REST = SAMPLES % BATCH


def variants_of(loop: str, build: Callable[[], Any]) -> tuple[Any, Any]:
    import keras

    from bench.worker.framework import framework
    from fmnist_models import optimizers
    from fmnist_models.loops import compile_model

    device = framework().device("cpu", "float32")
    keras.utils.set_random_seed(3)
    model = build()
    compile_model(model, optimizers.create("adam"), loop)
    given = work(model, seed=5, shuffle=False, device=device.name)
    made: Any = framework().parts(given, loop, device)
    made.warm_up()
    return made, model


@cache
def of_relu_mlp(loop: str) -> tuple[Any, Any]:
    """The variants of one loop, which take long to compile."""
    return variants_of(loop, NETWORKS["relu_mlp"].builder)


@pytest.fixture
def shared(loop: str) -> Iterator[tuple[Any, Any]]:
    """Variants and their model, which each test finds as they were after the warm-up."""
    made, model = of_relu_mlp(loop)
    yield made, model
    made._snapshot.restore()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reading_leaves_the_model_as_it_was(loop: str, shared: tuple[Any, Any]) -> None:
    for made, model in (shared, variants_of(loop, penalized)):
        assert_readings_leave_as_it_was(made, model)


def assert_readings_leave_as_it_was(made: Any, model: Any) -> None:
    before = model.get_weights()
    for variant in (*made.names, Variant.STEP):
        wall_s, cpu_s = made.read(variant)
        assert wall_s > 0
        assert cpu_s >= 0
        for then, now in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(then, now)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_gradients_that_are_kept_are_those_of_the_last_batch(
    loop: str, shared: tuple[Any, Any]
) -> None:
    import tensorflow as tf

    made, model = shared
    made.read(Variant.BACKWARD)
    # In `fit` and `multistep` one traced step serves every size of batch, or one each.
    kept = [np.array(variable) for variable in made._parts._gradients[REST]]
    if not any(np.any(found) for found in kept):
        kept = [np.array(variable) for variable in made._parts._gradients[BATCH]]
    assert loop == "fit" or all(np.any(np.array(g)) for g in made._parts._gradients[BATCH])
    everything = made._work.arrays
    # Loops that have every batch ready take the first rows again and again.
    rows = slice(-REST, None) if loop == "compiled" else slice(0, REST)
    with tf.GradientTape() as tape:
        predicted = model(everything.x[rows], training=True)
        loss = tf.reduce_mean(
            tf.keras.losses.sparse_categorical_crossentropy(everything.y[rows], predicted)
        )
    for found, expected in zip(kept, tape.gradient(loss, model.trainable_variables), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_leaves_nothing_out_trains_as_the_loop_does(
    loop: str, shared: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last variant of the chain, driven by hand, ends with the loop's own weights."""
    _, expected, _, _, _ = trained(loop, NETWORKS["relu_mlp"].builder, "adam")
    made, model = shared
    driver, program = made._programs[made.names[-1]]
    monkeypatch.setattr(driver, "program", program)
    driver.train(Recorder(), 2)
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loop", LOOPS)
def test_only_what_updates_makes_steps(loop: str, shared: tuple[Any, Any]) -> None:
    made, model = shared
    counted = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made._snapshot, "restore", lambda: None)
        for variant in made.names:
            before = int(model.optimizer.iterations)
            made.read(variant)
            counted[variant] = int(model.optimizer.iterations) - before
    steps = -(-SAMPLES // BATCH)
    updating = {Variant.OPTIMIZER, Variant.METRICS}
    if loop != "compiled":
        updating.add(Variant.INPUT)
    assert counted == {v: steps if v in updating else 0 for v in made.names}
