"""The columns of results.csv and rounds.csv, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bench.schema.launch import Round

# A row of results.csv, its cells as typed values.
Row = Mapping[str, Any]
# Columns that folders of earlier versions do not have.
LATER_COLUMNS: tuple[str, ...] = (
    "flops_per_sample",
    "bytes_per_step",
    "gflops",
    "roofline_limit_s",
    "roofline_fraction",
    "bound",
    "products_limit_s",
    "products_fraction",
    "framework_overhead",
    "epoch_j",
    "samples_per_j",
    "energy_covers",
    "precision_share",
    "score",
    "better",
    "steps",
    "waiting_share",
    "input_free_samples_per_s",
    "data_digest",
    "model_digest",
    "initial_weights",
    "steps_a_call",
    "replicas",
    "processes",
    "scaling",
    "local_batch_size",
    "device_uuids",
    "speedup",
    "efficiency",
    "efficiency_low",
    "efficiency_high",
    "all_reduce_bytes",
    "all_reduce_s",
    "all_reduce_bytes_per_s",
    "all_reduce_share",
)
RESULT_COLUMNS: tuple[str, ...] = (
    "case",
    "status",
    "reason",
    "model",
    "optimizer",
    "loop",
    "backend",
    "device",
    "device_name",
    "batch_size",
    "precision",
    "threads",
    "epochs",
    "seed",
    "launches",
    "rounds",
    "parameters",
    "samples_per_s",
    "samples_per_s_low",
    "samples_per_s_high",
    "step_ms",
    "epoch_s",
    "warmup_s",
    "total_s",
    "train_score",
    "val_score",
    "val_loss",
    "test_score",
    "score_target",
    "score_reached",
    "time_to_score_s",
    "jit_compile",
    "between_epochs_s",
    "evaluation_s",
    "peak_host_memory_bytes",
    "peak_device_memory_bytes",
    *LATER_COLUMNS,
    "warnings",
)
ROUND_COLUMNS: tuple[str, ...] = (
    "case",
    "launch",
    "attempt",
    *(f.name for f in fields(Round)),
)
