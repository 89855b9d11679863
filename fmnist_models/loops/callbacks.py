"""What a user's callbacks need of a loop."""

from __future__ import annotations

from typing import Any

import keras

_OF_BATCHES = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


def sees_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether it must be called within an epoch: it does something for batches."""
    base = keras.callbacks.Callback
    # A `LambdaCallback` has its methods in the object, not in the class.
    found = {name: getattr(callback, name) for name in _OF_BATCHES}
    own = [
        method
        for name, method in found.items()
        if getattr(method, "__func__", method) is not getattr(base, name)
    ]
    return any(not (_is_keras(method) and _waits_for_epochs(callback)) for method in own)


def _is_keras(method: Any) -> bool:
    return str(getattr(method, "__module__", "")).partition(".")[0] == "keras"


def _waits_for_epochs(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback of Keras's own does nothing for batches, by its settings.

    `TensorBoard` would write the graph of Keras's train function at the first batch.
    """
    if isinstance(callback, keras.callbacks.TensorBoard):
        by_batches = callback.write_steps_per_second or callback._should_trace
        return callback.update_freq == "epoch" and not by_batches
    return getattr(callback, "save_freq", None) == "epoch"
