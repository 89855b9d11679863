"""Findings about several replicas: how they scale in a run, and which run scales better."""

from __future__ import annotations

from bench.reports.page.finding import Finding, Kind, measured
from bench.reports.page.source import Source
from bench.reports.scaling_compared import efficiency_lines
from bench.reports.scaling_words import Scales, how_it_scales
from bench.schema.cells import counted
from bench.schema.warnings import Kind as Warned
from bench.verdicts.compare import Comparison

# With more lines, one finding has them all.
_MOST = 3


def of_replicas(source: Source) -> list[Finding]:
    """How each line of replicas scales, and where it stops; empty where no interval says it."""
    said = how_it_scales(measured(source))
    if len(said) <= _MOST:
        return [Finding(_kind(scales), scales.title, scales.more) for scales in said]
    gain = sum(scales.gains for scales in said)
    title = (
        f"Several replicas train more samples/s than one in {gain} of {counted(len(said), 'line')}"
    )
    kind: Kind = "warning" if any(s.on_one_cpu for s in said) else "gain" if gain else "loss"
    return [Finding(kind, title, "\n".join(scales.line for scales in said))]


def of_efficiencies(found: Comparison) -> list[Finding]:
    """Which run scales better than the baseline; empty where the test does not say it."""
    said = []
    for name, cases in found.scaled.items():
        told = [case for case in cases if case.is_better is not None]
        if not told:
            continue
        better = sum(case.is_better is True for case in told)
        ways = {"better": better, "worse": len(told) - better}
        counts = " and ".join(f"{way} in {number}" for way, number in ways.items() if number)
        title = f"{name} scales {counts} of {counted(len(cases), 'case')}"
        kind: Kind = "gain" if not ways["worse"] else "fact" if better else "loss"
        lines = efficiency_lines(told, name, found.baseline)
        if any(case.on_one_cpu for case in told):
            kind, lines = "warning", [f"Warning: {Warned.ONE_CPU.value}.", *lines]
        said.append(Finding(kind, title, "\n".join(lines)))
    return said


def _kind(scales: Scales) -> Kind:
    if scales.on_one_cpu:
        return "warning"
    return "gain" if scales.gains else "loss"
