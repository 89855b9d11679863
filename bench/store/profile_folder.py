"""Writes the tables of a profile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.analysis.profile_rows import (
    DEVICE_COLUMNS,
    MEMORY_COLUMNS,
    OPERATION_COLUMNS,
    PHASE_COLUMNS,
    STARTUP_COLUMNS,
    Profile,
    device_rows,
    memory_rows,
    operation_rows,
    phase_rows,
    startup_rows,
)
from bench.store.tables import write_csv, write_text


def write_tables(profiles: Sequence[Profile], folder: Path) -> None:
    """Write profile.csv and the other tables, and the raw readings as profiles.jsonl."""
    tables: dict[str, tuple[tuple[str, ...], list[dict[str, Any]]]] = {
        "profile.csv": (PHASE_COLUMNS, [row for p in profiles for row in phase_rows(p)]),
        "operations.csv": (OPERATION_COLUMNS, [row for p in profiles for row in operation_rows(p)]),
        "memory.csv": (MEMORY_COLUMNS, [row for p in profiles for row in memory_rows(p.record)]),
        "startup.csv": (STARTUP_COLUMNS, [row for p in profiles for row in startup_rows(p)]),
    }
    on_devices = [row for p in profiles for row in device_rows(p)]
    if on_devices:
        tables["devices.csv"] = (DEVICE_COLUMNS, on_devices)
    for name, (columns, rows) in tables.items():
        write_csv(folder / name, columns, rows)
    lines = [json.dumps(p.record.to_json(), ensure_ascii=False) for p in profiles]
    write_text(folder / "profiles.jsonl", "\n".join(lines) + "\n")
