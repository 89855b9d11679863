"""Replicas of TensorFlow, all in this process: `python -m support.replicas_tensorflow FILE`.

What each scenario found is pickled into FILE, by its name. The CPU is made four devices once, of
which fewer replicas use the first ones.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from bench.schema.case import Case
from bench.schema.requests import LaunchRequest
from bench.worker import network
from bench.worker.digests import digest_of_model
from bench.worker.framework import framework
from bench.worker.tensorflow.device import TensorFlowDevice
from bench.worker.tensorflow.step_flops import step_flops
from bench.worker.tensorflow.waiting import first_batch, waiting_of
from fmnist_models import dataset
from fmnist_models.arrays import Arrays
from fmnist_models.errors import UserError
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Loop, Snapshot, Work, state_variables
from fmnist_models.own import called
from fmnist_models.replicas import Replicas
from fmnist_models.stream import Stream
from fmnist_models.task import Task
from support.loops import Recorder, distance, images, launch_images

layers = keras.layers
BATCH, ROWS, VALIDATION = 64, 2 * 64 + 12, 50
MOST = 4
Build = Callable[[], Any]


class OwnStep(keras.Model):
    """A step of its own, which trains each row once and logs as Keras does."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=predicted)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.compute_metrics(x, y, predicted)


class Plain(keras.layers.Layer):
    """A layer with a variable of TensorFlow's own, which training changes."""

    def build(self, shape: Any) -> None:
        self.scale = tf.Variable(1.0, trainable=False, aggregation=tf.VariableAggregation.MEAN)

    def call(self, x: Any) -> Any:
        return x * self.scale


def smooth(*more: Any, kind: Any = keras.Model) -> Build:
    """A model with a penalty, and without kinks, in which rounding would grow."""

    def build() -> Any:
        x = image = keras.Input((784,))
        x = layers.Dense(16, "tanh", kernel_regularizer=keras.regularizers.L2(0.01))(x)
        for layer in more:
            x = layer()(x)
        return kind(image, layers.Dense(10, "softmax", name="output")(x))

    return build


def device_of(count: int) -> TensorFlowDevice:
    return TensorFlowDevice(tf, "cpu", "float32", replicas=Replicas(count))


def work_of(count: int, build: Build, optimizer: Any = "adam", **more: Any) -> Work:
    """The first images; call it within `replicated`."""
    keras.utils.set_random_seed(3)
    model, loss = build(), more.pop("loss", "sparse_categorical_crossentropy")
    given = keras.optimizers.get(optimizer) if isinstance(optimizer, str) else optimizer()
    compile_model(model, given, "fit", loss=loss)
    pixels, y = images()
    data = Arrays(dataset.scaled(pixels[:ROWS]).reshape(ROWS, 784), y[:ROWS])
    settings = {"seed": 5, "shuffle": False, "device": "/CPU:0", **more}
    return Work(model, settings.pop("data", data), BATCH, replicas=Replicas(count), **settings)


def loop_of(count: int, build: Build, **more: Any) -> Loop:
    return LOOPS["fit"](work_of(count, build, **more))


class Counting(Recorder):
    """Counts as a launch does."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(2)
        self.loop = loop
        self.counted: list[Any] = []

    def window_opens(self) -> None:
        super().window_opens()
        self.loop.watch.count_from_here()

    def epoch_ends(self, logs: Any) -> bool:
        watch = self.loop.watch
        self.counted.append((watch.rows(), watch.given(), watch.reshaped()))
        return super().epoch_ends(logs)


def weights(model: Any) -> list[Any]:
    return [np.array(w, dtype=np.float64) for w in model.get_weights()]


def copies(model: Any) -> dict[str, Any]:
    """Every replica's copy of each weight and slot; one, where there is one replica."""
    found = {}
    for number, variable in enumerate(state_variables(model)):
        value = variable.value if isinstance(variable, keras.Variable) else variable
        held = getattr(value, "values", (value,))
        found[f"{number} {variable.path}"] = np.array([np.array(one, np.float64) for one in held])
    return found


def furthest(some: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference between two values of one copy."""
    assert some.keys() == other.keys()
    return max(float(np.abs(some[name] - other[name]).max(initial=0.0)) for name in some)


def trained(count: int, build: Build, **more: Any) -> dict[str, Any]:
    """What two epochs made of a model, and what was seen of them."""
    device = device_of(count)
    with device.replicated():
        loop = loop_of(count, build, **more)
        model = loop.work.model
        before, begun = weights(model), copies(model)
        task = {"class_weight": None, "compiled": False, "callbacks": ()}
        facts = SimpleNamespace(model=model, loss=None, metrics=None, **task)
        digest = digest_of_model(cast("Task", facts))
        loop.warm_up()
        recorder, warm = Counting(loop), copies(model)
        traces, snapshot = loop.traces, Snapshot(model)
        loop.train(recorder, 2)
        # Not the images that were trained, and so many that the last batch is smaller.
        pixels, y = images()
        x = dataset.scaled(pixels[-VALIDATION:]).reshape(VALIDATION, 784)
        judged = model.evaluate(x, y[-VALIDATION:], batch_size=32, verbose=0, return_dict=True)
        found = {
            "before": before,
            "kept": furthest(begun, warm),
            "diverged": max(float(np.ptp(held, axis=0).max()) for held in copies(model).values()),
            "after": weights(model),
            "changed": snapshot.changed(),
            "digest": digest,
            "logs": recorder.logs,
            "counted": recorder.counted,
            "events": recorder.events,
            "judged": judged,
            "traces": traces,
            "traced_again": loop.traces - traces,
            "misplaced": device.misplaced(state_variables(model)),
            "compiles": loop.compiles,
            "products": [(p.layer, p.forward) for p in framework().products(loop.watch)],
            "call": keras.layers.Layer.__call__.__qualname__,
            "flops": step_flops(model, loop.watch.step, first_batch(loop.work)),
        }
        snapshot.restore()
        return {**found, "restored": furthest(warm, copies(model))}


def told(count: int, build: Build, optimizer: Any = "adam", **more: Any) -> Any:
    """The warnings of a work, or the error."""
    with device_of(count).replicated():
        try:
            work = work_of(count, build, optimizer, **more)
            lines = framework().per_replica(work)
            if work.device == "/CPU:0":
                LOOPS["fit"](work)
        except UserError as error:
            return str(error)
        return lines


def rows_of(rows: int) -> Arrays:
    pixels, y = images()
    return Arrays(dataset.scaled(pixels[:rows]).reshape(rows, 784), y[:rows])


def mean_of_rows(y: Any, predicted: Any) -> Any:
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, predicted))


def warnings() -> dict[str, Any]:
    """What is told of works on two replicas."""
    sgd = keras.optimizers.SGD
    normalized = lambda **more: smooth(  # noqa: E731
        lambda: layers.BatchNormalization(name="norm", **more)
    )
    stray = tf.Variable(1.0)

    def elsewhere() -> Any:
        model = smooth(Plain)()
        model.layers[2].scale = stray
        return model

    def compiled() -> Any:
        model = smooth()()
        compile_it = model.compile
        model.compile = lambda **given: compile_it(jit_compile=True, **given)
        return model

    def of_its_own() -> Any:
        with device_of(MOST).replicated():
            return smooth()()

    return {
        "a strategy of its own": told(2, lambda: called("model", "own:build", of_its_own)),
        "nothing": told(2, smooth()),
        "one batch": told(2, smooth(), data=rows_of(6)),
        "uneven": told(2, smooth(), data=rows_of(BATCH + 3)),
        "normalized": told(2, normalized()),
        "compiler": told(2, smooth(), device="/GPU:0"),
        "stream": told(2, smooth(), data=streamed()),
        "drops": told(2, smooth(lambda: keras.Sequential([layers.Dropout(0.5, name="drop")]))),
        "normalized together": told(2, normalized(synchronized=True)),
        "clips": told(2, smooth(), lambda: sgd(0.1, clipnorm=1.0)),
        "less than a batch": told(4, smooth(), data=rows_of(6)),
        "too few": told(4, smooth(), data=rows_of(BATCH + 5)),
        "compiled": told(2, compiled),
        "gathers": told(2, smooth(), lambda: sgd(0.1, gradient_accumulation_steps=2)),
        "scales": told(2, smooth(), lambda: keras.optimizers.LossScaleOptimizer(sgd(0.1))),
        "mean": told(2, smooth(), loss=mean_of_rows),
        "own step": told(2, smooth(kind=OwnStep)),
        "variable of TensorFlow": told(2, smooth(Plain)),
        "elsewhere": told(2, elsewhere),
    }


def devices() -> dict[str, Any]:
    """What a device tells of variables, and how long an all-reduce takes."""
    device = device_of(2)
    with tf.device("/CPU:3"):
        stray = tf.Variable(1.0)
    with device.replicated():
        there = keras.Variable([1.0], name="there")
        first, second = there.value.values
        copies = {"both": (first, second), "twice": (first, first), "one": (first,)}
        made = {
            name: SimpleNamespace(values=values, dtype=tf.float32, path=name)
            for name, values in copies.items()
        }
        made["stray"] = SimpleNamespace(values=(first, stray), dtype=tf.float32, path="stray")
        device.synchronize()
        return {
            "variable": device.misplaced([there]),
            "made elsewhere": device.misplaced([stray]),
            **{name: device.misplaced([value]) for name, value in made.items()},
            "all_reduce_s": device.all_reduce_s(4000),
            "of_one": device_of(1).all_reduce_s(4000),
            "name": device.name,
        }


def streamed() -> Stream:
    """The same rows as a stream, whose last batch is smaller."""
    data = rows_of(ROWS)

    def opens() -> Any:
        return tf.data.Dataset.from_tensor_slices((data.x, data.y)).batch(BATCH)

    return Stream("stream", opens, BATCH, data.first(BATCH), 3, endless=False, repeats=True)


def waits() -> dict[str, Any]:
    """How long the steps of a stream wait, and how far the model is from before."""
    device = device_of(2)
    with device.replicated():
        loop = loop_of(2, smooth(), data=streamed())
        loop.warm_up()
        before = weights(loop.work.model)
        found = waiting_of(loop.work, device)
        return {**found, "restored": distance(before, weights(loop.work.model))}


def draws() -> list[Any]:
    """What each of two replicas drops, in each of two calls."""
    with device_of(2).replicated():
        drop, strategy = layers.Dropout(0.5), tf.distribute.get_strategy()
        ones = tf.ones((32,))
        calls = [strategy.run(lambda: drop(ones, training=True)) for _ in range(2)]
        return [[np.array(x) for x in strategy.experimental_local_results(c)] for c in calls]


def launch() -> list[dict[str, Any]]:
    """The messages of a launch on four replicas."""
    messages: list[dict[str, Any]] = []
    case = Case("relu_mlp", "adam", "fit", "cpu", 32, replicas=4)
    network.measure_network(LaunchRequest(case, 0, 1, 1, 7), launch_images(), messages.append, None)
    return messages


def parity() -> dict[tuple[str, int], Any]:
    """Two epochs on one replica and on several, by what is trained and their number.

    `plain`, `own` and `stream` train the same. The copies of `alone` differ after it.
    """
    alone = smooth(layers.BatchNormalization, lambda: layers.Dropout(0.5))
    together = smooth(lambda: layers.BatchNormalization(synchronized=True))
    return {
        ("plain", 1): trained(1, smooth()),
        ("plain", MOST): trained(MOST, smooth()),
        ("own", 2): trained(2, smooth(kind=OwnStep)),
        ("stream", 2): trained(2, smooth(), data=streamed()),
        ("together", 1): trained(1, together),
        ("together", 2): trained(2, together),
        ("alone", 2): trained(2, alone),
    }


# The launch comes first: it makes the devices.
SCENARIOS = (launch, parity, warnings, devices, waits, draws)


def main(file: str, *names: str) -> None:
    """Run the scenarios that are named, or all."""
    chosen = [scenario for scenario in SCENARIOS if scenario.__name__ in (names or ALL)]
    Path(file).write_bytes(pickle.dumps({scenario.__name__: scenario() for scenario in chosen}))


ALL = [scenario.__name__ for scenario in SCENARIOS]

if __name__ == "__main__":
    main(*sys.argv[1:])
