"""What a user's callbacks need of a loop."""

from __future__ import annotations

import keras

_OF_BATCHES = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


def sees_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether it must be called within an epoch: it has a method for batches."""
    base = keras.callbacks.Callback
    found = {name: getattr(callback, name) for name in _OF_BATCHES}
    # A `LambdaCallback` has its methods in the object, not in the class.
    return any(
        getattr(method, "__func__", method) is not getattr(base, name)
        for name, method in found.items()
    )
