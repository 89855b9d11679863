"""Builds the model of a case, and tests that it trains in the case's precision.

Only modules of the worker import this one, because it imports Keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import keras

from bench.machine import hardware
from bench.machine.loaded import loaded_files
from bench.schema.case import Case
from bench.schema.errors import Invalid, Unavailable
from bench.schema.requests import LaunchRequest, ProfileRequest
from bench.worker.digests import digest_of_data
from bench.worker.framework import Device, framework
from bench.worker.precision import Computed, computed, declared, keras_policy, refuse_declared
from fmnist_models import architectures, optimizers
from fmnist_models.architectures import NETWORKS
from fmnist_models.arrays import Arrays, refuse_too_large
from fmnist_models.data import Data, of_rounds
from fmnist_models.dataset import TrainingData
from fmnist_models.errors import UserError
from fmnist_models.loops import compile_model, keep_compiled
from fmnist_models.loops.base import Loop, Work
from fmnist_models.loops.framework import set_random_seed
from fmnist_models.loops.start import the_same_weights
from fmnist_models.loops.watch import layers_of
from fmnist_models.own import raised, remedy
from fmnist_models.stream import Stream
from fmnist_models.task import Task, task_of

_NO_PROBABILITIES = (
    "the model's outputs are no probabilities, which its loss takes them for: end it with softmax"
)


@dataclass(frozen=True, slots=True)
class Built:
    """The work of a case.

    Attributes:
        task: the model with what judges it.
        work: the model, compiled for the case's loop, with its training data.
        validation, test: the data of the evaluations; None where there are none.
        data_digest: digest of all data; `unknown` where a part of them is a stream.
        left_policy: the dtype policy that was set when the builder returned; None where it is the
            case's.
        warnings: the warnings for the row.
    """

    task: Task
    work: Work
    validation: Data | None
    test: Data | None
    data_digest: str
    left_policy: str | None
    warnings: list[str]


def built_work(
    request: LaunchRequest | ProfileRequest, images: TrainingData, device: Device
) -> Built:
    """Build and compile the model of a request's case, and give it its training data.

    The dtype policy and floatx are set before the builder is called, and again after it.

    Raises:
        Invalid: a layer does not have the precision of the case, or the builder switched TF32 or
            automatic mixed precision.
        UserError: the model cannot be built, or not be compiled for the loop, or its data cannot
            be used.
    """
    case = request.case
    name = keras_policy(case.precision)
    _set_precision(name)
    set_random_seed(request.seed)
    with _start_of(request):
        task = task_of(case.model)
    model = task.model
    left = keras.config.dtype_policy().name
    _set_precision(name)
    framework().refuse_settings(case.precision)
    _refuse_optimizer(case, compiled=task.compiled)
    with _start_of(request):
        # The data's first rows build a model that is not built yet.
        parts = task.data(images, case.batch_size, _free_bytes(request))
    data, warnings = _of_rounds(request, parts[0])
    policy = keras.dtype_policies.get(name)
    refuse_declared(
        declared(layers_of(model)), policy.compute_dtype, policy.variable_dtype, case.precision
    )
    if isinstance(data, Arrays):
        refuse_too_large(case.model, data.nbytes, *device.free_memory(case.loop))
    if task.compiled:
        keep_compiled(model, case.loop)
    else:
        optimizer = optimizers.create(case.optimizer)
        warnings += compile_model(model, optimizer, case.loop, task.loss, task.metrics)
    # Computes the digest now: an edit of the file during the launch affects only the next launch.
    loaded_files(case.own)
    if _has_the_documented_loss(task) and not architectures.makes_probabilities(model):
        warnings.append(_NO_PROBABILITIES)
    work = Work(
        model,
        data,
        case.batch_size,
        request.seed,
        device=device.name,
        class_weight=task.class_weight,
        callbacks=task.callbacks,
        one_call=isinstance(request, LaunchRequest) and request.one_call,
        replicas=request.replicas,
    )
    warnings += _apart(request, work)
    left_policy = left if left != name else None
    return Built(task, work, *parts[1:], digest_of_data(parts), left_policy, warnings)


def _apart(request: LaunchRequest | ProfileRequest, work: Work) -> list[str]:
    """Warnings of what is computed otherwise than by one replica, or by the other frameworks."""
    found = framework().per_replica(work) if request.replicas.spread else []
    if isinstance(request, LaunchRequest) and request.same_start:
        found += framework().apart(work)
    return found


def _start_of(request: LaunchRequest | ProfileRequest) -> AbstractContextManager[None]:
    """The context in which weights are drawn: the framework's own, or the same with all."""
    if isinstance(request, LaunchRequest) and request.same_start:
        return the_same_weights(request.seed)
    return nullcontext()


def _of_rounds(request: LaunchRequest | ProfileRequest, data: Data) -> tuple[Data, list[str]]:
    """The training data of a request's rounds, and warnings."""
    case = request.case
    data = of_rounds(case.model, data, request.steps, case.batch_size)
    if not (request.cache_stream and isinstance(data, Stream)):
        return data, []
    told = "the stream was read once: each epoch has the same samples"
    return data.cached(partial(_free_bytes, request)), [told]


def _free_bytes(request: LaunchRequest | ProfileRequest) -> int | None:
    """The free memory of the machine, of which each process of the replicas has a part."""
    return request.replicas.part_of(hardware.memory_available_bytes())


def _refuse_optimizer(case: Case, *, compiled: bool) -> None:
    if compiled and case.optimizer != optimizers.OWN:
        raise UserError(
            f"model {case.model!r} is compiled with an optimizer of its own: leave --optimizers "
            "out, or return the model uncompiled"
        )
    if not compiled and case.optimizer == optimizers.OWN:
        raise UserError(
            f"model {case.model!r} is not compiled, so it has no optimizer of its own: name one "
            "with --optimizers, or compile the model"
        )


def _has_the_documented_loss(task: Task) -> bool:
    own = type(task.model)
    return (
        task.images
        and not task.compiled
        and (own.train_step, own.compute_loss, own.compile)
        == (
            keras.Model.train_step,
            keras.Model.compute_loss,
            keras.Model.compile,
        )
    )


def _set_precision(policy: str) -> None:
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


@contextmanager
def named_errors(case: Case) -> Iterator[None]:
    """Name the user's own function in what its model, its data or its callbacks raise.

    Raises:
        UserError: an error that is not of the suite, in a case with functions of the user's own.
    """
    try:
        yield
    except (Invalid, Unavailable, UserError):
        raise
    except BaseException as error:
        if not case.own:
            raise
        own_model = case.model in case.own
        what = f"model {case.model!r}" if own_model else f"optimizer {case.optimizer!r}"
        raise UserError(f"{what}: its training {raised(error)}{remedy(error)}") from error


def warm_up(built: Built, loop: Loop) -> None:
    """Warm a loop up; an error in the model's own code or data is one line that names the model.

    Raises:
        UserError: the training step raised an error.
        Unsupported: XLA cannot compile it, and the loop requires it.
    """
    try:
        loop.warm_up()
    except UserError:
        raise
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        if built.task.name not in NETWORKS:
            raise UserError(
                f"model {built.task.name!r}: its first training step {raised(error)}: see that "
                "outputs, labels, loss and metrics fit together"
            ) from error
        raise


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
    products = framework().products(watch)
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
