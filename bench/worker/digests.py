"""Digests of what a case trains, so that different work is never compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from fmnist_models.arrays import Arrays
from fmnist_models.data import Data
from fmnist_models.loops.watch import layers_of
from fmnist_models.task import Task

UNKNOWN = "unknown"
# Names are counted up in a process, and the precision is an axis of the case.
_LEFT_OUT = frozenset(("name", "registered_name", "dtype", "build_config", "batch_shape"))


def digest_of_data(parts: Iterable[Data | None]) -> str:
    """SHA-256 of training, validation and test data; `unknown` where one of them is a stream."""
    known = [part for part in parts if part is not None]
    if not all(isinstance(part, Arrays) for part in known):
        return UNKNOWN
    digests = [part.digest() for part in known if isinstance(part, Arrays)]
    if len(set(digests)) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def digest_of_model(task: Task) -> str:
    """SHA-256 of the configuration of layers, weights, loss and metrics, hexadecimal.

    Names, precision and the optimizer are left out, as the case has the last two; but the
    optimizer of a model that its own function compiled is part of it.
    """
    model = task.model
    layers = [
        (
            type(layer).__name__,
            _config(layer),
            [tuple(variable.shape) for variable in layer._trainable_variables],
        )
        for layer in layers_of(model)
    ]
    told = [layers, _plain(task.class_weight)]
    if task.compiled:
        told += [_plain(model.get_compile_config() or {}), _config(model.optimizer)]
    else:
        told += [_plain(task.loss), _plain(task.metrics)]
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _config(thing: Any) -> Any:
    """The configuration of a layer or an optimizer; its class's name where it has none."""
    try:
        found = thing.get_config()
    except Exception:  # noqa: BLE001 - whatever a user's layers raise
        return type(thing).__qualname__
    # Layers inside a model are listed by themselves.
    return _plain({key: value for key, value in found.items() if key != "layers"})


def _plain(value: Any) -> Any:
    """A value of a configuration as plain JSON, without names and memory addresses."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if k not in _LEFT_OUT}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        return _plain(keras.saving.serialize_keras_object(value))
    except Exception:  # noqa: BLE001 - whatever a user's objects raise
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
