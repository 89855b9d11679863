"""JAX, as the worker needs it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import jax
import keras
from numpy.typing import NDArray

from bench.analysis.trace_events import STEP_TRACED
from bench.schema.errors import Invalid
from bench.worker.counting import Counted, uncounted
from bench.worker.framework import Device, Framework
from bench.worker.jax.device import JaxDevice
from bench.worker.jax.peaks import JaxPeaks
from bench.worker.jax.products import products_of
from bench.worker.jax.step_flops import step_flops
from bench.worker.jax.variants import JaxParts
from bench.worker.jax.waiting import waiting_of
from bench.worker.precision import Product
from bench.worker.variants import Variants
from fmnist_models.loops.base import Loop, Work
from fmnist_models.loops.jax.watch import JaxWatch
from fmnist_models.loops.watch import StepWatch, standing_in
from fmnist_models.replicas import ONE, Replicas


class Jax(Framework):
    """What the worker needs of JAX."""

    def device(self, device: str, precision: str, replicas: Replicas = ONE) -> JaxDevice:
        """A device, as a case spells it, for the precision of a case."""
        self._device = JaxDevice(jax, device, precision, replicas=replicas)
        return self._device

    def refuse_settings(self, precision: str) -> None:
        """Refuse settings of JAX that change the precision of the case.

        Raises:
            Invalid: the model's code switched 64 bits, or the precision of float32 products.
        """
        if jax.config.jax_enable_x64:
            raise Invalid("the model's code turned on jax_enable_x64: leave it out")
        found, wanted = jax.config.jax_default_matmul_precision, self._device.products
        if found != wanted:
            raise Invalid(
                f"the model's code set jax_default_matmul_precision to {found!r}, and a "
                f"{precision} case has {wanted!r}: leave it out"
            )

    def per_replica(self, work: Work) -> list[str]:
        """What is computed for each replica alone, and not for the whole batch, as warnings."""
        return []

    def apart(self, work: Work) -> list[str]:
        """Nothing that is known."""
        return []

    def products(self, watch: StepWatch) -> list[Product]:
        """The matrix products and convolutions of every trace of a watched step."""
        traced = {repr(forms): forms for forms in cast("JaxWatch", watch).traced}
        return [p for forms in traced.values() for p in products_of(watch.step, *forms)]

    def step_flops(self, work: Work, loop: Loop) -> Counted:
        """The FLOPs of a step of `work`, which is lowered once more; nothing is run."""
        traced = cast("JaxWatch", loop.watch).traced
        if not traced:
            return uncounted("it runs eagerly")
        state, data = max(traced, key=lambda forms: _rows(forms[1]))
        return step_flops(work.model, loop.watch.step, state, data)

    def waiting_of(self, work: Work, device: Device) -> dict[str, Any]:
        """`waiting_share` and `resident_step_s` of a record; empty for data in memory."""
        return waiting_of(work, device)

    def peaks(self, images: NDArray[Any], dtype: str) -> JaxPeaks:
        """What ceilings are measured with."""
        return JaxPeaks(images, dtype)

    def parts(self, work: Work, loop: str, device: Device) -> Variants:
        """The variants of a case's step."""
        return Variants(work, loop, device, JaxParts)

    @contextmanager
    def naming(self, model: keras.Model) -> Iterator[None]:
        """Annotate the traces of the step; its operations have the names of Keras's scopes.

        What is compiled within the context has a name of its own, by which a trace tells it from
        the programs of other steps.
        """
        step = model.train_step

        def traced(state: Any, data: Any) -> Any:
            """A trace of the step."""
            with jax.profiler.TraceAnnotation(STEP_TRACED):
                return step(state, data)

        traced.__name__ = f"named_{step.__name__}"
        model.train_function = None
        with standing_in(model, "train_step", traced):
            yield

    @contextmanager
    def tracing(self, folder: Path) -> Iterator[None]:
        """Run JAX's profiler: operations of the host, kernels and copies of a GPU."""
        options = jax.profiler.ProfileOptions()
        options.host_tracer_level, options.python_tracer_level = 2, 0
        options.device_tracer_level = 1
        jax.profiler.start_trace(str(folder), profiler_options=options)
        try:
            yield
        finally:
            jax.profiler.stop_trace()
            for file in folder.glob("plugins/profile/*/*.xplane.pb"):
                # JAX names the file after the host, which must not be published.
                shutil.move(file, folder / "host.xplane.pb")

    def named_in_trace(self, name: str) -> AbstractContextManager[Any]:
        """The context whose work has a name in the profiler's trace."""
        context: AbstractContextManager[Any] = jax.profiler.TraceAnnotation(name)
        return context


def _rows(data: Any) -> int:
    return int(jax.tree.leaves(data)[0].shape[0])


FRAMEWORK = Jax()
