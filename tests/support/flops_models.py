"""Models of each kind of layer whose FLOPs are known by its settings, and two that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def chain(shape: Sequence[int], *layers: Any, dtype: str = "float32") -> Any:
    import keras

    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def with_layers(build: Callable[[Any], Any]) -> Callable[[], Any]:
    """A model that is built when it is asked for, because Keras is imported late."""

    def built() -> Any:
        import keras

        return build(keras.layers)

    return built


def attentive(layers: Any, value_size: int | None = None) -> Any:
    """Projected and plain attention, over an input and over what is trained."""
    import keras

    given = keras.Input((9, 8))
    x = layers.MultiHeadAttention(2, 4, value_dim=value_size)(given, given)
    x = layers.GroupQueryAttention(3, 4, 2)(x, given)
    x = layers.Attention(use_scale=True)([x, given])
    return keras.Model(given, layers.MultiHeadAttention(2, 3)(x, value=given, key=x))


def attentive_by_sums(kind: str, **settings: Any) -> Callable[[], Any]:
    def build(layers: Any) -> Any:
        import keras

        given = keras.Input((9, 8))
        x = layers.Dense(8)(given)
        return keras.Model(given, getattr(layers, kind)(**settings)([x, given]))

    return with_layers(build)


def branched(layers: Any) -> Any:
    """A shared layer, a nested model, and two inputs of one layer."""
    import keras

    given, shared = keras.Input((7,)), layers.Dense(7)
    nested = keras.Sequential([keras.Input((7,)), layers.Dense(5), layers.Dense(7)])
    return keras.Model(given, layers.Add()([nested(shared(given)), shared(nested(given))]))


def convolutions(layers: Any) -> Any:
    conv = layers.Conv2D
    return chain(
        (13, 12, 4),
        conv(6, 3),
        conv(4, 3, strides=2, padding="same"),
        conv(6, 2, groups=2, strides=(2, 1)),
        layers.BatchNormalization(),
        layers.MaxPooling2D((1, 2)),
        layers.Flatten(),
        layers.Dense(3, "softmax"),
    )


def depthwise(layers: Any) -> Any:
    return chain(
        (16, 16, 3),
        layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
        layers.DepthwiseConv2D(3, strides=2),
        layers.SeparableConv2D(5, 3, padding="same"),
        layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2),
    )


def transposed(layers: Any) -> Any:
    conv = layers.Conv2DTranspose
    return chain((6, 7, 3), conv(5, 3, strides=2, padding="same"), conv(4, 3, strides=3))


def over_text(layers: Any) -> Any:
    inner = layers.LSTM(6, return_sequences=True)
    return chain(
        (9,),
        layers.Embedding(50, 6, mask_zero=True),
        layers.Bidirectional(inner),
        layers.TimeDistributed(layers.Dense(3)),
        dtype="int32",
    )


def frozen(layers: Any) -> Any:
    # The first layer has no gradient, the third only that of its input.
    first, third = layers.Dense(5, trainable=False), layers.Dense(3, trainable=False)
    return chain((7,), first, layers.Dense(4), third, layers.Dense(2))


def recurrent(name: str, **settings: Any) -> Callable[[], Any]:
    def build(layers: Any) -> Any:
        kind = getattr(layers, name)
        first = kind(6, return_sequences=True, **settings)
        return chain((9, 4), first, kind(5, **settings), layers.Dense(3))

    return with_layers(build)


MODELS = {
    "dense": with_layers(lambda layers: chain((7,), layers.Dense(5), layers.Dense(3))),
    "over rows": with_layers(lambda layers: chain((6, 7), layers.Dense(5), layers.Dense(3))),
    "branched": with_layers(branched),
    "frozen": with_layers(frozen),
    "convolutions": with_layers(convolutions),
    "in one dimension": with_layers(
        lambda layers: chain(
            (20, 3),
            layers.Conv1D(4, 3, padding="causal", strides=2),
            layers.Conv1D(4, 3, dilation_rate=2),
        )
    ),
    "in three": with_layers(
        lambda layers: chain(
            (7, 8, 9, 2),
            layers.Conv3D(4, 3, padding="same", strides=2),
            layers.Conv3DTranspose(3, 2, strides=2),
        )
    ),
    "depthwise": with_layers(depthwise),
    "transposed": with_layers(transposed),
    "attention": with_layers(attentive),
    "attention, larger values": with_layers(lambda layers: attentive(layers, 5)),
    "additive attention": attentive_by_sums("AdditiveAttention"),
    "attention by concatenation": attentive_by_sums("Attention", score_mode="concat"),
    "einsum": with_layers(
        lambda layers: chain((9, 4), layers.EinsumDense("abc,cde->abde", output_shape=(9, 4, 5)))
    ),
    "text": with_layers(over_text),
    "SimpleRNN": recurrent("SimpleRNN"),
    "LSTM": recurrent("LSTM"),
    "GRU": recurrent("GRU"),
    "GRU, the older form": recurrent("GRU", reset_after=False),
    "LSTM in a row": recurrent("LSTM", unroll=True),
}


def twice() -> Any:
    import keras

    class Twice(keras.layers.Dense):
        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs) + super().call(2 * inputs)

    return chain((7,), Twice(4), keras.layers.Dense(3))


def own_products() -> Any:
    """A layer with weights and a product of its own."""
    import keras

    class Mixing(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], 3))

        def call(self, inputs: Any) -> Any:
            return keras.ops.matmul(inputs, self.kernel)

    return chain((7,), keras.layers.Dense(4), Mixing())
