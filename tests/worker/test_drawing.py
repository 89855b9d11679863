"""The layers that draw random numbers in a step, which replicas draw each for itself."""

from __future__ import annotations

import keras

from bench.worker.drawing import drawing

layers = keras.layers


class Own(keras.layers.Layer):
    """A layer with a generator of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.seeds = keras.random.SeedGenerator(1)


def test_layers_with_a_generator_are_found_inside_others_too() -> None:
    inner = keras.Sequential([layers.Dense(2), layers.Dropout(0.5, name="inner")], name="both")
    model = keras.Sequential(
        [
            keras.Input((3, 4)),
            layers.LSTM(2, return_sequences=True, name="plain"),
            layers.LSTM(2, return_sequences=True, name="lstm", recurrent_dropout=0.1),
            layers.Dropout(0.0, name="none"),
            layers.GaussianNoise(0.1, name="noise"),
            Own("own"),
            layers.TimeDistributed(inner, name="each"),
        ]
    )
    # The cell of a recurrent layer owns the generator.
    first, *others = drawing(model)
    assert first.startswith("lstm_cell")
    assert others == ["noise", "own", "inner"]
    assert drawing(keras.Sequential([keras.Input((4,)), layers.Dense(2)])) == []
