"""Digests of what a case trains, so that different work is never compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from fmnist_models.data import Data
from fmnist_models.loops.watch import layers_of
from fmnist_models.stream import Stream
from fmnist_models.task import Task

UNKNOWN = "unknown"
# Stands before a model's digest, so that those of earlier versions, which told an absent setting
# from one that is off, are never held against those of this one.
_SCHEME = "2:"
# Names are counted up in a process, and the precision is an axis of the case.
_LEFT_OUT = frozenset(("name", "registered_name", "dtype", "build_config", "batch_shape"))
# Names of layers, in the configuration of a graph of layers, which `_graph` tells by place.
_BY_NAME = frozenset(("inbound_nodes", "input_layers", "output_layers"))


def digest_of_data(parts: Iterable[Data | None]) -> str:
    """SHA-256 of training, validation and test data; `unknown` where one of them is a stream.

    That of data which are known as a whole, such as the embedded images, is their own.
    """
    digests: list[str | None] = []
    whole = set()
    for part in parts:
        if isinstance(part, Stream):
            return UNKNOWN
        digests.append(None if part is None else part.digest())
        whole.add("" if part is None else part.known_digest)
    if len(whole) == 1 and "" not in whole:
        return whole.pop()
    # Nothing has a place too: the same rows as validation and as test data are other data.
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def digest_of_model(task: Task) -> str:
    """SHA-256 of layers and their connections, weights, loss, metrics and callbacks.

    Hexadecimal, after the number of the way in which it is made. Names, precision and the optimizer
    are left out, as the case has the last two; but the optimizer of a model that its own function
    compiled is part of it. A setting that is off is the same as none, so that one model has one
    digest with versions of Keras that know more settings.
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
    told += [graph for graph in map(_graph, layers_of(model)) if graph]
    told += [_callback(callback) for callback in task.callbacks]
    text = json.dumps(told, sort_keys=True)
    return _SCHEME + hashlib.sha256(text.encode()).hexdigest()


def _config(thing: Any) -> Any:
    """The configuration of a layer or an optimizer; its class's name where it has none."""
    try:
        found = thing.get_config()
    except Exception:  # noqa: BLE001 - whatever a user's layers raise
        return type(thing).__qualname__
    # Layers inside a model are listed by themselves.
    inner = {"layers"} if isinstance(thing, keras.Model) else set()
    return _plain({key: value for key, value in found.items() if key not in inner})


def _graph(layer: Any) -> list[Any]:
    """What the operations of a graph of layers are given, and its ends; empty for other layers.

    Tensors are told by the place of the operation that makes them. Operations that are no layers
    are told with their configuration.
    """
    by_depth = getattr(layer, "_nodes_by_depth", None)
    if not by_depth:
        return []
    places = {id(operation): place for place, operation in enumerate(layer.operations)}

    def at(value: Any) -> Any:
        """A tensor as its place; another value as it is in a configuration."""
        if not isinstance(value, keras.KerasTensor):
            return _plain(value)
        operation, node, output = value._keras_history
        return ["tensor", places.get(id(operation)), node, output]

    nodes = [
        (places[id(node.operation)], keras.tree.map_structure(at, _given(node)))
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
    ]
    others = [
        (type(operation).__name__, _config(operation))
        for operation in layer.operations
        if not isinstance(operation, keras.layers.Layer)
    ]
    ends = keras.tree.map_structure(at, [layer._inputs_struct, layer._outputs_struct])
    return [nodes, others, ends]


def _given(node: Any) -> list[Any]:
    return [list(node.arguments.args), _without_off(node.arguments.kwargs)]


def _callback(callback: Any) -> list[Any]:
    """The class of a callback; of Keras's own, its numbers too.

    Texts may be names of files that each run has anew, and a user's own callback may hold clocks.
    """
    kind = type(callback)
    told: list[Any] = [f"{kind.__module__}.{kind.__qualname__}"]
    if kind.__module__.startswith("keras."):
        told += sorted(
            (key, value)
            for key, value in vars(callback).items()
            if not key.startswith("_") and isinstance(value, bool | int | float)
        )
    return told


def _plain(value: Any) -> Any:
    """A value of a configuration as plain JSON, without names and memory addresses."""
    if isinstance(value, Mapping):
        return {
            str(key): _plain(item) if key != "class_name" else _class_name(item)
            for key, item in _without_off(value).items()
            if key not in _LEFT_OUT | _BY_NAME
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        return _plain(keras.saving.serialize_keras_object(value))
    except Exception:  # noqa: BLE001 - whatever a user's objects raise
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"


def _without_off(settings: Mapping[Any, Any]) -> dict[Any, Any]:
    """The settings without those that are None or False, and without what belongs to one of them.

    A later version of Keras adds such settings: `renorm=False` and with it `renorm_momentum=0.99`.
    """
    off = [key for key, value in settings.items() if value is None or value is False]
    belongs = tuple(f"{key}_" for key in off if isinstance(key, str))
    return {
        key: value
        for key, value in settings.items()
        if key not in off and not (isinstance(key, str) and key.startswith(belongs))
    }


def _class_name(name: Any) -> Any:
    # Earlier versions of Keras name some initializers in the long way, later ones none.
    return name.removesuffix("Initializer") if isinstance(name, str) else name
