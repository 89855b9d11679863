"""Findings about the backends of a run that holds several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import geometric_mean

from bench.backends import KNOWN
from bench.reports import formatting
from bench.reports.page.finding import Finding, measured
from bench.reports.page.source import Source
from bench.schema.case import NETWORK_LOOPS
from bench.schema.cells import counted
from bench.schema.columns import Row

# The backends of one case in one loop.
_Rivals = Mapping[str, Row]


def fastest_backend(source: Source) -> Finding | None:
    """Which backend is the fastest, and by how much in each loop; None where there is one only."""
    found = _rivals(measured(source))
    if not found:
        return None
    wins = Counter(max(rivals.values(), key=_speed)["backend"] for rivals in found)
    best, times = wins.most_common(1)[0]
    loops = [said for loop in NETWORK_LOOPS if (said := _of_loop(loop, found))]
    shares = _shares(measured(source))
    return Finding(
        "fact",
        f"The fastest backend is {title(best)}",
        f"In {times} of {counted(len(found), 'case')} that ran on more than one, loop by loop. "
        f"{' '.join(loops)}{shares}",
    )


def title(backend: str) -> str:
    """A backend as its makers write it."""
    return KNOWN[backend].title if backend in KNOWN else backend


def gains(ratios: Mapping[str, Sequence[float]]) -> str:
    """What a loop gains over `fit` on each backend, as a sentence; empty for one backend."""
    if len(ratios) < 2:
        return ""
    said = [f"{formatting.times(geometric_mean(r))} with {title(b)}" for b, r in ratios.items()]
    return f" By backend: {', '.join(said)}."


def _rivals(rows: Sequence[Row]) -> list[_Rivals]:
    axes = ("model", "optimizer", "loop", "device", "batch_size", "precision", "threads")
    groups: dict[tuple[object, ...], dict[str, Row]] = {}
    for row in rows:
        if row["backend"] in KNOWN:
            groups.setdefault(tuple(row[axis] for axis in axes), {})[row["backend"]] = row
    return [rivals for rivals in groups.values() if len(rivals) > 1]


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
        compiled = [title(name) for name in names if modes[name]]
        others = [title(name) for name in names if not modes[name]]
        # Otherwise two modes of compilation would pass for two frameworks.
        text += (
            f" There Keras compiles the step with {' and '.join(compiled)}, and not with "
            f"{' and '.join(others)}."
        )
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


def _compiled(name: str, here: Sequence[_Rivals]) -> bool:
    return any(bool(rivals[name]["jit_compile"]) for rivals in here if name in rivals)


def _speed(row: Row) -> float:
    return float(row["samples_per_s"])
