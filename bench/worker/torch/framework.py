"""PyTorch, as the worker needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import keras
import torch
from numpy.typing import NDArray

from bench.schema.errors import Invalid
from bench.schema.requests import TORCH_TRACE
from bench.worker.counting import Counted, uncounted
from bench.worker.drawing import drawing
from bench.worker.framework import Device, Framework
from bench.worker.precision import Product
from bench.worker.torch.device import TorchDevice
from bench.worker.torch.naming import naming
from bench.worker.torch.peaks import TorchPeaks
from bench.worker.torch.products import Uncountable, products_of, step_flops
from bench.worker.torch.variants import TorchParts
from bench.worker.torch.waiting import waiting_of
from bench.worker.variants import Variants
from fmnist_models.loops.base import Loop, Work
from fmnist_models.loops.torch.watch import TorchWatch
from fmnist_models.loops.watch import StepWatch, layers_of
from fmnist_models.replicas import ONE, Replicas


class Torch(Framework):
    """What the worker needs of PyTorch."""

    def device(self, device: str, precision: str, replicas: Replicas = ONE) -> TorchDevice:
        """A device, as a case spells it, for the precision of a case."""
        self._device = TorchDevice(torch, device, precision, replicas)
        return self._device

    def refuse_settings(self, precision: str) -> None:
        """Refuse settings of PyTorch that change the precision of the case.

        Raises:
            Invalid: the model's code switched the default dtype, automatic mixed precision, or the
                precision of float32 products or convolutions.
        """
        if torch.get_default_dtype() != torch.float32:
            raise Invalid(f"the model's code set the default dtype {torch.get_default_dtype()}")
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            raise Invalid(
                "the model's code left torch.autocast on: name --precisions mixed_bfloat16 or "
                "mixed_float16 in its place"
            )
        try:
            found, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        except RuntimeError as error:
            # PyTorch's newer switch no longer agrees with those that the device has set.
            raise Invalid(
                "the model's code set fp32_precision of torch.backends: leave it out"
            ) from error
        wanted = self._device.products
        if found != wanted:
            raise Invalid(
                f"the model's code set the precision of float32 products to {found!r}, and a "
                f"{precision} case has {wanted!r}: leave set_float32_matmul_precision out"
            )
        if tf32 != (precision == "tf32"):
            raise Invalid(
                f"the model's code turned TF32 of convolutions {'on' if tf32 else 'off'} in a "
                f"{precision} case: leave torch.backends.cudnn.allow_tf32 out"
            )

    def per_replica(self, work: Work) -> list[str]:
        """What is computed for each replica alone, and not for the whole batch, as warnings."""
        told = []
        if found := [layer.name for layer in layers_of(work.model) if _has_statistics(layer)]:
            told.append(
                f"{', '.join(found)}: each replica normalizes by the statistics of its own part of "
                "a batch, and the moving ones are those of the first replica, as "
                "DistributedDataParallel has it"
            )
        if names := drawing(work.model):
            # The process of each is seeded by its rank (`TorchCompiledLoop`).
            told.append(
                f"{', '.join(names)}: each replica draws random numbers of its own for its part of "
                "a batch, which are others than one draws for the whole"
            )
        return told

    def apart(self, work: Work) -> list[str]:
        """Nothing that is known."""
        return []

    def products(self, watch: StepWatch) -> list[Product]:
        """The matrix products and convolutions of a step on each number of rows it was given."""
        seen = cast("TorchWatch", watch)
        try:
            every = [products_of(seen.model, seen.step, data) for data in seen.seen.values()]
        except Uncountable:
            return []
        return [product for found in every for product in found.products]

    def step_flops(self, work: Work, loop: Loop) -> Counted:
        """The FLOPs of a step of `work`, which is run once more; the model is restored."""
        watch = cast("TorchWatch", loop.watch)
        if not watch.seen:
            return uncounted("it was compiled as a whole")
        rows = max(watch.seen)
        return step_flops(watch.model, watch.step, watch.seen[rows], rows)

    def waiting_of(self, work: Work, device: Device) -> dict[str, Any]:
        """`waiting_share` and `resident_step_s` of a record; empty for data in memory."""
        return waiting_of(work, device)

    def peaks(self, images: NDArray[Any], dtype: str) -> TorchPeaks:
        """What ceilings are measured with."""
        return TorchPeaks(images, dtype)

    def parts(self, work: Work, loop: str, device: Device) -> Variants:
        """The variants of a case's step."""
        return Variants(work, loop, device, TorchParts)

    def naming(self, model: keras.Model) -> AbstractContextManager[None]:
        """Annotate layers, loss, metrics and the update."""
        return naming(model)

    @contextmanager
    def tracing(self, folder: Path) -> Iterator[None]:
        """Run PyTorch's profiler: operations of the host, kernels and copies of a GPU."""
        # The shapes tell the FLOPs of a product.
        with torch.profiler.profile(record_shapes=True) as profiler:
            yield
        folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(folder / TORCH_TRACE))

    def named_in_trace(self, name: str) -> AbstractContextManager[Any]:
        """The context whose work has a name in the profiler's trace."""
        context: AbstractContextManager[Any] = torch.profiler.record_function(name)
        return context


def _has_statistics(layer: keras.layers.Layer) -> bool:
    """Whether it normalizes by the mean and variance of a batch, itself or by a module in it."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return bool(layer.trainable)
    inner = [m for m in layer.children() if not isinstance(m, keras.layers.Layer)]
    kind = torch.nn.modules.batchnorm._BatchNorm
    return any(isinstance(part, kind) for module in inner for part in module.modules())


FRAMEWORK = Torch()
