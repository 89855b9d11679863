"""What is counted of a real model, against what XLA compiled; and real ceilings, once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.roofline import step_flops
from bench.schema.requests import CeilingsRequest
from fmnist_models.architectures import NETWORKS

SAMPLES, BATCH = 1100, 32
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?(%[\w.-]+) = \w+\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|calls|to_apply)=(%[\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def hlo_flops(text: str) -> int:
    """2mkn over all dots of an HLO module, each as often as the loops around it turn."""
    computations: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        head = re.match(r"^(ENTRY )?(%[\w.-]+) \(", line)
        if head:
            name = head[2]
            computations[name] = []
            entry = name if head[1] else entry
        elif name:
            computations[name].append(line)

    def flops(computation: str) -> int:
        shapes: dict[str, tuple[int, ...]] = {}
        total = 0
        for line in computations[computation]:
            defined = _INSTRUCTION.match(line)
            if defined:
                shapes[defined[1]] = tuple(int(d) for d in defined[2].split(",") if d)
            dot = re.search(r" dot\((%[\w.-]+), .*lhs_contracting_dims=\{(\d+)\}", line)
            if dot and defined:
                total += 2 * math.prod(shapes[defined[1]]) * shapes[dot[1]][int(dot[2])]
            trips = _TRIPS.search(line)
            assert trips or " while(" not in line, f"a loop without a count: {line}"
            for called in _CALLED.findall(line):
                total += flops(called) * (int(trips[1]) if trips else 1)
        return total

    return flops(entry)


def compiled_loop(model_name: str) -> Any:
    import keras

    from fmnist_models import architectures, optimizers
    from fmnist_models.arrays import Arrays
    from fmnist_models.loops import LOOPS, compile_model
    from fmnist_models.loops.base import Work

    keras.utils.set_random_seed(0)
    model = architectures.build(model_name)
    compile_model(model, optimizers.create("sgd"), "compiled")
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (SAMPLES, *model.input_shape[1:]), dtype=np.uint8)
    y = draw.integers(0, 10, SAMPLES, dtype=np.int32)
    work = Work(model, Arrays((pixels / 255.0).astype(np.float32), y, pixels=pixels), BATCH, seed=0)
    return LOOPS["compiled"](work)


@pytest.mark.parametrize("model", NETWORKS)
def test_the_count_is_that_of_the_dots_that_xla_compiled(model: str) -> None:
    from bench.worker.counting import dense_layers

    loop = compiled_loop(model)
    order = np.arange(SAMPLES, dtype=np.int32)
    ir = loop._epoch.experimental_get_compiler_ir(loop.resident, order)
    layers = dense_layers(loop.work.model)
    assert layers is not None
    assert hlo_flops(ir(stage="optimized_hlo")) == SAMPLES * step_flops(layers, 1)


def test_the_products_only_epoch_does_the_same_products() -> None:
    import tensorflow as tf

    from bench.worker.tensorflow.peaks import products_epoch

    kernels = [tf.ones((784, 100)), tf.ones((100, 10))]
    epoch = tf.function(products_epoch(BATCH), jit_compile=True, autograph=False)
    ir = epoch.experimental_get_compiler_ir(tf.ones((SAMPLES, 784)), kernels)
    expected = SAMPLES * step_flops([(784, 100), (100, 10)], 1)
    assert hlo_flops(ir(stage="optimized_hlo")) == expected


def test_what_a_step_moves_is_named_array_by_array() -> None:
    import keras

    from bench.worker.counting import traffic
    from fmnist_models import optimizers

    loop = compiled_loop("relu_mlp")
    images, labels = ("images", 32 * 784, 1), ("labels", 32 * 4, 1)
    weights = ("weights", 79_510 * 4, 2)
    assert traffic(loop.work) == [weights, ("optimizer slots", 0, 2), images, labels]
    model = loop.work.model
    for optimizer, slots in ((optimizers.create("adam"), 2), (optimizers.create("rmsprop"), 1)):
        model.compile(keras.optimizers.get(optimizer), "sparse_categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
        assert traffic(loop.work)[1] == ("optimizer slots", slots * 79_510 * 4, 2)


def branched() -> Any:
    import keras

    inputs = keras.Input((784,))
    left, right = (keras.layers.Dense(4)(inputs) for _ in range(2))
    return keras.Model(inputs, keras.layers.Dense(10)(left + right))


def with_normalization() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential([keras.Input((784,)), layers.Dense(4), layers.BatchNormalization()])


def over_rows() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential([keras.Input((28, 28)), layers.Dense(4), layers.Flatten()])


def frozen() -> Any:
    import keras

    return keras.Sequential([keras.Input((784,)), keras.layers.Dense(4, trainable=False)])


def with_a_step_of_its_own() -> Any:
    import keras

    class Own(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            return super().train_step(data)

    return Own([keras.Input((784,)), keras.layers.Dense(10)])


@pytest.mark.parametrize(
    "build", [branched, with_normalization, over_rows, frozen, with_a_step_of_its_own]
)
def test_a_model_whose_products_are_others_is_not_counted(build: Callable[[], Any]) -> None:
    from bench.worker.counting import dense_layers

    assert dense_layers(build()) is None


def test_weightless_layers_may_stand_between() -> None:
    import keras

    from bench.worker.counting import dense_layers

    layers = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(7)]
    layers += [keras.layers.ReLU(), keras.layers.Dropout(0.5), keras.layers.Dense(3, "softmax")]
    assert dense_layers(keras.Sequential(layers)) == [(784, 7), (7, 3)]


def test_ceilings_are_measured_once_for_each_shape(
    small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.worker import ceilings
    from fmnist_models import dataset

    monkeypatch.setattr(ceilings, "PRODUCT_SIZES", (64,))
    monkeypatch.setattr(ceilings, "TRIAD_BYTES", (2**12,))
    monkeypatch.setattr(ceilings, "TRIAD_CALL_BYTES", 2**14)
    data = dataset.split(dataset.load(small_data))
    # One that cannot be built takes nothing from the others.
    cases = (("relu_mlp", 64), ("nosuch:model", 64), ("sigmoid_mlp", 64), ("softmax", 300))
    found = ceilings.measure_ceilings(
        CeilingsRequest("cpu", "float32", None, "before", cases), data
    )
    assert set(found.matmul_flops_per_s) == {"plain", "xla"}
    assert set(found.bandwidth_bytes_per_s) == {"4096"}
    assert set(found.products_s) == {"784x100-100x10-b64", "784x10-b300"}
    measured = [found.matmul_flops_per_s, found.bandwidth_bytes_per_s, found.products_s]
    assert all(value > 0 for table in measured for value in table.values())
