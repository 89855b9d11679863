"""Events of made-up traces."""

from __future__ import annotations

from typing import Any

HOST, GPU = 701, 1


def process(pid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}


def ran(
    name: str, start: float, length: float, tid: int = 1, pid: int = HOST, **args: Any
) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": start,
        "dur": length,
        "args": args,
    }
