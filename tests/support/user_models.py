"""Models as users write them; each trains in a bare `Model.fit`. Builders take no arguments."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

layers = keras.layers


def graph(kind: Any = keras.Model, **more: Any) -> Any:
    """Two Dense layers as a model of the class `kind`."""
    image = keras.Input((784,))
    hidden = layers.Dense(8, "relu", name="hidden")(image)
    return kind(image, layers.Dense(10, "softmax", name="output", **more)(hidden))


def logits() -> Any:
    """What `from_logits=True` would want; the suite's loss takes it for probabilities."""
    return keras.Sequential([keras.Input((784,)), layers.Dense(8, "relu"), layers.Dense(10)])


class Logits(keras.Model):
    """Knows that its outputs are logits."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
        return keras.ops.mean(loss)


def own_logits() -> Any:
    image = keras.Input((784,))
    return Logits(image, layers.Dense(10)(image))


def gradients(model: Any, loss: Any, tape: Any) -> Any:
    return tape.gradient(loss, model.trainable_variables)


class Guide(keras.Model):
    """The train_step that Keras's guides teach: its own loop over the metrics."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=predicted)
        self.optimizer.apply(gradients(self, loss, tape), self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, predicted)
        return {metric.name: metric.result() for metric in self.metrics}


def guide() -> Any:
    return graph(Guide)


class OtherKeys(keras.Model):
    """Logs neither `loss` nor `accuracy`, but a tensor, a dictionary and an array."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=predicted)
        found = gradients(self, loss, tape)
        self.optimizer.apply_gradients(zip(found, self.trainable_variables, strict=True))
        norms = {"norm": tf.linalg.global_norm(found)}
        return {"error": loss, "more": norms, "first": predicted[0]}


def other_keys() -> Any:
    return graph(OtherKeys)


class OwnMetrics(keras.Model):
    """Metrics of its own in both steps, without Keras's loss tracker."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.mean = keras.metrics.Mean(name="loss")
        self.right = keras.metrics.SparseCategoricalAccuracy(name="right")

    @property
    def metrics(self) -> Any:
        return [self.mean, self.right]

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        self.optimizer.apply(gradients(self, loss, tape), self.trainable_variables)
        return self.told(loss, y, predicted)

    def test_step(self, data: Any) -> Any:
        x, y = data
        predicted = self(x, training=False)
        return self.told(self.compute_loss(x, y, predicted), y, predicted)

    def told(self, loss: Any, y: Any, predicted: Any) -> Any:
        self.mean.update_state(loss)
        self.right.update_state(y, predicted)
        return {"loss": self.mean.result(), "right": self.right.result()}


def own_metrics() -> Any:
    return graph(OwnMetrics)


class Twice(keras.Model):
    """Two updates a step."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        for _ in range(2):
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = self.compute_loss(x, y, predicted)
            self.optimizer.apply(gradients(self, loss, tape), self.trainable_variables)
        return self.compute_metrics(x, y, predicted)


def twice() -> Any:
    return graph(Twice)


class OwnOptimizer(keras.Model):
    """An optimizer in an attribute, which Keras builds at the first step, and a step counter."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.mine = keras.optimizers.SGD(0.05, momentum=0.9)
        self.steps = tf.Variable(0.0)

    def train_step(self, data: Any) -> Any:
        x, y = data
        self.steps.assign_add(1.0)
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        found = [g / tf.minimum(self.steps, 2.0) for g in gradients(self, loss, tape)]
        self.mine.apply(found, self.trainable_variables)
        return self.compute_metrics(x, y, predicted)


def own_optimizer() -> Any:
    return graph(OwnOptimizer)


class Accumulating(keras.Model):
    def compile(self, optimizer: Any, **settings: Any) -> None:
        named = keras.optimizers.get(optimizer)
        configured = {**named.get_config(), "gradient_accumulation_steps": 3}
        super().compile(optimizer=type(named).from_config(configured), **settings)


def accumulating() -> Any:
    return graph(Accumulating)


class Halves(keras.Model):
    """Each batch in two calls of a function of its own."""

    @tf.function
    def of_half(self, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        return predicted, gradients(self, loss, tape)

    def train_step(self, data: Any) -> Any:
        x, y = data
        half = tf.shape(x)[0] // 2
        first, some = self.of_half(x[:half], y[:half])
        second, others = self.of_half(x[half:], y[half:])
        mean = [(a + b) / 2 for a, b in zip(some, others, strict=True)]
        self.optimizer.apply(mean, self.trainable_variables)
        return self.compute_metrics(x, y, tf.concat([first, second], 0))


def halves() -> Any:
    return graph(Halves)


class SubClassed(keras.Model):
    """Layers and a call, of which one has numbers in attributes that Keras's layers have too."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = 4
        self.hidden = Odd()
        self.normal = layers.BatchNormalization()
        self.out = layers.Dense(10, "softmax")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.out(self.normal(self.hidden(x), training=training))


class Odd(keras.layers.Layer):
    """A layer of 8 units by a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.units, self.activation = 3, "many", 7

    def build(self, shape: Any) -> None:
        self.kernel = 5
        self.weight = self.add_weight(shape=(shape[-1], 8))

    def call(self, x: Any) -> Any:
        return tf.nn.relu(tf.matmul(x, tf.cast(self.weight, x.dtype)))


def built() -> Any:
    model = SubClassed()
    model.build((None, 784))
    return model


def unbuilt() -> Any:
    return SubClassed()


class Rows(keras.Model):
    """Takes images of 28x28 only, and does not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.reduced = layers.Conv1D(2, 3)
        self.flat = layers.Flatten()
        self.out = layers.Dense(10, "softmax")

    def call(self, x: Any) -> Any:
        return self.out(self.flat(self.reduced(x)))


def rows() -> Any:
    return Rows()


class Wrapping(keras.Model):
    """Holds another model, which its step calls itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = graph()

    def call(self, x: Any) -> Any:
        return self.inner(x)

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self.inner(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        self.optimizer.apply(gradients(self, loss, tape), self.trainable_variables)
        return self.compute_metrics(x, y, predicted)


def wrapping() -> Any:
    return Wrapping()


class Raw(keras.Model):
    """Calls no layer, not even itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = self.add_weight(shape=(784, 10))

    def call(self, x: Any) -> Any:
        return tf.nn.softmax(tf.matmul(x, self.weight))

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self.call(x))
        self.optimizer.apply(gradients(self, loss, tape), self.trainable_variables)
        return {"error": loss}


def raw() -> Any:
    return Raw()


def frozen_part() -> Any:
    model = graph()
    model.get_layer("hidden").trainable = False
    return model


class Skipping(Guide):
    """Leaves out half of each batch, by a condition that no shape tells."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        kept = tf.shape(x)[0] // 2
        return super().train_step((x[:kept], y[:kept]))


def skipping() -> Any:
    return graph(Skipping)


class Eager(keras.Model):
    def compile(self, **settings: Any) -> None:
        super().compile(**{**settings, "run_eagerly": True, "jit_compile": False})


def eager() -> Any:
    return graph(Eager)


class Calling(keras.Model):
    """Calls Python in each step, which XLA cannot."""

    def train_step(self, data: Any) -> Any:
        tf.py_function(lambda: None, [], [])
        return super().train_step(data)


def calling() -> Any:
    return graph(Calling)


class Other(keras.Model):
    def compile(self, optimizer: Any, **settings: Any) -> None:
        super().compile(optimizer="rmsprop", **settings)


def other_optimizer() -> Any:
    return graph(Other)


class Strict(keras.Model):
    def compile(self, optimizer: Any, loss: Any, metrics: Any) -> None:
        super().compile(optimizer, loss, metrics)


def strict_compile() -> Any:
    return graph(Strict)


class Unscaled(keras.Model):
    def compile(self, **settings: Any) -> None:
        super().compile(auto_scale_loss=False, **settings)


def unscaled() -> Any:
    return graph(Unscaled)


# Precisions.


def float32_output() -> Any:
    """As Keras advises."""
    return graph(dtype="float32")


def cleared() -> Any:
    keras.utils.clear_session()
    return graph()


def policy_of_its_own() -> Any:
    keras.config.set_dtype_policy("float32")
    return graph()


def half_policy_of_its_own() -> Any:
    keras.config.set_dtype_policy("mixed_bfloat16")
    return graph()


def float32_hidden() -> Any:
    image = keras.Input((784,))
    hidden = layers.Dense(8, "relu", name="hidden", dtype=keras.DTypePolicy("float32"))(image)
    wide = layers.Dense(2000, "relu", name="wide")(hidden)
    return keras.Model(image, layers.Dense(10, "softmax", name="output")(wide))


def float32_activation() -> Any:
    image = keras.Input((784,))
    hidden = layers.Dense(8, name="hidden")(image)
    active = layers.Activation("relu", name="active", dtype="float32")(hidden)
    return keras.Model(image, layers.Dense(10, "softmax", name="output")(active))


def nested_float32() -> Any:
    inner = keras.Sequential(
        [keras.Input((784,)), layers.Dense(8, "relu", name="inside", dtype="float32")]
    )
    image = keras.Input((784,))
    return keras.Model(image, layers.Dense(10, "softmax", name="output")(inner(image)))


class Casting(keras.layers.Layer):
    """Says that it computes as the policy does, and casts to `inside`."""

    def __init__(self, inside: Any, **more: Any) -> None:
        super().__init__(**more)
        self.inside = inside

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight(shape=(shape[-1], 8))

    def call(self, x: Any) -> Any:
        product = tf.matmul(tf.cast(x, self.inside), tf.cast(self.weight, self.inside))
        return tf.nn.relu(tf.cast(product, x.dtype))


def casting_up() -> Any:
    return keras.Sequential(
        [keras.Input((784,)), Casting("float32", name="cast"), layers.Dense(10, "softmax")]
    )


def casting_down() -> Any:
    return keras.Sequential(
        [keras.Input((784,)), Casting("bfloat16", name="cast"), layers.Dense(10, "softmax")]
    )


def casting_double() -> Any:
    return keras.Sequential(
        [keras.Input((784,)), Casting("float64", name="cast"), layers.Dense(10, "softmax")]
    )


def double() -> Any:
    return graph(dtype="float64")


def recurrent() -> Any:
    """Products inside a loop inside the step, and a convolution."""
    image = keras.Input((28, 28))
    narrow = layers.Conv1D(4, 3, name="convolution")(image)
    return keras.Model(image, layers.Dense(10, "softmax", name="output")(layers.GRU(4)(narrow)))
