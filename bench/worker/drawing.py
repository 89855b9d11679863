"""Which layers of a model draw random numbers while it trains."""

from __future__ import annotations

import keras

from fmnist_models.loops.watch import layers_of

# Recurrent layers own a generator also where they drop nothing.
_RATES = ("dropout", "recurrent_dropout")


def drawing(model: keras.Model) -> list[str]:
    """The names of the layers that own a `SeedGenerator`, those in other layers included.

    Keras has no public attribute for the generators of a layer. Those that a layer makes in its
    call, or that the optimizer owns, are not found.
    """
    return [layer.name for layer in layers_of(model) if layer._seed_generators and _drops(layer)]


def _drops(layer: keras.layers.Layer) -> bool:
    """Whether a rate of the layer is above 0, or it has none."""
    rates = [getattr(layer, name) for name in _RATES if hasattr(layer, name)]
    return any(rates) or not rates
