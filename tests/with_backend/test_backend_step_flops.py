"""FLOPs of one step on JAX and PyTorch: as counted, and by the settings of the layers."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

import keras
import numpy as np
import pytest
from support.flops_models import MODELS, chain, own_products, twice

from bench.analysis import roofline
from bench.schema.warnings import Kind, read
from bench.worker import counting
from fmnist_models.loops.base import state_variables

BACKEND = keras.backend.backend()
MODULE = import_module(
    {"jax": "bench.worker.jax.step_flops", "torch": "bench.worker.torch.products"}[BACKEND]
)
COUNTED_IN = {"jax": "the lowered step", "torch": "the step's operations"}[BACKEND]
BATCH = 4


def counted(model: Any, **compiled: Any) -> tuple[counting.Counted, float | None]:
    """What is counted, and the layers' own FLOPs a sample."""
    given = model.inputs[0]
    x = np.zeros((BATCH, *given.shape[1:]), given.dtype)
    y = np.zeros((BATCH, *model.outputs[0].shape[1:]), np.float32)
    model.compile(**({"optimizer": "sgd", "loss": "mse"} | compiled))
    model.optimizer.build(model.trainable_variables)
    # As `fit` builds the metrics, which compiles nothing.
    model._symbolic_build(data_batch=(x, y))
    told: list[int | None] = []

    def telling(flops: int, expected: int | None, *others: Any) -> counting.Counted:
        told.append(expected)
        return counting.checked(flops, expected, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "checked", telling)
        found = flops_of(model, x, y)
    own = told[0] if told else None
    return found, None if own is None else own / BATCH


def flops_of(model: Any, x: Any, y: Any) -> counting.Counted:
    """What is counted in a step on one batch."""
    if BACKEND == "torch":
        batch = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
        return cast("counting.Counted", MODULE.step_flops(model, model.train_step, batch, BATCH))
    from fmnist_models.loops.jax.state import state_of

    return cast(
        "counting.Counted", MODULE.step_flops(model, model.train_step, state_of(model), (x, y))
    )


# The others are below, with JAX by a fault of Keras: its attention takes values of the keys' size.
MORE_THAN_NEEDED = {
    # Keras lets PyTorch compute the whole result of the first, and cuts it. It runs the first step
    # of the others' loops twice, for the form of its result.
    "torch": ["transposed", "SimpleRNN", "GRU, the older form", "text"],
    "jax": [],
}[BACKEND]
UNKNOWN = [*MORE_THAN_NEEDED, *(["attention, larger values"] if BACKEND == "jax" else [])]
KNOWN = [name for name in MODELS if name not in UNKNOWN]


@pytest.mark.parametrize("name", KNOWN)
def test_the_step_has_the_flops_of_its_layers(name: str) -> None:
    found, own = counted(MODELS[name]())
    assert found.warnings == ()
    assert own
    # Not only within 2%: the rules are exact.
    assert found.flops_per_sample == own


@pytest.mark.parametrize("name", MORE_THAN_NEEDED)
def test_what_is_computed_for_nothing_is_told(name: str) -> None:
    found, own = counted(MODELS[name]())
    assert found.flops_per_sample is not None
    assert own is not None
    assert found.flops_per_sample > own
    assert bool(found.warnings) == (found.flops_per_sample > 1.02 * own)


def test_a_chain_of_dense_layers_has_the_flops_of_the_products() -> None:
    found, own = counted(MODELS["dense"](), optimizer="adam", metrics=["mae"])
    assert found.flops_per_sample == own == roofline.step_flops([(7, 5), (5, 3)], 1)


def test_a_layer_that_computes_more_than_it_should_is_told() -> None:
    found, own = counted(twice())
    assert (found.flops_per_sample, own) == (296, 184)
    (warning,) = map(read, found.warnings)
    assert warning.kind is Kind.NO_ROOFLINE
    assert warning.words == f"296 FLOPs a sample in {COUNTED_IN}, 184 by its layers"


def test_a_layer_without_a_rule_is_counted_and_not_checked() -> None:
    found, own = counted(own_products())
    assert (found.warnings, own) == ((), None)
    assert found.flops_per_sample == roofline.step_flops([(7, 4), (4, 3)], 1)


def test_counting_changes_nothing() -> None:
    model = chain(
        (8,), keras.layers.Dropout(0.5), keras.layers.Dense(3), keras.layers.BatchNormalization()
    )
    x, y = np.ones((BATCH, 8), np.float32), np.ones((BATCH, 3), np.float32)
    model.compile("adam", "mse")
    model.train_on_batch(x, y)
    kept = state_variables(model)
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in kept]
    flops_of(model, x, y)
    after = [keras.ops.convert_to_numpy(variable) for variable in kept]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
