"""Whether rows and launches of one case did the same work, by the digests that workers report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.schema.columns import Row
from bench.schema.errors import NotComparable
from bench.schema.launch import LaunchRecord
from bench.schema.runs import MeasuredRun

# The columns that must agree where both sides know them, and what a sentence says of each.
WORK: Mapping[str, str] = MappingProxyType(
    {
        "data_digest": "trained on other data",
        "model_digest": "trained another model",
        "score": "was judged by another score",
        "better": "was judged in another direction",
    }
)
# Each launch of a case has its own, so that of the first one is the row's.
OF_ROWS: Mapping[str, str] = MappingProxyType({"initial_weights": "began with other weights"})
_OF_SCORE = ("score", "better")
# A record of an earlier version holds no digest, and a stream's is not known.
UNKNOWN = ("", "unknown", None)


def row_of(record: LaunchRecord) -> Row:
    """The columns of `WORK` of a launch."""
    return {name: str(getattr(record, name)) for name in WORK}


def first_row_of(record: LaunchRecord) -> Row:
    """The columns of `WORK` of a launch, and those that are of one launch."""
    return {**row_of(record), **{name: str(getattr(record, name)) for name in OF_ROWS}}


def other_work(row: Row, other: Row) -> str:
    """In what the work of a row differs from another's, as the verb of a sentence; else empty."""
    for name, said in {**WORK, **OF_ROWS}.items():
        known = row.get(name), other.get(name)
        if any(value in UNKNOWN for value in known):
            continue
        if known[0] != known[1] and _made(name, known[0]) == _made(name, known[1]):
            return said
    return ""


def other_score(row: Row, other: Row) -> str:
    """As `other_work`, of how a row was judged alone."""
    return other_work({name: row.get(name) for name in _OF_SCORE}, other)


def _made(name: str, value: Any) -> str:
    """In which way a model's digest was made; empty for another column. Only alike ones compare."""
    return str(value).rpartition(":")[0] if name == "model_digest" else ""


def apart(runs: Sequence[MeasuredRun]) -> dict[str, str]:
    """Why a case of these runs is not matched, by case: it did other work in one of them."""
    found: dict[str, str] = {}
    seen: dict[tuple[str, str, str], tuple[str, Path]] = {}
    for run in runs:
        for case in run.logs:
            for name, said in {**WORK, **OF_ROWS}.items():
                value = run.rows[case].get(name)
                if value not in UNKNOWN:
                    key = (case, name, _made(name, value))
                    first, where = seen.setdefault(key, (str(value), run.path))
                    if first != value:
                        found.setdefault(case, f"it {said} in {run.path} than in {where}")
    return found


def without(runs: Sequence[MeasuredRun], cases: Mapping[str, str]) -> list[MeasuredRun]:
    """The runs without the figures of these cases."""
    return [
        replace(run, logs={case: own for case, own in run.logs.items() if case not in cases})
        if cases
        else run
        for run in runs
    ]


def refuse_apart(runs: Sequence[MeasuredRun]) -> None:
    """Refuse runs of one machine of which a case did other work in one than in another.

    Raises:
        NotComparable: there is such a case; the message names the first.
    """
    for case, why in apart(runs).items():
        raise NotComparable(f"{case}: {why}: keep runs of different work in different folders")
