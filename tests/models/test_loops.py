"""The loops do the same work: equal weights, updates, samples, loss and accuracy."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.loops import BATCH, EPOCHS, SAMPLES, Recorder, distance, penalized, trained

from fmnist_models import dataset
from fmnist_models.architectures import NETWORKS
from fmnist_models.optimizers import OPTIMIZERS

FLOAT32_TOLERANCE = 1e-3
MIXED_TOLERANCE = 5e-2


@cache
def trained_by_fit(
    model: str, optimizer: str, precision: str
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], list[dict[str, float]]]:
    """Weights before and after, and logs, of the loop that the others are held to."""
    before, after, told, *_ = trained("fit", BUILDERS[model], optimizer, precision)
    return before, after, told.logs


def travelled_apart(
    loop: str, model: str, optimizer: str, precision: str
) -> tuple[float, list[dict[str, float]], list[dict[str, float]]]:
    """How far a loop's weights end from those of `fit`, over the distance they travelled."""
    start, reference, fit_logs = trained_by_fit(model, optimizer, precision)
    same_start, other, told, *_ = trained(loop, BUILDERS[model], optimizer, precision)
    assert distance(start, same_start) == 0
    assert distance(start, reference) > 0
    return distance(reference, other) / distance(reference, start), fit_logs, told.logs


BUILDERS = {name: network.builder for name, network in NETWORKS.items()} | {"penalized": penalized}


@pytest.mark.parametrize("loop", ["multistep", "compiled"])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "lion", "adamw:weight_decay=0.1,clipnorm=1"])
@pytest.mark.parametrize("model", BUILDERS)
def test_loops_end_with_the_same_weights(loop: str, optimizer: str, model: str) -> None:
    apart, fit_logs, logs = travelled_apart(loop, model, optimizer, "float32")
    assert apart <= FLOAT32_TOLERANCE
    for expected, found in zip(fit_logs, logs, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", BUILDERS)
def test_bfloat16_ends_with_the_same_weights(optimizer: str, model: str) -> None:
    apart, *_ = travelled_apart("compiled", model, optimizer, "mixed_bfloat16")
    assert apart <= MIXED_TOLERANCE


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("model", BUILDERS)
def test_float16_with_its_loss_scaling_ends_with_the_same_weights(
    optimizer: str, model: str
) -> None:
    apart, *_ = travelled_apart("compiled", model, optimizer, "mixed_float16")
    assert apart <= MIXED_TOLERANCE


@pytest.mark.parametrize(
    ("loop", "shuffle"), [("fit", False), ("multistep", False), ("compiled", True)]
)
def test_the_warm_up_leaves_no_trace(loop: str, shuffle: bool) -> None:
    _, warm, told_warm, *_ = trained(loop, penalized, "adam", warm=True, shuffle=shuffle)
    _, cold, told_cold, *_ = trained(loop, penalized, "adam", warm=False, shuffle=shuffle)
    for a, b in zip(warm, cold, strict=True):
        np.testing.assert_array_equal(a, b)
    assert told_warm.logs == told_cold.logs


@pytest.mark.parametrize("loop", ["fit", "multistep"])
def test_the_seed_alone_decides_what_is_shuffled(loop: str) -> None:
    """The warm-up draws as well, but the same each time."""
    _, first, told, *_ = trained(loop, NETWORKS["softmax"].builder, "sgd", shuffle=True)
    _, again, told_again, *_ = trained(loop, NETWORKS["softmax"].builder, "sgd", shuffle=True)
    _, in_order, *_ = trained(loop, NETWORKS["softmax"].builder, "sgd", shuffle=False)
    assert told.logs == told_again.logs
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], in_order[0])


@pytest.mark.parametrize("loop", ["fit", "multistep", "compiled"])
def test_tensorflow_keeps_its_kernels_when_training_begins(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeding TensorFlow clears them, and the first step would have to make them again."""
    import tensorflow as tf

    *_, driver = trained(loop, NETWORKS["softmax"].builder, "sgd")
    seeded: list[int] = []
    monkeypatch.setattr(tf.random, "set_seed", seeded.append)
    driver.train(Recorder(), EPOCHS)
    assert seeded == []
    driver.warm_up()
    assert seeded == [5]


@pytest.mark.parametrize("loop", ["fit", "multistep", "compiled"])
def test_nothing_is_traced_after_the_warm_up(loop: str) -> None:
    *_, recorder, model, driver = trained(loop, NETWORKS["relu_mlp"].builder, "adam")
    traces = driver.traces
    driver.train(Recorder(), EPOCHS)
    assert traces >= 1
    assert driver.traces == traces
    assert recorder.events == ["open", "close", "end"] * EPOCHS
    assert int(model.metrics[0].count) == SAMPLES
    assert int(model.optimizer.iterations) == 2 * EPOCHS * -(-SAMPLES // BATCH)


def test_the_compiled_epoch_is_one_xla_program_over_resident_data() -> None:
    import tensorflow as tf

    from fmnist_models.loops.compiled import CompiledLoop

    *_, driver = trained("compiled", NETWORKS["relu_mlp"].builder, "adam")
    assert isinstance(driver, CompiledLoop)
    order = tf.range(SAMPLES)
    text = driver._epoch.experimental_get_compiler_ir(driver.resident, order)(stage="hlo")
    assert "while(" in text
    assert f"u8[{SAMPLES},784]" in text


def test_bytes_on_the_device_change_no_bit() -> None:
    """Images kept as bytes and images kept as float32 end with the very same weights."""
    _, packed, told, *_ = trained("compiled", NETWORKS["relu_mlp"].builder, "adam")
    _, plain, told_plain, *_ = trained("compiled", NETWORKS["relu_mlp"].builder, "adam", raw=False)
    for a, b in zip(packed, plain, strict=True):
        np.testing.assert_array_equal(a, b)
    assert told.logs == told_plain.logs


def test_xla_scales_each_byte_to_the_bit() -> None:
    import tensorflow as tf

    from fmnist_models.loops.tensorflow import compiled

    every = np.arange(256, dtype=np.uint8)
    found = tf.function(compiled._scaled, jit_compile=True)(tf.constant(every))
    np.testing.assert_array_equal(found.numpy(), dataset.scaled(every))


@pytest.mark.parametrize("batch", [27, 32, 300])
def test_blocks_of_steps_train_as_fit_does(batch: int) -> None:
    """40 steps in blocks of 5, 34 in blocks of 2, 3 one by one; then the rest of each."""
    build = NETWORKS["relu_mlp"].builder
    start, reference, fit_told, *_ = trained("fit", build, "sgd_nesterov", batch=batch)
    _, other, told, *_ = trained("compiled", build, "sgd_nesterov", batch=batch)
    assert distance(reference, other) <= FLOAT32_TOLERANCE * distance(reference, start)
    for expected, found in zip(fit_told.logs, told.logs, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("steps", "batch", "block"),
    [(1500, 32, 5), (40, 27, 5), (93, 80, 1), (94, 80, 2), (5, 8192, 1), (1499, 32, 1), (0, 32, 1)],
)
def test_a_block_divides_the_steps_of_an_epoch(steps: int, batch: int, block: int) -> None:
    from fmnist_models.loops.compiled import steps_a_block

    assert steps_a_block(steps, batch) == block


def test_shuffling_draws_a_new_order_each_epoch_from_the_seed() -> None:
    _, first, told, *_ = trained("compiled", NETWORKS["softmax"].builder, "sgd", shuffle=True)
    _, again, told_again, *_ = trained("compiled", NETWORKS["softmax"].builder, "sgd", shuffle=True)
    _, in_order, *_ = trained("compiled", NETWORKS["softmax"].builder, "sgd", shuffle=False)
    assert told.logs == told_again.logs
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], in_order[0])


def test_a_mistaken_program_is_told_apart() -> None:
    """The comparison itself can fail: another optimizer is far beyond the tolerance."""
    start, whole, *_ = trained("compiled", NETWORKS["softmax"].builder, "adam")
    _, other, *_ = trained("compiled", NETWORKS["softmax"].builder, "sgd")
    assert distance(whole, other) / distance(whole, start) > MIXED_TOLERANCE


def test_the_parent_lists_names_without_tensorflow() -> None:
    code = (
        "import sys, bench.cli, bench.session.run, bench.schema.matrix; "
        "assert not {'tensorflow', 'keras', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
