"""`compiled`: a whole epoch as one XLA call over data that stays on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from fmnist_models.loops.base import Loop, Observer, Work


class CompiledLoop(Loop):
    """Trains each epoch in one XLA-compiled call.

    The steps are the model's own `train_step`, so that whatever `fit` trains (extra
    losses, metrics, batch normalization, dropout, loss scaling, an overridden step)
    trains here, with any Keras model and optimizer. What is gone is everything between
    the steps: Python, dispatch and the input pipeline.
    """

    name = "compiled"
    compile_arguments: ClassVar[Mapping[str, Any]] = {"jit_compile": True}

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        with tf.device(work.device):
            self._x = tf.constant(work.x)
            self._y = tf.constant(work.y)
        self._epoch = tf.function(self._whole_epoch, jit_compile=True, autograph=False)

    @property
    def resident(self) -> tuple[Any, ...]:
        """The training images and labels."""
        return (self._x, self._y)

    def _whole_epoch(self, x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> Any:
        batch_size = self.work.batch_size
        full, rest = divmod(self.work.samples, batch_size)

        def train_on(rows: tf.Tensor) -> None:
            self.work.model.train_step((tf.gather(x, rows), tf.gather(y, rows)))

        def body(step: tf.Tensor) -> tuple[tf.Tensor]:
            train_on(tf.slice(order, [step * batch_size], [batch_size]))
            return (step + 1,)

        if full:
            tf.while_loop(lambda step: step < full, body, (tf.constant(0),))
        if rest:
            train_on(order[full * batch_size :])
        return self.work.model.get_metrics_result()

    def _run(self, epoch: int) -> Any:
        """Draw the epoch's order and train on it; returns metrics still on the device."""
        order = np.arange(self.work.samples, dtype=np.int32)
        if self.work.shuffle:
            np.random.default_rng((self.work.seed, epoch)).shuffle(order)
        with tf.device(self.work.device):
            return self._epoch(self._x, self._y, tf.constant(order))

    def _exercise(self) -> None:
        self._run(0)

    def _train(self, observer: Observer, max_epochs: int) -> None:
        for epoch in range(max_epochs):
            self.work.model.reset_metrics()
            observer.window_opens()
            metrics = self._run(epoch)
            observer.window_closes()
            if not observer.epoch_ends({name: float(v) for name, v in metrics.items()}):
                break
