"""Names of fields and columns in files and messages of earlier versions."""

from __future__ import annotations

from collections.abc import Mapping
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
