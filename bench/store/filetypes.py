"""The types of the values in tables and in environment.json."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from bench.schema.bounds import (
    Count,
    Finite,
    Loss,
    Number,
    Positive,
    Seconds,
    Share,
    Size,
    Text,
    Whole,
    Word,
)
from bench.schema.case import Case
from bench.schema.ceilings import Ceilings
from bench.schema.columns import LATER_COLUMNS, RESULT_COLUMNS, ROUND_COLUMNS
from bench.schema.launch import Status

# The types of the cells of results.csv; an empty cell of a text column is "".
RESULT_TYPES: Mapping[str, Any] = MappingProxyType(
    {
        "case": Word,
        "status": Status,
        "reason": Text,
        "model": Word,
        "optimizer": Text,
        "loop": Word,
        "backend": Word,
        "device": Word,
        "device_name": Text,
        "batch_size": Count,
        "precision": Word,
        "threads": Count | None,
        "epochs": Count | None,
        "seed": Whole | None,
        "launches": Number,
        "rounds": Number,
        "parameters": Number | None,
        "samples_per_s": Positive | None,
        "samples_per_s_low": Size | None,
        "samples_per_s_high": Size | None,
        "step_ms": Positive | None,
        "epoch_s": Positive | None,
        "warmup_s": Size | None,
        "total_s": Size | None,
        "train_score": Loss | None,
        "val_score": Loss | None,
        "val_loss": Loss | None,
        "test_score": Loss | None,
        "score_target": Finite | None,
        "score_reached": bool | None,
        "time_to_score_s": Size | None,
        "jit_compile": bool | None,
        "between_epochs_s": Size | None,
        "evaluation_s": Size | None,
        "peak_host_memory_bytes": Number | None,
        "peak_device_memory_bytes": Number | None,
        "flops_per_sample": Number | None,
        "bytes_per_step": Number | None,
        "gflops": Size | None,
        "roofline_limit_s": Size | None,
        "roofline_fraction": Size | None,
        "bound": Literal["", "compute", "memory", "overhead"],
        "products_limit_s": Size | None,
        "products_fraction": Size | None,
        "framework_overhead": Finite | None,
        "epoch_j": Size | None,
        "samples_per_j": Size | None,
        "energy_covers": Text,
        "precision_share": Share | None,
        "score": Text,
        "better": Literal["", "max", "min"],
        "steps": Count | None,
        "waiting_share": Share | None,
        "input_free_samples_per_s": Positive | None,
        "data_digest": Text,
        "model_digest": Text,
        "initial_weights": Text,
        "steps_a_call": Count | None,
        "replicas": Count,
        "processes": Count,
        "scaling": Literal["", "strong", "weak"],
        "local_batch_size": Count | None,
        "device_uuids": Text,
        "speedup": Positive | None,
        "efficiency": Positive | None,
        "efficiency_low": Size | None,
        "efficiency_high": Size | None,
        "all_reduce_bytes": Number | None,
        "all_reduce_s": Positive | None,
        "all_reduce_bytes_per_s": Positive | None,
        "all_reduce_share": Size | None,
        "warnings": Text,
    }
)
# The value of an empty cell, for the columns where it is not None.
_BLANK: Mapping[str, str] = MappingProxyType(
    {"replicas": "1", "processes": "1"}
    | dict.fromkeys(
        (
            "reason",
            "optimizer",
            "device_name",
            "bound",
            "energy_covers",
            "score",
            "better",
            "data_digest",
            "model_digest",
            "initial_weights",
            "scaling",
            "device_uuids",
            "warnings",
            "phase",
            "order",
            "after",
        ),
        "",
    )
)


class TableSchema:
    """The columns of a table.

    Args:
        types: the type of each column that is read, in the order of the suite's own files.
        later: columns that files of an earlier version do not have; their cells are empty then.
    """

    def __init__(self, types: Mapping[str, Any], later: tuple[str, ...] = ()) -> None:
        self.columns = tuple(types)
        self.later = frozenset(later)
        self.blank = {column: _BLANK.get(column) for column in types}
        self.types = dict(types)

    @property
    def row(self) -> Any:
        """The type of a row: a dictionary with the columns as keys."""
        return _row_type(tuple(self.types.items()))


@functools.cache
def _row_type(types: tuple[tuple[str, Any], ...]) -> Any:
    make: Any = TypedDict
    return make("Row", dict(types))


RESULTS = TableSchema({name: RESULT_TYPES[name] for name in RESULT_COLUMNS}, LATER_COLUMNS)
ROUNDS = TableSchema(dict.fromkeys(ROUND_COLUMNS, str))
BLOCKS = TableSchema(
    {
        "case": Word,
        "block": Number,
        "first": Literal["a", "b"],
        "template_a": Number | None,
        "template_b": Number | None,
        "order": Annotated[str, Meta(pattern="^[ab]*$", max_length=100_000)],
        "control_a_s": Positive,
        "control_b_s": Positive,
        "control_log_ratio": Finite,
    },
    ("template_a", "template_b", "order"),
)
CONTROL = TableSchema(
    {
        "case": Word,
        "block": Number,
        "pair": Number,
        "place": Number,
        "side": Literal["a", "b"],
        "after": Text,
        "seconds": Positive,
    },
)
PHASES = TableSchema(
    {
        "case": Word,
        "phase": Text,
        "share": Finite | None,
        "seconds_per_step": Finite | None,
        "step_s": Positive | None,
        "rounds": Number | None,
        "status": Status | None,
    },
    ("step_s", "rounds", "status"),
)


class _Cpu(TypedDict, total=False):
    model: Text | None
    cores_physical: Number | None
    cores_logical: Number | None
    sockets: Number | None
    affinity: list[Number] | None
    cgroup_quota_cpus: Size | None


class _Gpu(TypedDict, total=False):
    name: Text | None
    uuid: Text | None


class _Git(TypedDict, total=False):
    revision: Text | None
    time_utc: Text | None
    parents: list[Text] | None
    dirty: bool | None


class _Sources(TypedDict, total=False):
    suite: Text | None
    models: Text | None
    notes: list[Text]


class _Node(TypedDict, total=False):
    name: Text
    hardware: Text
    interface: Text


class Profiled(TypedDict):
    """The fields of a line of profiles.jsonl that are read."""

    case: Case


class Environment(TypedDict, total=False):
    """The fields of environment.json that are checked; others are kept as they are."""

    label: Text | None
    time_utc: Text | None
    dataset_digest: Text | None
    os: dict[str, Text | None]
    cpu: _Cpu
    memory_bytes: Number | None
    gpus: list[_Gpu]
    driver_version: Text | None
    cuda_driver_version: Any
    python: dict[str, Text | None]
    versions: dict[str, Text | None]
    software: dict[str, Any]
    variables: dict[str, Text | None]
    overruled: dict[str, Text | None]
    code: dict[str, dict[str, dict[str, Text]]]
    sources: _Sources
    nodes: list[_Node]
    git: _Git | None
    revision: _Git | None
    command: Text | None
    control_s: list[Seconds]
    ceilings: list[Ceilings]
