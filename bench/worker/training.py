"""Builds the model of a case, and tests that it trains in the case's precision.

Only modules of the worker import this one, because it imports TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras
import tensorflow as tf

from bench.machine.loaded import loaded_files
from bench.schema.case import Case
from bench.schema.errors import Invalid
from bench.worker.precision import Computed, computed, declared, products_of, refuse_declared
from bench.worker.tensorflow.device import TensorFlowDevice
from fmnist_models import architectures, optimizers
from fmnist_models.dataset import TrainingData
from fmnist_models.loops import compile_model
from fmnist_models.loops.base import Loop, Work
from fmnist_models.loops.watch import layers_of

_NO_PROBABILITIES = (
    "the model's outputs are no probabilities, which its loss takes them for: end it with softmax"
)


@dataclass(frozen=True, slots=True)
class Built:
    """The work of a case.

    Attributes:
        work: the model, compiled for the case's loop, with its training data.
        data: all images, in the model's input shape.
        left_policy: the dtype policy that was set when the builder returned; None where it is the
            case's.
        warnings: the warnings for the row.
    """

    work: Work
    data: TrainingData
    left_policy: str | None
    warnings: list[str]


def built_work(case: Case, seed: int, data: TrainingData, device: TensorFlowDevice) -> Built:
    """Build and compile the model of a case, and give it its training data.

    The dtype policy and floatx are set before the builder is called, and again after it.

    Raises:
        Invalid: a layer does not have the precision of the case, or the builder switched TF32 or
            automatic mixed precision.
        UserError: the model cannot be built, or not be compiled for the loop.
    """
    name = keras_policy(case.precision)
    _set_precision(name)
    keras.utils.set_random_seed(seed)
    model = architectures.build(case.model)
    left = keras.config.dtype_policy().name
    _set_precision(name)
    refuse_settings(case.precision)
    if architectures.input_shape(model) == (architectures.PIXELS,):
        data = data.flat()
    policy = keras.dtype_policies.get(name)
    refuse_declared(
        declared(layers_of(model)), policy.compute_dtype, policy.variable_dtype, case.precision
    )
    # Computes the digest now: an edit of the file during the launch affects only the next launch.
    optimizer = optimizers.create(case.optimizer)
    loaded_files(case.own)
    warnings = compile_model(model, optimizer, case.loop)
    if _has_the_documented_loss(model) and not architectures.makes_probabilities(model):
        warnings.append(_NO_PROBABILITIES)
    work = Work(
        model,
        data.train_x,
        data.train_y,
        case.batch_size,
        seed,
        device=device.name,
        pixels=data.train_pixels,
    )
    return Built(work, data, left if left != name else None, warnings)


def _has_the_documented_loss(model: keras.Model) -> bool:
    own = type(model)
    return (own.train_step, own.compute_loss, own.compile) == (
        keras.Model.train_step,
        keras.Model.compute_loss,
        keras.Model.compile,
    )


def _set_precision(policy: str) -> None:
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


def refuse_settings(precision: str) -> None:
    """Refuse TensorFlow settings that change the precision of the case.

    Raises:
        Invalid: the model's code switched TF32 or automatic mixed precision.
    """
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    if tf32 != (precision == "tf32"):
        raise Invalid(
            f"the model's code turned TF32 {'on' if tf32 else 'off'} in a {precision} case: leave "
            "enable_tensor_float_32_execution out"
        )
    options = tf.config.optimizer.get_experimental_options()
    # There are three options: one for CUDA, and an older and a newer one for oneDNN.
    turned_on = [name for name, on in options.items() if "auto_mixed_precision" in name and on]
    if turned_on:
        raise Invalid(
            f"the model's code turned on {turned_on[0]}, which makes another precision than "
            f"{precision} of its operations: leave it out"
        )


def check_precision(case: Case, loop: Loop, left_policy: str | None = None) -> Computed:
    """The precision of the traced step of a loop, after a test that it is the case's.

    Args:
        case: the case.
        loop: its loop, after the warm-up.
        left_policy: the dtype policy that the builder left, where it is not the case's.

    Raises:
        Invalid: the step is not in the precision of the case, or lacks the loss scaling that
            mixed_float16 needs.
    """
    model, watch = loop.work.model, loop.watch
    policy = keras.dtype_policies.get(keras_policy(case.precision))
    products = [product for traced in watch.traced for product in products_of(traced)]
    layers = declared(layers_of(model))
    try:
        found = computed(products, layers, policy.compute_dtype, case.precision)
    except Invalid as error:
        if left_policy is None:
            raise
        raise Invalid(
            f"{error}; the builder left the dtype policy {left_policy} (clear_session forgets it)"
        ) from error
    if case.precision == "mixed_float16" and not (
        hasattr(model.optimizer, "inner_optimizer") and watch.scales
    ):
        raise Invalid(
            "the loss is not scaled, which mixed_float16 needs: a train_step of the model's own "
            "takes the gradients of self.optimizer.scale_loss(loss), and its compile() leaves "
            "auto_scale_loss on"
        )
    if watch.eager:
        told = "the step runs eagerly: its precision is what its layers say"
        found = replace(found, warnings=(*found.warnings, told))
    return found


def keras_policy(precision: str) -> str:
    """The Keras dtype policy of a precision; TF32 is float32 to Keras."""
    return "float32" if precision == "tf32" else precision
