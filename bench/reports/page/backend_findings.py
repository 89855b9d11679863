"""Findings about the backends of a run that holds several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import geometric_mean

from bench.backends import KNOWN
from bench.reports import formatting
from bench.reports.page.finding import Finding, measured
from bench.reports.page.source import Source
from bench.schema.case import AXES, NETWORK_LOOPS
from bench.schema.cells import counted
from bench.schema.columns import Row

# The backends of one case in one loop.
_Rivals = Mapping[str, Row]
_MODES = {
    "with": frozenset({True}),
    "in some cases with": frozenset({True, False}),
    "not with": frozenset({False}),
}


def fastest_backend(source: Source) -> Finding | None:
    """Which backend is the fastest, and by how much in each loop; None where there is one only."""
    found = _rivals(measured(source))
    if not found:
        return None
    names = {name for rivals in found for name in rivals}
    # No backend wins a case that it is not in, such as `multistep` with PyTorch.
    whole = [rivals for rivals in found if len(rivals) == len(names)]
    ranked, where = (whole, "every backend") if whole else (found, "more than one")
    wins = Counter(max(rivals.values(), key=_speed)["backend"] for rivals in ranked)
    times = max(wins.values())
    best = [title(name) for name in KNOWN if wins[name] == times]
    headline = f"The fastest backend is {best[0]}"
    if len(best) > 1:
        headline = f"No backend is the fastest: {' and '.join(best)} lead in as many cases each"
    loops = [said for loop in NETWORK_LOOPS if (said := _of_loop(loop, found))]
    return Finding(
        "fact",
        headline,
        f"In {times} of {counted(len(ranked), 'case')} that ran on {where}, loop by loop. "
        f"{' '.join(loops)}{_shares(measured(source))}",
    )


def title(backend: str) -> str:
    """A backend as its makers write it."""
    return KNOWN[backend].title if backend in KNOWN else backend


def gains(ratios: Mapping[str, Sequence[float]]) -> str:
    """What a loop gains over `fit` on each backend, as a sentence; empty for one backend."""
    if len(ratios) < 2:
        return ""
    # Means over other cases are not like for like, so their numbers are told.
    alike = len(set(map(len, ratios.values()))) == 1
    said = [
        f"{formatting.times(geometric_mean(found))} with {title(name)}"
        + f" in {counted(len(found), 'case')}" * (not alike)
        for name, found in ratios.items()
    ]
    return f" By backend: {', '.join(said)}."


def _rivals(rows: Sequence[Row]) -> list[_Rivals]:
    """The cases that differ in the backend alone.

    Or in the processes of their replicas too, where each backend has one form: not every backend
    has both.
    """
    known = [row for row in rows if row["backend"] in KNOWN]
    groups: list[_Rivals] = []
    for group in _grouped(known, ("backend", "processes")):
        names = {row["backend"]: row for row in group}
        if len(names) == len(group):
            groups.append(names)
        else:
            of_one_form = _grouped(group, ("backend",))
            groups += ({row["backend"]: row for row in form} for form in of_one_form)
    return [rivals for rivals in groups if len(rivals) > 1]


def _grouped(rows: Sequence[Row], apart: Sequence[str]) -> list[list[Row]]:
    """The rows that differ in these axes alone."""
    axes = [axis for axis in AXES if axis not in apart]
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[axis] for axis in axes), []).append(row)
    return list(groups.values())


def _of_loop(loop: str, found: Sequence[_Rivals]) -> str:
    """How fast the backends are in a loop beside the first of them, and what each compiles."""
    here = [rivals for rivals in found if next(iter(rivals.values()))["loop"] == loop]
    names = [name for name in KNOWN if any(name in rivals for rivals in here)]
    if len(names) < 2:
        return ""
    first = names[0]
    said = []
    for name in names[1:]:
        both = [rivals for rivals in here if first in rivals and name in rivals]
        if both:
            ratio = geometric_mean([_speed(r[name]) / _speed(r[first]) for r in both])
            said.append(f"{title(name)} {formatting.times(ratio)}")
    if not said:
        return ""
    text = f"In {loop}, over {title(first)}: {', '.join(said)}."
    modes = {name: _compiled(name, here) for name in names}
    if len(set(modes.values())) > 1:
        # Otherwise two modes of compilation would pass for two frameworks.
        told = [
            f"{how} {' and '.join(own)}"
            for how, mode in _MODES.items()
            if (own := [title(name) for name in names if modes[name] == mode])
        ]
        text += f" There Keras compiles the step {', and '.join(told)}."
    return text


def _shares(rows: Sequence[Row]) -> str:
    """What a step of `fit` spends outside of what `compiled` needs, by backend, as a sentence."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["framework_overhead"] is not None and row["framework_overhead"] >= 0:
            found.setdefault(row["backend"], []).append(row["framework_overhead"])
    if len(found) < 2:
        return ""
    said = [f"{title(name)} {formatting.percents(shares)}" for name, shares in found.items()]
    return (
        " The framework's share of a fit step, Python and the input pipeline in it: "
        f"{', '.join(said)}."
    )


def _compiled(name: str, here: Sequence[_Rivals]) -> frozenset[bool]:
    """Whether a backend compiled the step: both, where it did in some cases alone."""
    return frozenset(bool(rivals[name]["jit_compile"]) for rivals in here if name in rivals)


def _speed(row: Row) -> float:
    return float(row["samples_per_s"])
