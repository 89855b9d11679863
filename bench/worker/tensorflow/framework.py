"""TensorFlow, as the worker needs it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import keras
import tensorflow as tf
from numpy.typing import NDArray

from bench.schema.errors import Invalid
from bench.worker.counting import Counted
from bench.worker.framework import Device, Framework
from bench.worker.precision import Product
from bench.worker.tensorflow.device import TensorFlowDevice
from bench.worker.tensorflow.peaks import TensorFlowPeaks
from bench.worker.tensorflow.per_replica import per_replica
from bench.worker.tensorflow.products import products_of
from bench.worker.tensorflow.step_flops import step_flops
from bench.worker.tensorflow.variants import TensorFlowParts
from bench.worker.tensorflow.waiting import first_batch, waiting_of
from bench.worker.variants import Variants
from fmnist_models.loops.base import Loop, Work
from fmnist_models.loops.tensorflow.watch import TensorFlowWatch
from fmnist_models.loops.watch import StepWatch, layers_of
from fmnist_models.replicas import ONE, Replicas


class TensorFlow(Framework):
    """What the worker needs of TensorFlow."""

    def device(self, device: str, precision: str, replicas: Replicas = ONE) -> TensorFlowDevice:
        """A device, as a case spells it, for the precision of a case; or that of each replica."""
        return TensorFlowDevice(tf, device, precision, replicas=replicas)

    def refuse_settings(self, precision: str) -> None:
        """Refuse settings of TensorFlow that change the precision of the case.

        Raises:
            Invalid: the model's code switched TF32 or automatic mixed precision.
        """
        tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
        if tf32 != (precision == "tf32"):
            raise Invalid(
                f"the model's code turned TF32 {'on' if tf32 else 'off'} in a {precision} case: "
                "leave enable_tensor_float_32_execution out"
            )
        options = tf.config.optimizer.get_experimental_options()
        # There are three options: one for CUDA, and an older and a newer one for oneDNN.
        turned_on = [name for name, on in options.items() if "auto_mixed_precision" in name and on]
        if turned_on:
            raise Invalid(
                f"the model's code turned on {turned_on[0]}, which makes another precision than "
                f"{precision} of its operations: leave it out"
            )

    def per_replica(self, work: Work) -> list[str]:
        """What is computed for each replica alone, and not for the whole batch, as warnings.

        Raises:
            Unsupported: a variable of the model is not on all replicas.
        """
        return per_replica(work)

    def apart(self, work: Work) -> list[str]:
        """The update of an `Embedding`, where an optimizer squares its gradients.

        TensorFlow gives a gradient for each occurrence of an index, and Keras squares them before
        it adds them (results/evidence, parity.csv). SGD squares nothing.
        """
        optimizer = work.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        embeds = any(
            isinstance(layer, keras.layers.Embedding) and layer.trainable
            for layer in layers_of(work.model)
        )
        if not embeds or isinstance(optimizer, keras.optimizers.SGD):
            return []
        kind = type(optimizer).__name__
        return [f"{kind} updates an Embedding otherwise with TensorFlow than with JAX and PyTorch"]

    def products(self, watch: StepWatch) -> list[Product]:
        """The matrix products and convolutions of every trace of a watched step."""
        traced = cast("TensorFlowWatch", watch).traced
        return [product for trace in traced for product in products_of(trace)]

    def step_flops(self, work: Work, loop: Loop) -> Counted:
        """The FLOPs of a step of `work`, which is lowered once more; nothing is run."""
        return step_flops(work.model, loop.watch.step, first_batch(work))

    def waiting_of(self, work: Work, device: Device) -> dict[str, Any]:
        """`waiting_share` and `resident_step_s` of a record; empty for data in memory."""
        return waiting_of(work, device)

    def peaks(self, images: NDArray[Any], dtype: str) -> TensorFlowPeaks:
        """What ceilings are measured with."""
        return TensorFlowPeaks(images, dtype)

    def parts(self, work: Work, loop: str, device: Device) -> Variants:
        """The variants of a case's step."""
        return Variants(work, loop, device, TensorFlowParts)

    def naming(self, model: keras.Model) -> AbstractContextManager[None]:
        """Nothing: operations have the names of Keras's scopes."""
        return nullcontext()

    @contextmanager
    def tracing(self, folder: Path) -> Iterator[None]:
        """Run TensorFlow's profiler: operations of the host, kernels and copies of a GPU."""
        options = tf.profiler.experimental.ProfilerOptions(
            host_tracer_level=2, python_tracer_level=0, device_tracer_level=1
        )
        tf.profiler.experimental.start(str(folder), options)
        try:
            yield
        finally:
            tf.profiler.experimental.stop()
            for file in folder.glob("plugins/profile/*/*.xplane.pb"):
                # TensorFlow names the file after the host, which must not be published.
                shutil.move(file, folder / "host.xplane.pb")

    def named_in_trace(self, name: str) -> AbstractContextManager[Any]:
        """The context whose work has a name in the profiler's trace."""
        context: AbstractContextManager[Any] = tf.profiler.experimental.Trace(name)
        return context


FRAMEWORK = TensorFlow()
