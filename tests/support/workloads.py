"""Workloads of a user's own, small enough for tests."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fmnist_models import Synthetic, Workload

ROWS = 150
# The names that a callback of `scheduled` was told, by epoch.
SEEN: list[list[str]] = []


def _dense(features: int = 6, outputs: int = 3) -> Any:
    import keras

    return keras.Sequential(
        [keras.Input((features,)), keras.layers.Dense(outputs, activation="softmax")]
    )


def _points(rows: int = ROWS, features: int = 6) -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(rows, features)).astype(np.float32)
    return x, x[:, :3].argmax(axis=1)


def _classifier(**more: Any) -> Workload:
    given: dict[str, Any] = {"train": _points(), "validation": _points(), "model": _dense()}
    given |= {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    return Workload(**(given | more))


def plain() -> Workload:
    return _classifier()


def weighted() -> Workload:
    x, y = _points()
    return _classifier(train=(x, y, np.linspace(0, 2, len(x))))


def class_weighted() -> Workload:
    return _classifier(class_weight={0: 0.2, 2: 3.0})


def one_hot() -> Workload:
    x, y = _points()
    labels = np.eye(3, dtype=np.float32)[y]
    return _classifier(
        train=(x, labels),
        validation=(x, labels),
        loss="categorical_crossentropy",
        class_weight={0: 0.2, 2: 3.0},
    )


def ignoring() -> Workload:
    """Some labels stand for rows that the loss leaves out."""
    import keras

    x, y = _points()
    y[::4] = -1
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    return _classifier(train=(x, y), loss=loss)


def own_loss() -> Workload:
    """A loss of the model's own, of inputs alone."""
    import keras

    class Restores(keras.Model):
        def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
            assert y is None
            return keras.ops.mean((y_pred - x) ** 2)

    given = keras.Input((6,))
    model = Restores(given, keras.layers.Dense(6)(given))
    return Workload(model=model, train=_points()[0], score="loss", better="min")


def weighted_inputs() -> Workload:
    return _classifier(train=(_points()[0], None, np.linspace(0, 2, ROWS)))


def added_loss() -> Workload:
    """A compiled model whose loss its layer adds; the data are inputs alone."""
    import keras

    class Small(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(keras.ops.mean(x**2))
            return x

    given = keras.Input((6,))
    model = keras.Model(given, Small()(keras.layers.Dense(6)(given)))
    model.compile("sgd")
    return Workload(model=model, train=_points()[0], score="loss", better="min")


def fitted() -> Workload:
    """Its own function has trained the model already."""
    work = compiled_workload()
    work.model.fit(*_points(), epochs=1, verbose=0)
    return work


def branches() -> Workload:
    """Two inputs by name, one of them whole numbers; two outputs by name."""
    import keras

    layers = keras.layers
    numbers = keras.Input((4,), name="numbers")
    word = keras.Input((2,), dtype="int32", name="word")
    hidden = layers.Concatenate()([numbers, layers.Flatten()(layers.Embedding(9, 3)(word))])
    hidden = layers.Dense(8, activation="tanh")(hidden)
    kind = layers.Dense(3, activation="softmax", name="kind")(hidden)
    size = layers.Dense(1, name="size")(hidden)
    model = keras.Model({"numbers": numbers, "word": word}, {"kind": kind, "size": size})
    draw = np.random.default_rng(2)
    x = {"word": draw.integers(9, size=(ROWS, 2)), "numbers": draw.normal(size=(ROWS, 4))}
    y = {"size": x["numbers"].sum(axis=1, keepdims=True), "kind": x["word"][:, 0] % 3}
    return Workload(
        model=model,
        train=(x, y),
        validation=(x, y),
        loss={"kind": "sparse_categorical_crossentropy", "size": "mse"},
        metrics={"kind": ["accuracy"], "size": ["mae"]},
        score="size_mae",
        better="min",
        target=0.5,
    )


def bytes_in() -> Workload:
    """Inputs that stay bytes, which the model itself divides."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((5, 5, 1), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    x = np.random.default_rng(3).integers(0, 256, (ROWS, 5, 5, 1), dtype=np.uint8)
    return _classifier(model=model, train=(x, x.mean(axis=(1, 2, 3)) > 127), validation=None)


def scheduled() -> Workload:
    """A callback that changes the training between epochs, and one that wants to end it."""
    import keras

    class Ends(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            SEEN.append(sorted(logs))
            self.model.stop_training = True

    def rate(epoch: int, _: float) -> float:
        return 0.1 / (epoch + 1)

    return _classifier(callbacks=[keras.callbacks.LearningRateScheduler(rate), Ends()])


def each_batch() -> Workload:
    import keras

    class Counts(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen = batch

    return _classifier(callbacks=[Counts()])


def each_batch_by_lambda() -> Workload:
    import keras

    def seen(batch: int, logs: Any) -> None:
        """A call for a batch."""

    return _classifier(callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=seen)])


def own_step() -> Workload:
    """A step as Keras's guide teaches it, with a loss tracker of its own."""
    import keras
    import tensorflow as tf

    class Guide(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.tracker = keras.metrics.Mean(name="loss")
            self.mae = keras.metrics.MeanAbsoluteError(name="mae")

        def call(self, x: Any) -> Any:
            return self.dense(x)

        @property
        def metrics(self) -> list[Any]:
            return [self.tracker, self.mae]

        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = keras.losses.mean_squared_error(y, predicted)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            self.tracker.update_state(loss)
            self.mae.update_state(y, predicted)
            return {metric.name: metric.result() for metric in self.metrics}

        def test_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            self.mae.update_state(y, self(x, training=False))
            return {"mae": self.mae.result()}

    x, _ = _points()
    y = x.sum(axis=1, keepdims=True)
    return Workload(
        model=Guide(), train=(x, y), validation=(x, y), score="mae", better="min", batch_size=16
    )


def _inner_step(labels: Any, *, called: bool, **more: Any) -> Workload:
    """A step that calls an inner model; the outer one has no `call`, except where `called`."""
    import keras
    import tensorflow as tf

    class Inner(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.net = _dense()

        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                predicted = self.net(x, training=True)
                loss = self.compute_loss(x, y, predicted)
            gradients = tape.gradient(loss, self.net.trainable_variables)
            self.optimizer.apply(gradients, self.net.trainable_variables)
            return self.compute_metrics(x, y, predicted)

    class Outer(Inner):
        def call(self, x: Any) -> Any:
            return self.net(x)

    given = {"train": (_points()[0], labels), "score": "mae", "better": "min", "loss": "mse"}
    return Workload(model=(Outer if called else Inner)(), **(given | {"metrics": ["mae"]} | more))


def inner_negative() -> Workload:
    return _inner_step(np.full((ROWS, 3), -50, np.float32), called=False)


def inner_large() -> Workload:
    return _inner_step(np.full((ROWS, 3), 2 * 10**9), called=False)


def inner_sorted(*, called: bool = False) -> Workload:
    """The first batch has labels of the first class alone."""
    words = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    return _inner_step(np.sort(_points()[1]), called=called, **words, score="accuracy")


def inner_sorted_called() -> Workload:
    return inner_sorted(called=True)


def compiled() -> Any:
    """A model for the images, compiled with settings of its own."""
    import keras

    model = keras.Sequential(
        [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.5),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=3,
    )
    return model


def compiled_workload() -> Workload:
    model = _dense()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return Workload(model=model, train=_points(), validation=_points())


def dataset_stream() -> Workload:
    """The rows of `plain` as a `tf.data.Dataset`, in their order."""

    def batches(batch_size: int) -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(_points()).batch(batch_size)

    return _classifier(train=batches)


def streamed_twice() -> Workload:
    """A step of its own that passes each row of a stream of 9 batches and 6 rows on twice."""
    import keras
    import tensorflow as tf

    class Twice(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                near = self(x + 0.01, training=True) - self(x, training=True)
                loss = keras.ops.mean(near**2) + keras.ops.mean((self.layers[-1](x) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    def batches(batch_size: int) -> Any:
        x, _ = _points()
        rows = tf.data.Dataset.from_tensor_slices((x, x.sum(axis=1, keepdims=True)))
        return rows.batch(batch_size)

    given = keras.Input((6,))
    model = Twice(given, keras.layers.Dense(1)(given))
    return Workload(model=model, train=batches, score="loss", better="min")


def twice_to_the_end() -> Workload:
    """The same from a stream that does not know its length."""
    known = streamed_twice()
    whole: Any = known.train

    def batches(batch_size: int) -> Any:
        return whole(batch_size).filter(lambda *_: True)

    return replace(known, train=batches)


def stopping() -> Workload:
    """A stream, and callbacks that want to end an epoch in it, before and after a batch."""
    import keras

    class Stops(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = True

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == 2

    return _classifier(train=dataset_stream().train, callbacks=[Stops()])


def shrinking() -> Workload:
    """A stream that has a batch less when it is opened anew."""
    rows = iter((ROWS, *[ROWS - 16] * 9))

    def batches(batch_size: int) -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(_points(next(rows))).batch(batch_size)

    return _classifier(train=batches)


def py_dataset() -> Workload:
    """The rows of `plain` as a `keras.utils.PyDataset`, in their order."""
    import keras

    class Batches(keras.utils.PyDataset):
        def __init__(self, batch_size: int) -> None:
            super().__init__()
            self.size = batch_size
            self.x, self.y = _points()

        def __len__(self) -> int:
            return -(-len(self.x) // self.size)

        def __getitem__(self, place: int) -> tuple[Any, Any]:
            rows = slice(place * self.size, (place + 1) * self.size)
            return self.x[rows], self.y[rows]

    return _classifier(train=lambda batch_size: Batches(batch_size))


def fixed_batch() -> Workload:
    """A model for batches of 16 rows alone, and validation data with a smaller last batch."""
    import keras

    model = keras.Sequential(
        [
            keras.Input(batch_shape=(16, 4, 2)),
            keras.layers.LSTM(3, stateful=True),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )

    def rows(number: int) -> tuple[Any, Any]:
        return np.ones((number, 4, 2), np.float32), np.zeros(number, np.int32)

    return _classifier(model=model, train=rows(32), validation=rows(32), test=rows(38))


def _by_xla(train: Any) -> Workload:
    model = _dense()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=True)
    return Workload(model=model, train=train, validation=_points())


def dataset_by_xla() -> Workload:
    return _by_xla(dataset_stream().train)


def py_dataset_by_xla() -> Workload:
    return _by_xla(py_dataset().train)


def uneven() -> Workload:
    """A stream of two files, each with a smaller last batch."""

    def batches(batch_size: int) -> Any:
        import tensorflow as tf

        file = tf.data.Dataset.from_tensor_slices(_points()).batch(batch_size)
        return file.concatenate(file)

    return _classifier(train=batches)


def grain_dataset() -> Workload:
    """The rows of `plain` as a Grain dataset, which knows its length."""

    def batches(batch_size: int) -> Any:
        import grain

        rows = list(zip(*_points(), strict=True))
        return grain.MapDataset.source(rows).batch(batch_size)

    return _classifier(train=batches, validation=batches)


def grain_loader() -> Workload:
    """The rows of `plain` as a Grain loader, whose length is known at its end only."""

    def batches(batch_size: int) -> Any:
        import grain

        rows = list(zip(*_points(), strict=True))
        order = grain.samplers.SequentialSampler(len(rows), grain.sharding.NoSharding())
        made = [grain.transforms.Batch(batch_size, drop_remainder=False)]
        return grain.DataLoader(data_source=rows, sampler=order, operations=made)

    return _classifier(train=batches, validation=batches)


def torch_loader() -> Workload:
    """The rows of `plain` as a PyTorch `DataLoader`."""

    def batches(batch_size: int) -> Any:
        from torch import from_numpy
        from torch.utils.data import DataLoader, TensorDataset

        rows = TensorDataset(*map(from_numpy, _points()))
        return DataLoader(rows, batch_size=batch_size)

    return _classifier(train=batches, validation=batches)


def endless() -> Workload:
    def batches(batch_size: int) -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(_points()).repeat().batch(batch_size)

    return _classifier(train=batches)


def empty_stream() -> Workload:
    def batches() -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(_points(rows=0)).batch(16)

    return _classifier(train=batches)


def streamed_validation() -> Workload:
    """Arrays to train on; validation in batches of their own size, the test data in one."""

    def of(batch_size: int) -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(_points(rows=10)).batch(batch_size)

    return _classifier(validation=lambda: of(64), test=of)


def short_stream() -> Workload:
    """Fewer rows than the case's batch."""
    return _classifier(train=streamed_validation().test)


def other_batches() -> Workload:
    def batches() -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(_points()).batch(10)

    return _classifier(train=batches)


def changing_shape() -> Workload:
    """Batches whose samples change their shape, which fits a model without a fixed one."""
    import keras

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, place: int) -> tuple[Any, Any]:
            width = 4 + place
            return np.ones((16, width, 2), np.float32), np.zeros(16, np.int32)

    model = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    return _classifier(model=model, train=Batches, validation=None)


def no_stream() -> Workload:
    return _classifier(train=lambda: 5)


def opened_stream() -> Workload:
    import tensorflow as tf

    return _classifier(train=tf.data.Dataset.from_tensor_slices(_points()).batch(16))


def failing_stream() -> Workload:
    def batches() -> Any:
        raise OSError("no such file: pictures.tar")

    return _classifier(train=batches)


def failing_stream_of_size() -> Workload:
    def batches(batch_size: int) -> Any:
        raise ValueError("batch_size must be a power of 3")

    return _classifier(train=batches)


def synthetic() -> Workload:
    return _classifier(train=Synthetic(shapes=(6,), classes=3, rows=256), validation=None)


def equal_validation(seed: int = 0) -> Workload:
    """Training and validation data of equal arguments, but for the seed of `other_validation`."""
    words: dict[str, Any] = {"shapes": (50,), "classes": 3, "rows": 256}
    return _classifier(
        model=_dense(features=50),
        train=Synthetic(**words),
        validation=Synthetic(seed=seed, **words),
    )


def other_validation() -> Workload:
    return equal_validation(seed=1)


def too_large() -> Workload:
    return _classifier(train=Synthetic(shapes=(10**6,), classes=3, rows=10**7), validation=None)


def unequal() -> Workload:
    x, y = _points()
    return _classifier(train=(x, y[:-1]))


def empty() -> Workload:
    x, y = _points(rows=0)
    return _classifier(train=(x, y))


def not_a_number() -> Workload:
    x, y = _points()
    x[7, 2] = np.nan
    return _classifier(train=(x, y))


def objects() -> Workload:
    x, y = _points()
    return _classifier(train=(x.astype(object), y))


def texts() -> Workload:
    x, y = _points()
    return _classifier(train=(x.astype(str), y))


def ragged() -> Workload:
    return _classifier(train=(np.array([1.0]), [[1.0, 2.0], [1.0]]))


def wrong_labels() -> Workload:
    x, y = _points()
    return _classifier(train=(x, y + 5))


def other_score() -> Workload:
    return _classifier(score="f1")


def wrong_inputs() -> Workload:
    return _classifier(model=_dense(features=5))


def wrong_outputs() -> Workload:
    x, _ = _points()
    return _classifier(train=(x, np.zeros((len(x), 7), np.float32)), loss="mse", metrics=[])


def no_loss() -> Workload:
    return _classifier(loss=None)


def compiled_twice() -> Workload:
    model = _dense()
    model.compile("adam", "sparse_categorical_crossentropy")
    return _classifier(model=model)


def sideways() -> Workload:
    return _classifier(better="up")


def a_class() -> Any:
    import keras

    return keras.Model


def a_dictionary() -> Any:
    return {"model": _dense()}


def nothing() -> None:
    _dense()


def raises() -> Any:
    raise KeyError("weights.npz")


def leaves() -> Any:
    sys.exit(3)


def leaves_at_once() -> Any:
    os._exit(3)


def forks() -> Any:
    os.fork()
    return plain()


def threads() -> Any:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return plain()


def prints() -> Any:
    sys.stdout.write('{"kind": "result"}\n')
    return plain()


def reads_arguments() -> Any:
    import argparse

    argparse.ArgumentParser().parse_args()
    return plain()


def runs_eagerly() -> Any:
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    return plain()


def clears() -> Any:
    import keras

    made = plain()
    keras.backend.clear_session()
    return made


def unscored() -> Workload:
    """Nothing but the training tells of its score."""
    return _classifier(validation=None, score="f1")


def unlabelled() -> Workload:
    return _classifier(train=_points()[0])


def wrong_validation() -> Workload:
    x, y = _points()
    return _classifier(validation=(x, y + 5))


def narrow_validation() -> Workload:
    x, y = _points()
    return _classifier(validation=(x[:, :5], y))


def endless_validation() -> Workload:
    return _classifier(validation=endless().train)


def worded_score() -> Workload:
    return _classifier(score=None)


def worded_target() -> Workload:
    return _classifier(target="high")


def worded_weights() -> Workload:
    return _classifier(class_weight={"a": "b"})


def other_callbacks() -> Workload:
    return _classifier(callbacks=[print])


def interrupts() -> Any:
    raise KeyboardInterrupt


def needs_memory() -> Any:
    import keras

    keras.layers.Dense(10**9).build((None, 10**6))


def failing_callback() -> Workload:
    import keras

    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise OSError("not logged in")

    return _classifier(callbacks=[Fails()])


def breaking_stream() -> Workload:
    """A stream that raises an error after its first batches."""

    def batches(batch_size: int) -> Any:
        import tensorflow as tf

        def rows() -> Iterator[Any]:
            x, y = _points()
            for _ in range(3):
                yield x[:batch_size], y[:batch_size]
            raise OSError("the disk is gone")

        kinds = (tf.TensorSpec((None, 6), tf.float32), tf.TensorSpec((None,), tf.int64))
        return tf.data.Dataset.from_generator(rows, output_signature=kinds)

    return _classifier(train=batches)


def starts_others() -> Any:
    """Processes that would outlive it."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
    return plain()


def asks() -> Any:
    return input("how many? ")
