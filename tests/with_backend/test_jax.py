"""The loops with JAX, and what is JAX's own."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import keras
import numpy as np
import pytest
from support.backends import few_images, own, request
from support.loops import Recorder
from support.own_step_jax import OwnStep

from bench.schema.errors import Invalid
from bench.worker import network
from bench.worker.framework import framework
from bench.worker.jax import probe, products
from bench.worker.jax.peaks import JaxPeaks
from fmnist_models import dataset
from fmnist_models.loops import LOOPS
from fmnist_models.loops.jax.compiled import _scaled


def test_bytes_become_what_a_division_gives() -> None:
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(np.asarray(jax.jit(_scaled)(every)), dataset.scaled(every))


class InAnotherWay(OwnStep):
    """A step whose layers see one sample, or a part of the batch, at a time; all are trained."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self._way = way

    def train_step(self, state: Any, data: Any) -> Any:
        trainable, fixed, slots, metrics = state
        x, y = data

        def loss_of(weights: Any, x: Any, y: Any) -> Any:
            logits, _ = self.stateless_call(weights, fixed, x)
            losses = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
            return keras.ops.mean(losses)

        grad = jax.grad(loss_of)
        if self._way == "vmap":
            each = jax.vmap(lambda x, y: grad(trainable, x[None], y[None]))(x, y)
            gradients = jax.tree.map(lambda g: g.mean(0), each)
        elif self._way == "scan":
            parts = (x.reshape(2, -1, 28, 28), y.reshape(2, -1))

            def turn(total: Any, part: Any) -> Any:
                """Add the gradients of a part."""
                return jax.tree.map(jax.numpy.add, total, grad(trainable, *part)), None

            zeros = jax.tree.map(jax.numpy.zeros_like, trainable)
            gradients, _ = jax.lax.scan(turn, zeros, parts)
        else:
            self._jitted = getattr(self, "_jitted", jax.jit(grad))
            gradients = self._jitted(trainable, x, y)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        # A tuple, where Keras's own step returns lists.
        return {"own": y[0]}, (tuple(trainable), fixed, slots, metrics)


@pytest.mark.parametrize("name", ["fit", "compiled"])
@pytest.mark.parametrize("way", ["vmap", "scan", "jit"])
def test_rows_that_cannot_be_counted_are_not_said_to_be_fewer(name: str, way: str) -> None:
    loop = own(partial(InAnotherWay, way), name, samples=512)
    loop.warm_up()
    loop.watch.count_from_here()
    loop.train(Recorder(1), 1)
    assert loop.watch.given() == (2, 512)
    assert loop.watch.rows() in (None, 512)


def test_something_compiled_inside_a_round_voids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = LOOPS["compiled"]
    run = compiled._run  # type: ignore[attr-defined]

    def wasteful(loop: Any, epoch: int) -> Any:
        """Compile something new in every epoch."""
        jax.jit(lambda x: x + epoch)(1.0)
        return run(loop, epoch)

    monkeypatch.setattr(compiled, "_run", wasteful)
    with pytest.raises(Invalid, match="round 1 traced the training step again"):
        network.measure_network(request("compiled"), few_images(), lambda _: None, None)


def test_convolutions_are_counted() -> None:
    def convolved(x: Any, kernel: Any) -> Any:
        """A convolution of 3 x 3 from 4 to 8 channels."""
        return jax.lax.conv(x, kernel, (1, 1), "SAME")

    forms = (jax.ShapeDtypeStruct(s, "float32") for s in ((2, 4, 5, 5), (8, 4, 3, 3)))
    (found,) = products.products_of(convolved, *forms)
    assert found.flops == 2 * (2 * 8 * 5 * 5) * (4 * 3 * 3)


def test_the_products_of_an_epoch_of_one_partial_batch_are_computed() -> None:
    images = np.ones((3, 4), np.float32)
    found = JaxPeaks(images, "float32").epoch(((4, 2),), 8, "xla")()
    # A weight's gradient of the whole loop, which is not run, and of the partial batch.
    assert [np.shape(gradient) for gradient in found] == [(4, 2), (4, 2)]
    assert np.asarray(found[0]).max() == 0
    assert np.asarray(found[1]).min() > 0


def test_settings_that_change_the_precision_are_refused() -> None:
    framework().device("cpu", "float32")
    framework().refuse_settings("float32")
    with jax.default_matmul_precision("tensorfloat32"), pytest.raises(Invalid, match="leave it"):
        framework().refuse_settings("float32")
    with jax.enable_x64(True), pytest.raises(Invalid, match="jax_enable_x64"):
        framework().refuse_settings("float32")


def test_other_accelerators_are_named_by_their_plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX itself sees only the devices of the case."""
    assert probe.PROBED("cpu").versions()["others"] == []
    there = [SimpleNamespace(name=name) for name in ("xla_cuda12", "xla_rocm7")]
    monkeypatch.setattr(probe, "entry_points", lambda group: there)
    assert probe.PROBED("cpu").versions()["others"] == ["plug-in xla_rocm7"]


def test_a_layer_within_a_loop_is_counted_and_not_checked() -> None:
    """Its body is traced for one turn, which the layers' own count would take for all."""
    from bench.worker.jax.step_flops import step_flops
    from fmnist_models.loops.jax.state import state_of

    class Cell(keras.layers.Layer):
        state_size = output_size = 3

        def build(self, shape: Any) -> None:
            self.dense = keras.layers.Dense(3)
            self.dense.build((None, shape[-1] + 3))

        def call(self, x: Any, states: Any) -> Any:
            new = self.dense(keras.ops.concatenate([x, states[0]], -1))
            return new, [new]

    model = keras.Sequential([keras.Input((7, 2)), keras.layers.RNN(Cell())])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 7, 2), np.float32), np.ones((4, 3), np.float32)
    model.train_on_batch(x, y)
    found = step_flops(model, model.train_step, state_of(model), (x, y))
    assert found.warnings == ()
    assert found.flops_per_sample == 7 * 3 * 2 * 5 * 3
