"""Colours and markers of loops and models, the same in every picture and on the page."""

from __future__ import annotations

from collections.abc import Iterable

from bench.schema.case import LOOPS

# Colours of Okabe and Ito, which differ in lightness too; the fill distinguishes the loops
# without colour. Only late versions of Matplotlib have them, and Altair, which draws the page, has
# none of them.
LOOP_COLOURS = dict(zip(LOOPS, ("#E69F00", "#009E73", "#0072B2", "#000000"), strict=True))
LOOP_FILLS = dict(zip(LOOPS, ("none", "left", "full", "full"), strict=True))
MODEL_MARKERS = {"softmax": "o", "sigmoid_mlp": "s", "relu_mlp": "^", "logistic": "D"}
OWN_MARKERS = ("v", "P", "X", "<", ">", "p", "*", "d")


def model_markers(models: Iterable[str]) -> dict[str, str]:
    """A marker for every model; a user's own models share one where there are too many."""
    # Sorted, so that pictures that list them in another order agree.
    own = sorted(model for model in models if model not in MODEL_MARKERS)
    shapes = OWN_MARKERS if len(own) <= len(OWN_MARKERS) else OWN_MARKERS[:1] * len(own)
    return MODEL_MARKERS | dict(zip(own, shapes, strict=False))
