"""Events of made-up traces."""

from __future__ import annotations

HOST, GPU = 701, 1


def process(pid, name):
    return {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}


def ran(name, start, length, tid=1, pid=HOST, **args):
    return {
        "ph": "X",
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": start,
        "dur": length,
        "args": args,
    }
