"""The output of `fmnist-bench profile`: tables of phases by loop, then details of each case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.phases import Share, Split
from bench.analysis.profile_rows import Profile, memory_rows, startup_rows
from bench.analysis.trace_events import Trace
from bench.backends import DEFAULT, KNOWN
from bench.machine import variables
from bench.reports.formatting import replicas
from bench.schema.case import NETWORK_LOOPS
from bench.schema.launch import Status
from bench.schema.profile import Phase, Variant
from bench.session.profile import ProfileOutcome

MOST_OPERATIONS, MOST_FUNCTIONS = 6, 4
_LONGEST_NAME = 44
_UNSURE = "~"
_MIB = 2**20


def print_profiles(outcome: ProfileOutcome, console: Console) -> None:
    """Print the tables and details of all cases, for 80 columns."""
    fine = [p for p in outcome.profiles if p.split is not None]
    for (title, _), group in groupby(sorted(fine, key=_order), key=_work):
        console.print(Text(title, style="italic"), soft_wrap=True)
        cases = list(group)
        console.print(_table(cases))
        if any(_is_unsure(share) for p in cases if p.split for share in p.split.shares):
            console.print(f"{_UNSURE} below zero in a quarter of the rounds or more")
        console.print()
    for profile in fine:
        for line in _story(profile):
            console.print(Text(line), soft_wrap=True)
        console.print()
    if told := variables.warning(outcome.environment):
        console.print(Text(told), soft_wrap=True)
    for profile in outcome.profiles:
        record = profile.record
        if record.status is not Status.OK:
            line = f"{record.case.id}: {record.status}: {record.reason}"
            console.print(Text(line), soft_wrap=True)


def _order(profile: Profile) -> tuple[Any, ...]:
    return _work(profile), NETWORK_LOOPS.index(profile.case.loop)


def _work(profile: Profile) -> tuple[str, int]:
    """The title of a case's table, with all axes but the loop, and its batch size for sorting."""
    case = profile.case
    parts = [f"{case.model}/{case.optimizer}", case.device, f"batch {case.batch_size}"]
    parts += [case.precision] + ([f"{case.threads} threads"] if case.threads else [])
    parts += [] if case.backend == DEFAULT else [KNOWN[case.backend].title]
    parts.append(replicas(case.replicas, case.processes))
    return ", ".join(filter(None, parts)), case.batch_size


def _table(group: Sequence[Profile]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("of a step")
    for profile in group:
        table.add_column(profile.case.loop, justify="right")
    splits = [profile.split for profile in group if profile.split is not None]
    for phase in Phase:
        style = "dim" if phase is Phase.UNEXPLAINED else ""
        cells = [_cell(split, phase) for split in splits]
        table.add_row(str(phase), *cells, style=style)
    table.add_row("measured", *(f"{duration(s.step_s)}  100%" for s in splits), style="bold")
    return table


def _cell(split: Split, phase: Phase) -> str:
    share = next(share for share in split.shares if share.phase is phase)
    mark = _UNSURE if _is_unsure(share) else ""
    return f"{mark}{duration(share.seconds)}  {share.share:>4.0%}"


def _is_unsure(share: Share) -> bool:
    """Whether a phase was below zero in a quarter of the rounds, so that it may take no time.

    Never for `unexplained`, which is normally near zero.
    """
    return share.phase is not Phase.UNEXPLAINED and share.low < 0


def duration(seconds: float) -> str:
    """Seconds of a step or of a part of it, as text with a unit."""
    size = abs(seconds)
    if size >= 1:
        return f"{seconds:.2f} s"
    if size >= 1e-3:
        return f"{seconds * 1e3:.2f} ms"
    return f"{seconds * 1e6:.1f} \N{MICRO SIGN}s"


def _story(profile: Profile) -> list[str]:
    readings = profile.record.readings
    assert readings is not None
    lines = [profile.case.id]
    lines += [f"  warning: {warning}" for warning in profile.record.warnings]
    rounds = len(readings.wall_s[Variant.STEP])
    lines.append(
        f"  {rounds} rounds of {readings.steps} steps; over a whole epoch, before them, a step "
        f"took {duration(readings.epoch_step_s)}"
    )
    title = KNOWN[profile.case.backend].title
    watching = {Variant.TRACED: f"{title}'s profiler", Variant.SAMPLED: "the sampler"}
    for variant, word in watching.items():
        change = profile.overhead(variant)
        if change is not None:
            more = "longer" if change >= 0 else "less"
            lines.append(f"  under {word} a step takes {abs(change):.0%} {more}")
    stages = [f"{row['stage']} {row['seconds']:.1f}" for row in startup_rows(profile)]
    if stages:
        lines.append(f"  start, s: {', '.join(stages)}")
    lines += _memory(memory_rows(profile.record))
    if profile.trace is not None:
        lines += _traced(profile.trace, readings.traced_steps)
    if (share := profile.collectives_share) is not None:
        lines.append(f"  collectives of the replicas: {share:.0%} of the operations' own time")
    if readings.stack:
        lines.append("  Python's own stack, samples in a function itself:")
        lines += [f"    {share:>4.0%} {name}" for name, share in readings.stack[:MOST_FUNCTIONS]]
    return lines


def _traced(trace: Trace, steps: int) -> list[str]:
    lines = [f"  operations of {steps} traced steps, by their own time:"]
    for found in trace.operations[:MOST_OPERATIONS]:
        rate = f"  {found.flops_per_s / 1e9:.0f} GFLOP/s" if found.flops_per_s else ""
        lines.append(
            f"    {found.share:>4.0%} {duration(found.self_s):>9} {found.count:>5} x "
            f"{shorten(found.name, _LONGEST_NAME)}{rate}"
        )
    lines += [
        f"  {used.device}: kernels {used.kernels_s / used.window_s:.0%}, copies "
        f"{used.copies_s / used.window_s:.0%}, {used.gaps} idle gaps "
        f"{used.gaps_s / used.window_s:.0%} of {duration(used.window_s)}"
        for used in trace.devices
    ]
    return lines


def _memory(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for where in dict.fromkeys(row["where"] for row in rows):
        own = sorted((r for r in rows if r["where"] == where), key=lambda row: -row["bytes"])
        peak = sum(row["bytes"] for row in own)
        held = ", ".join(f"{row['holder']} {row['bytes'] / _MIB:.0f}" for row in own)
        lines.append(f"  memory, peak of the {where} {peak / _MIB:.0f} MiB: {held}")
    return lines


def shorten(name: str, most: int) -> str:
    """A name of at most `most` characters; of a longer one the end, which matters more."""
    return name if len(name) <= most else f"…{name[1 - most :]}"
