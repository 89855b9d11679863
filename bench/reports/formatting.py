"""Numbers and cases as words, for the sentences of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.backends import DEFAULT
from bench.schema.case import AXES, SKLEARN_LOOP
from bench.schema.cells import counted

# From this ratio on, one decimal place is enough.
_LARGE = 1.95


def name(row: Mapping[str, Any]) -> str:
    """A case as text: model, optimizer, loop, batch size and precision.

    Backend and replicas are told where they are not the default.
    """
    parts = [row["model"], row["optimizer"], row["loop"]]
    if row["loop"] != SKLEARN_LOOP:
        parts += [f"batch {row['batch_size']}", row["precision"]]
        parts += [] if row["backend"] == DEFAULT else [row["backend"]]
        parts.append(replicas(row["replicas"], row["processes"]))
    return " ".join(str(part) for part in parts if part)


def replicas(number: int, processes: int) -> str:
    """The replicas of a case, or its processes where each replica has one; empty for one."""
    if number == 1:
        return ""
    return f"{processes} processes" if processes > 1 else f"{number} replicas"


def short_names(rows: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """What tells each case from the others, for the narrow axis of a chart."""
    kept = [axis for axis in AXES if len({row[axis] for row in rows.values()}) > 1] or ["model"]

    def short(row: Mapping[str, object]) -> str:
        """The kept axes of one case."""
        return " · ".join(filter(None, (_axis(a, row[a]) for a in kept)))

    short_of = {case: short(row) for case, row in rows.items()}
    return short_of if len(set(short_of.values())) == len(rows) else {case: case for case in rows}


def _axis(axis: str, value: Any) -> str:
    """The value of an axis; a number with the word that says of what."""
    words = {"batch_size": "batch {}", "replicas": "replicas {}", "processes": "processes {}"}
    return words.get(axis, "{}").format(value or "")


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """The parts of case ids that are not the same in all of them; the ids where that does not
    tell them apart."""
    whole = {case: case for case in ids}
    parts = {case: case.split("-") for case in ids}
    if len({len(own) for own in parts.values()}) > 1:
        return whole
    columns = zip(*parts.values(), strict=True)
    kept = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    short = {case: " · ".join(own[place] for place in kept) for case, own in parts.items()}
    return short if kept else whole


def shared_parts(ids: Sequence[str]) -> str:
    """What `short_ids` leaves out; empty where that is nothing or all."""
    if len(set(ids)) < 2 or list(short_ids(ids).values()) == list(dict.fromkeys(ids)):
        return ""
    columns = zip(*(case.split("-") for case in ids), strict=True)
    return ", ".join(column[0] for column in columns if len(set(column)) == 1)


def spread(ratios: Sequence[float]) -> str:
    """The range in parentheses, with a space before it; empty of one number."""
    return f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""


def give_or_take(value: float, low: float | None, high: float | None) -> str:
    """A ratio with half its interval in percent of it, where it has one: 0.78 ±4%."""
    return f"{value:.2f}{plus_minus(low, high)}"


def plus_minus(low: float | None, high: float | None) -> str:
    """Half an interval in percent, with a space before it; empty where an end is not known."""
    if low is None or high is None:
        return ""
    half = math.sqrt(high / low) - 1
    return f" ±{half:.0%}" if half < 10 else " ±>999%"


def percents(shares: Sequence[float]) -> str:
    """A share, or a range of shares, in percent."""
    low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return low if low == high else f"{low} to {high}"


def times(ratio: float) -> str:
    """A ratio: 1.64 times, 10.4 times."""
    return f"{ratio:.1f} times" if ratio >= _LARGE else f"{ratio:.2f} times"


def disturbed_line(runs: Mapping[str, int]) -> str:
    """Which runs something disturbed, by the number of their cases; empty where none."""
    told = ", ".join(f"{name} ({counted(number, 'case')})" for name, number in runs.items())
    return (
        f"disturbed while it was measured: {told}; `warnings` of results.csv say how"
        if told
        else ""
    )


def one_line(text: str, most: int) -> str:
    """`text` without line breaks and control characters, shortened in the middle: both ends
    of a module path or a device name say more than its middle. `textwrap.shorten` drops the end."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(clean) <= most:
        return clean
    tail = (most - 1) * 2 // 3
    return f"{clean[: most - 1 - tail]}…{clean[-tail:]}"
