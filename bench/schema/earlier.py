"""Names of fields and columns in files and messages of earlier versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

# Before a workload could name the metric that judges it, that metric was always the accuracy.
EARLIER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "train_accuracy": "train_score",
        "val_accuracy": "val_score",
        "test_accuracy": "test_score",
        "accuracy_target": "score_target",
        "accuracy_reached": "score_reached",
        "time_to_accuracy_s": "time_to_score_s",
    }
)
# Fields that hold a mapping with such names.
_INSIDE = ("settings",)


def in_present_names(values: Any) -> Any:
    """`values` with the fields of an earlier version under their present names.

    Other values than mappings are returned as they are.
    """
    if not isinstance(values, Mapping):
        return values
    renamed = values
    if not EARLIER_NAMES.keys().isdisjoint(values):
        renamed = {EARLIER_NAMES.get(name, name): value for name, value in values.items()}
    inner = {name: in_present_names(values[name]) for name in _INSIDE if name in values}
    return {**renamed, **inner} if inner else renamed


def as_written(path: Sequence[str | int], values: Any) -> list[str | int]:
    """A path of present names that leads to a value, in the names that `values` have."""
    found: list[str | int] = []
    for step in path:
        earlier = next((old for old, new in EARLIER_NAMES.items() if new == step), step)
        known = isinstance(values, Mapping) and step not in values and earlier in values
        found.append(earlier if known else step)
        try:
            values = values[found[-1]]
        except (KeyError, IndexError, TypeError):
            values = None
    return found
