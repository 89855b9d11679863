"""Findings about several replicas."""

from __future__ import annotations

from bench.reports.page.finding import Finding, Kind, measured
from bench.reports.page.source import Source
from bench.reports.scaling_words import Scales, how_it_scales
from bench.schema.cells import counted

# With more lines, one finding has them all.
_MOST = 3


def of_replicas(source: Source) -> list[Finding]:
    """How each line of replicas scales, and where it stops; empty where no interval says it."""
    said = how_it_scales(measured(source))
    if len(said) <= _MOST:
        return [Finding(_kind(scales), scales.title, scales.more) for scales in said]
    gain = sum(scales.gains for scales in said)
    title = f"Several replicas are faster than one in {gain} of {counted(len(said), 'line')}"
    kind: Kind = "warning" if any(s.on_one_cpu for s in said) else "gain" if gain else "loss"
    return [Finding(kind, title, "\n".join(scales.line for scales in said))]


def _kind(scales: Scales) -> Kind:
    if scales.on_one_cpu:
        return "warning"
    return "gain" if scales.gains else "loss"
