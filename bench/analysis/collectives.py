"""Which operations of a trace are those in which replicas exchange what they computed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.analysis.trace_events import Operation

# XLA's `all-reduce.3` and `all-gather-start`, NCCL's kernels, gloo's and TensorFlow's operations.
_NAMES = re.compile(
    r"all[-_]?(reduce|gather)|reduce[-_]?scatter|collective|nccl|gloo:", re.IGNORECASE
)


def collectives_share(operations: Iterable[Operation]) -> float | None:
    """The share of all self time that collectives take; None where the trace names none.

    On a CPU, time in which a collective waits for the other replicas is its own.
    """
    shares = [found.share for found in operations if _NAMES.search(found.name)]
    return sum(shares) if shares else None
