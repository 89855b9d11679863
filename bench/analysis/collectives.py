"""Which operations of a trace are those in which replicas exchange what they computed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.analysis.trace_events import Operation

# XLA's `all-reduce.3` and `all-gather-start`, NCCL's kernels, TensorFlow's `CollectiveReduceV2`.
_NAMES = re.compile(r"all[-_]?(reduce|gather)|reduce[-_]?scatter|collective|nccl", re.IGNORECASE)
# TensorFlow's `path/name (Kind)`: the path holds names of the user's.
_KIND = re.compile(r"\(([^()]*)\)$")
_ON_DEVICE = ("kernel", "copy")


def collectives_share(operations: Iterable[Operation]) -> float | None:
    """The share of all self time that collectives take; None where the trace names none.

    Where the trace holds what ran on GPUs, of that alone: the host's operation that starts a
    kernel has the same collective once more. On a CPU, time in which a collective waits for the
    other replicas is its own.
    """
    found = list(operations)
    ran = [one for one in found if one.kind in _ON_DEVICE] or found
    own = [one.self_s for one in ran if _NAMES.search(_kind(one))]
    whole = sum(one.self_s for one in ran)
    return sum(own) / whole if own and whole else None


def _kind(operation: Operation) -> str:
    """What an operation is, without the names that lead to it."""
    kind = _KIND.search(operation.name) if operation.kind == "TensorFlow" else None
    return kind.group(1) if kind else operation.name.rpartition("/")[2]
