"""FLOPs of one step: of the lowered program, and of its layers, for each kind of layer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support.flops_models import MODELS, chain, own_products, twice

from bench.analysis import roofline
from bench.schema.warnings import Kind, read

BATCH = 4


def counted(model: Any, batch: int = BATCH, loss: str = "mse", **compiled: Any) -> tuple[Any, Any]:
    """What is counted, and the layers' own FLOPs a sample."""
    import tensorflow as tf

    from bench.worker.tensorflow import step_flops

    given = model.inputs[0]
    x = tf.zeros((batch, *given.shape[1:]), given.dtype)
    y = tf.zeros((batch, *model.outputs[0].shape[1:]))
    model.compile(**({"optimizer": "sgd", "loss": loss, "jit_compile": True} | compiled))
    model.optimizer.build(model.trainable_variables)
    told: list[int | None] = []

    class Telling(step_flops.LayerCalls):
        def flops(self, trained: Sequence[Any]) -> int | None:
            told.append(super().flops(trained))
            return told[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_flops, "LayerCalls", Telling)
        found = step_flops.step_flops(model, model.train_step, (x, y))
    own = told[0] if told else None
    return found, None if own is None else own / batch


@pytest.mark.parametrize("name", MODELS)
def test_the_lowered_step_has_the_flops_of_its_layers(name: str) -> None:
    found, own = counted(MODELS[name]())
    assert found.warnings == ()
    assert own
    # Not only within 2%: the rules are exact.
    assert found.flops_per_sample == own


def test_a_chain_of_dense_layers_has_the_flops_of_the_products() -> None:
    model = MODELS["dense"]()
    found, own = counted(model)
    assert found.flops_per_sample == own == roofline.step_flops([(7, 5), (5, 3)], 1)


def test_the_flops_of_a_sample_do_not_depend_on_the_batch() -> None:
    few, many = (counted(MODELS["convolutions"](), batch)[0] for batch in (3, 8))
    assert few == many


def test_precision_and_optimizer_change_no_product() -> None:
    import keras

    before = keras.config.dtype_policy().name
    found, own = counted(MODELS["convolutions"](), optimizer="adam", metrics=["mae"])
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half, _ = counted(MODELS["convolutions"]())
    finally:
        keras.config.set_dtype_policy(before)
    assert found.flops_per_sample == half.flops_per_sample == own


def test_recurrent_layers_are_lowered_as_loops_on_every_device() -> None:
    import keras

    seen: list[Any] = []

    class Watched(keras.layers.LSTM):
        def call(self, sequences: Any, initial_state: Any = None, mask: Any = None) -> Any:
            seen.append(self.use_cudnn)
            return super().call(sequences, initial_state, mask)

    layer = Watched(3)
    model = chain((4, 2), layer)
    seen.clear()
    counted(model)
    assert set(seen) == {False}
    assert layer.use_cudnn == "auto"


def test_a_layer_that_computes_more_than_it_should_is_told() -> None:
    found, own = counted(twice())
    assert found.flops_per_sample == 296
    assert own == 184
    (warning,) = map(read, found.warnings)
    assert warning.kind is Kind.NO_ROOFLINE
    assert warning.words == "296 FLOPs a sample in the lowered step, 184 by its layers"


def test_padding_of_a_dilated_convolution_is_told() -> None:
    import keras

    # TensorFlow pads its input before an ordinary convolution, which cannot be seen to meet zeros.
    layer = keras.layers.Conv2D(2, 3, dilation_rate=2, padding="same")
    found, own = counted(chain((12, 12, 3), layer))
    assert own is not None
    assert found.flops_per_sample > 1.02 * own
    assert found.warnings


def test_a_layer_without_a_rule_is_counted_and_not_checked() -> None:
    found, own = counted(own_products())
    assert own is None
    assert found.warnings == ()
    assert found.flops_per_sample == roofline.step_flops([(7, 4), (4, 3)], 1)


def test_a_layer_that_is_called_otherwise_is_counted_and_not_checked() -> None:
    import keras

    class Folded(keras.layers.Conv2D):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.input_spec = None

        def build(self, shape: Any) -> None:
            super().build((None, 4, 4, 1))
            self.input_spec = None

        def call(self, inputs: Any) -> Any:
            image = keras.ops.reshape(inputs, (-1, 4, 4, 1))
            return keras.ops.reshape(super().call(image), (-1, 18))

        def compute_output_shape(self, shape: Any) -> Any:
            return (None, 18)

    found, own = counted(chain((16,), Folded()))
    assert own is None
    assert found.warnings == ()
    assert found.flops_per_sample == 2 * 2 * (9 * 4 * 2)


def in_a_loop(dynamic: bool) -> Any:
    """A layer whose own loop multiplies five times, or as often as its input says."""
    import keras
    import tensorflow as tf

    class Powers(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

        def call(self, inputs: Any) -> Any:
            turns = tf.cast(tf.reduce_sum(inputs), tf.int32) if dynamic else 5
            kernel = tf.stop_gradient(tf.convert_to_tensor(self.kernel))
            _, powers = tf.while_loop(
                lambda turn, _: turn < turns,
                lambda turn, x: (turn + 1, x @ kernel),
                (tf.constant(0), tf.stop_gradient(inputs)),
                maximum_iterations=None if dynamic else 9,
            )
            return powers + inputs

    return chain((6,), keras.layers.Dense(6), Powers())


def test_the_turns_of_a_loop_are_found() -> None:
    found, _ = counted(in_a_loop(dynamic=False))
    assert found.flops_per_sample == 2 * 2 * 6 * 6 + 5 * 2 * 6 * 6


def test_a_loop_of_unknown_turns_gives_no_count_and_a_reason() -> None:
    found, _ = counted(in_a_loop(dynamic=True))
    assert found.flops_per_sample is None
    (told,) = found.warnings
    assert told.startswith("no roofline: the step's FLOPs are not known: a loop has an unknown")


def test_a_step_that_xla_cannot_lower_gives_no_count_and_a_reason() -> None:
    import keras
    import tensorflow as tf

    class Printed(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            text = tf.strings.as_string(inputs)
            return inputs + tf.strings.to_number(text)

    model = chain((7,), keras.layers.Dense(3), Printed())
    found, _ = counted(model, jit_compile=False)
    assert found.flops_per_sample is None
    (told,) = found.warnings
    assert "AsString" in told
    assert "\n" not in told


def test_counting_changes_nothing() -> None:
    import keras
    import tensorflow as tf

    from bench.worker.tensorflow.step_flops import step_flops
    from fmnist_models.arrays import Arrays
    from fmnist_models.loops import LOOPS, compile_model
    from fmnist_models.loops.base import Work, state_variables

    model = chain((8,), keras.layers.Dropout(0.5), keras.layers.Dense(10, "softmax"))
    compile_model(model, keras.optimizers.Adam(), "fit")
    x, y = np.ones((32, 8), np.float32), np.zeros(32, np.int32)
    loop = LOOPS["fit"](Work(model, Arrays(x, y), 16, seed=0))
    loop.warm_up()
    before = [np.array(each) for each in [*state_variables(model), *model.metrics_variables]]
    traces, drawn = loop.traces, random.getstate()
    tf.random.set_seed(5)
    expected = tf.random.uniform(()).numpy(), tf.random.uniform(()).numpy()
    tf.random.set_seed(5)
    assert tf.random.uniform(()).numpy() == expected[0]

    found = step_flops(model, loop.watch.step, (tf.constant(x[:16]), tf.constant(y[:16])))

    assert found.flops_per_sample == 2 * 2 * 8 * 10
    assert tf.random.uniform(()).numpy() == expected[1]
    assert loop.traces == traces
    assert drawn == random.getstate()
    after = [np.array(each) for each in [*state_variables(model), *model.metrics_variables]]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
