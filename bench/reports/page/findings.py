"""Findings of a run as sentences, made from its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import geometric_mean

from bench.analysis.roofline import OVERHEAD_FRACTION, Bound
from bench.analysis.rows import sibling
from bench.analysis.scaling import asked_batch
from bench.reports import formatting
from bench.reports.page.backend_findings import fastest_backend, gains
from bench.reports.page.finding import Finding, Kind, measured
from bench.reports.page.records import other_backend
from bench.reports.page.scaling_findings import of_efficiencies, of_replicas
from bench.reports.page.score_findings import (
    best_for_the_time,
    change_on_average,
    scores_against,
    scores_of_loops,
    waits,
)
from bench.reports.page.source import Source
from bench.reports.page.works import works
from bench.reports.selection import base_setting, not_drawn
from bench.reports.terminal.run import compiled_over_fit
from bench.schema.case import AXES, LOOPS, PRECISIONS, SKLEARN_LOOP
from bench.schema.cells import counted
from bench.schema.columns import Row
from bench.schema.warnings import Kind as WarningKind
from bench.schema.warnings import of_row
from bench.verdicts.compare import Comparison

_WAITS = {Bound.COMPUTE: "arithmetic", Bound.MEMORY: "memory"}
# A ratio closer to 1 is called the same; this decides the wording only, no verdict.
_WORTH_A_WORD = 1.05
Maker = Callable[[Source], Finding | None]


def findings(source: Source) -> list[Finding]:
    """The findings of one run, the most important first; those without data are left out."""
    first: tuple[Maker, ...] = (
        fastest_backend,
        _fastest_loop,
        _gain_maker("compiled"),
        _gain_maker("multistep"),
        waits,
    )
    last: tuple[Maker, ...] = (
        best_for_the_time,
        _batch_size,
        *(_precision_maker(precision) for precision in PRECISIONS if precision != "float32"),
        _bounds,
        _without_figure,
        _noise,
    )
    return [
        *(finding for make in first if (finding := make(source))),
        *of_replicas(source),
        *scores_of_loops(source),
        *(finding for make in last if (finding := make(source))),
    ]


def comparison_findings(found: Comparison) -> list[Finding]:
    """The findings of a comparison: one for each candidate, and one for cases of different work."""
    said = []
    for name, total in found.summaries.items():
        mean = total.geometric_mean
        beyond = [
            p
            for p in found.pairs[name]
            if p.low is not None and p.high is not None and (p.low > 1 or p.high < 1)
        ]
        held = sum(p.low is not None for p in found.pairs[name])
        text = (
            f"Geometric mean over {counted(total.cases, 'case')} that all runs hold; "
            f"{total.lowest:.2f} to {total.highest:.2f} case by case. All of them together take "
            f"{1 / total.total_time_ratio:.2f} times as long."
        )
        if held:
            text += f" In {len(beyond)} of {held} cases the 95% interval leaves out 1."
        kind: Kind = "gain" if mean >= _WORTH_A_WORD else "fact"
        kind = "loss" if mean <= 1 / _WORTH_A_WORD else kind
        said.append(
            Finding(kind, f"{name}: {mean:.2f} times the samples/s of {found.baseline}", text)
        )
    said += of_efficiencies(found)
    if found.apart:
        told = "; ".join(f"{case}: {why}" for case, why in found.apart.items())
        number = counted(len(found.apart), "case")
        said.append(Finding("warning", f"{number} not compared: different work", f"{told}."))
    return said


def _fastest_loop(source: Source) -> Finding | None:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in measured(source):
        groups.setdefault(tuple(row[axis] for axis in AXES if axis != "loop"), []).append(row)
    rivals = [rows for rows in groups.values() if len(rows) > 1]
    if not rivals:
        return None
    wins = Counter(max(rows, key=lambda r: r["samples_per_s"])["loop"] for rows in rivals)
    loop, times = wins.most_common(1)[0]
    return Finding(
        "fact",
        f"The fastest loop is {loop}",
        f"In {times} of {counted(len(rivals), 'case')} that ran in more than one loop. "
        f"{_highest_throughput(source)}",
    )


def _highest_throughput(source: Source) -> str:
    """The highest throughput of each kind of work, as a sentence."""
    best = [(work, max(work.rows, key=lambda r: r["samples_per_s"])) for work in works(source)]
    if len(best) == 1:
        ((_, row),) = best
        speed = f"{row['samples_per_s']:,.0f} samples/s"
        return f"The highest throughput is {speed}: {formatting.name(row)}."
    said = [f"{work.name} {row['samples_per_s']:,.0f} ({work.called(row)})" for work, row in best]
    return f"The highest of each kind of work, in samples/s: {', '.join(said)}."


def _gain_maker(loop: str) -> Callable[[Source], Finding | None]:
    def make(source: Source) -> Finding | None:
        """The loop's throughput over that of `fit`, at the base setting."""
        rows = measured(source)
        base = base_setting(list(source.points.values()))
        by_backend: dict[str, list[float]] = {}
        for row in rows:
            if row["loop"] == loop and (asked_batch(row), row["precision"]) == base:
                ratio = compiled_over_fit(row, rows)
                if ratio is not None:
                    by_backend.setdefault(row["backend"], []).append(ratio)
        ratios = [ratio for found in by_backend.values() for ratio in found]
        if not ratios or base is None:
            return None
        mean = geometric_mean(ratios)
        text = (
            f"At batch size {base[0]} in {base[1]}: geometric mean of "
            f"{counted(len(ratios), 'case')}{formatting.spread(ratios)}."
        ) + gains(by_backend)
        if loop == "compiled":
            text += _overhead(rows, base[1])
        title = f"{loop} trains {formatting.times(mean)} as many samples a second as fit"
        return Finding("gain" if mean > 1 else "loss", title, text)

    return make


def _overhead(rows: Sequence[Row], precision: str) -> str:
    """The framework's share of a fit step at each batch size, and where it has none, in words."""
    told = [r for r in rows if r["framework_overhead"] is not None and r["precision"] == precision]
    shares: dict[int, list[float]] = {}
    for row in told:
        if row["framework_overhead"] >= 0:
            shares.setdefault(row["batch_size"], []).append(row["framework_overhead"])
    said = [f"{formatting.percents(shares[size])} at {size}" for size in sorted(shares)]
    text = f" The framework's share of a fit step, by batch size: {', '.join(said)}." * bool(said)
    if slower := len(told) - sum(map(len, shares.values())):
        text += (
            f" In {slower} of {counted(len(told), 'case')} compiled is slower: its program is "
            "slower than the framework's own kernels, as with convolutions on a CPU."
        )
    return text


def _batch_size(source: Source) -> Finding | None:
    """The sweep with the most batch sizes, of its fastest loop."""
    sweeps: dict[tuple[object, ...], list[Row]] = {}
    for row in measured(source):
        if row["loop"] != SKLEARN_LOOP:
            same = tuple(row[axis] for axis in AXES if axis != "batch_size")
            sweeps.setdefault(same, []).append(row)
    swept = [rows for rows in sweeps.values() if len(rows) > 1]
    if not swept:
        return None
    rows = max(swept, key=lambda rs: (len(rs), max(r["samples_per_s"] for r in rs)))
    small, best = (
        min(rows, key=lambda r: r["batch_size"]),
        max(rows, key=lambda r: r["samples_per_s"]),
    )
    gain = best["samples_per_s"] / small["samples_per_s"]
    text = (
        f"It trains {formatting.times(gain)} as many samples a second as at {small['batch_size']}"
    )
    if best is small:
        text = "The smallest that was measured: larger ones gain nothing"
    else:
        text += scores_against(best, small)
    first = rows[0]
    named = (first["model"], first["optimizer"], first["loop"], other_backend(first))
    spread = formatting.replicas(first["replicas"], first["processes"])
    what = " ".join(filter(None, (*named, spread)))
    return Finding("fact", f"{what} is fastest at batch size {best['batch_size']}", text + ".")


def _precision_maker(precision: str) -> Callable[[Source], Finding | None]:
    def make(source: Source) -> Finding | None:
        """The throughput and score of `precision` compared with float32."""
        rows = measured(source)
        pairs = [
            (row, plain)
            for row in rows
            if row["precision"] == precision and (plain := sibling(row, rows, precision="float32"))
        ]
        if not pairs:
            return None
        ratios = [row["samples_per_s"] / plain["samples_per_s"] for row, plain in pairs]
        judged = [pair for pair in pairs if all(row["samples_per_s_low"] for row in pair)]
        apart = sum(_apart(pair) for pair in judged)
        kind, verdict = _verdict(ratios)
        by_loop = {
            loop: [
                ratio for ratio, (row, _) in zip(ratios, pairs, strict=True) if row["loop"] == loop
            ]
            for loop in LOOPS
        }
        said = ", ".join(
            f"{loop} {geometric_mean(own):.2f}{formatting.spread(own)}"
            for loop, own in by_loop.items()
            if own
        )
        text = f"Throughput over that of float32: {said}."
        if judged:
            text += (
                f" The intervals lie apart in {apart} of {counted(len(judged), 'case')} with "
                "several launches on both sides."
            )
        return Finding(kind, f"{precision} {verdict}", text + change_on_average(pairs))

    return make


def _bounds(source: Source) -> Finding | None:
    judged = [row for row in measured(source) if row["bound"]]
    if not judged:
        return None
    counts = Counter(row["bound"] for row in judged)
    best = max(judged, key=lambda row: row["roofline_fraction"])
    others = ", ".join(f"{counts[b]} wait for {word}" for b, word in _WAITS.items() if counts[b])
    by_loop = Counter(row["loop"] for row in judged if row["bound"] == Bound.OVERHEAD)
    where = ", ".join(f"{count} in {loop}" for loop, count in by_loop.items())
    text = (
        f"They reach less than {OVERHEAD_FRACTION:g} of their roofline ({where}). " if where else ""
    )
    text += f"{others}. " if others else ""
    text += f"Nearest to the roof: {formatting.name(best)}, at {best['roofline_fraction']:.2f}."
    return Finding(
        "fact" if not where else "loss",
        f"{counts[Bound.OVERHEAD]} of {counted(len(judged), 'case')} wait for overhead, neither "
        "for arithmetic nor for memory",
        text,
    )


def _without_figure(source: Source) -> Finding | None:
    missing = not_drawn(source.rows)
    if not missing:
        return None
    said = ", ".join(f"{count} {status}" for status, count in missing.most_common())
    number = sum(missing.values())
    return Finding(
        "warning", f"{counted(number, 'case')} without a figure: {said}", "Reasons are below."
    )


def _noise(source: Source) -> Finding | None:
    every = [of_row(row) for row in measured(source)]
    counts = {
        "unsteady": sum(any(w.kind is WarningKind.UNSTEADY for w in found) for found in every),
        "disturbed": sum(any(w.disturbs for w in found) for found in every),
    }
    said = " and ".join(f"{count} {word}" for word, count in counts.items() if count)
    if not said:
        return None
    return Finding(
        "warning",
        f"Of {counted(len(every), 'case')}, {said}",
        "Look at the raw rounds before you trust a small difference there.",
    )


def _apart(pair: tuple[Row, Row]) -> bool:
    """Whether the two intervals do not overlap."""
    (low, high), (other_low, other_high) = (
        (row["samples_per_s_low"], row["samples_per_s_high"]) for row in pair
    )
    return bool(low > other_high or other_low > high)


def _verdict(ratios: Sequence[float]) -> tuple[Kind, str]:
    faster = sum(ratio >= _WORTH_A_WORD for ratio in ratios)
    slower = sum(ratio <= 1 / _WORTH_A_WORD for ratio in ratios)
    of_all = f"of {counted(len(ratios), 'case')}"
    if faster and slower:
        return "fact", f"helps in {faster} and hurts in {slower} {of_all}"
    if faster:
        return "gain", f"helps in {faster} {of_all}"
    if slower:
        return "loss", f"hurts in {slower} {of_all}, and helps in none"
    return "fact", f"is as fast as float32, within 5%, in all {of_all}"
