"""Chooses the lines of efficiency against replicas from the rows of runs; draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.scaling import asked_batch
from bench.backends import DEFAULT, KNOWN
from bench.schema.case import LOOPS, SCALINGS, WEAK
from bench.schema.cells import counted
from bench.schema.columns import Row
from bench.schema.launch import Status

# The parts of a line's name that a sentence about it has in any case.
_NAMED = 3
# An axis of efficiencies ends there: with few launches an interval may end anywhere.
_HIGHEST = 1.6
# Not told where all lines have it.
_USUAL = KNOWN[DEFAULT].title


@dataclass(frozen=True, slots=True)
class Sweep:
    """The cases that differ in their number of replicas alone: one line of the picture.

    Attributes:
        name: what tells it from the others of its kind of scaling, but the loop.
        apart: the same without model, optimizer and batch size.
        common: what it has in common with the others.
        rows: those with an efficiency, the fewest replicas first.
    """

    name: str
    apart: str
    common: str
    rows: tuple[Row, ...]

    @property
    def scaling(self) -> str:
        """How the batch grows with the replicas, `strong` or `weak`."""
        return str(self.rows[0]["scaling"])

    @property
    def label(self) -> str:
        """The loop and the name."""
        return " · ".join(filter(None, (self.rows[0]["loop"], self.name)))


def with_efficiency(rows: Iterable[Row]) -> list[Row]:
    """The rows of several replicas whose efficiency is known."""
    return [r for r in rows if r["status"] == Status.OK and r["efficiency"] is not None]


def sweep_key(row: Row) -> tuple[Any, ...]:
    """What the cases of one line have in common."""
    axes = ("scaling", "loop", "model", "optimizer", "device", "precision", "threads", "backend")
    return (*(row[axis] for axis in axes), asked_batch(row), row["processes"] > 1)


def sweeps(rows: Iterable[Row]) -> list[Sweep]:
    """The lines of these rows, strong scaling first, then loop by loop."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in with_efficiency(rows):
        found.setdefault(sweep_key(row), []).append(row)
    order = sorted(found, key=lambda key: (SCALINGS.index(key[0]), LOOPS.index(key[1])))
    lines = []
    for scaling in SCALINGS:
        own = {key: _parts(found[key][0]) for key in order if key[0] == scaling}
        differ = [len(set(values)) > 1 for values in zip(*own.values(), strict=True)]
        for key, parts in own.items():
            common = [part for part in _those(parts, differ, False) if part != _USUAL]
            lines.append(
                Sweep(
                    " · ".join(_those(parts, differ, True)),
                    ", ".join(_those(parts[_NAMED:], differ[_NAMED:], True)),
                    ", ".join(common),
                    tuple(sorted(found[key], key=lambda row: row["replicas"])),
                )
            )
    return lines


def line_names(rows: Iterable[Row]) -> Mapping[tuple[Any, ...], str]:
    """The name of each line of these rows, by its key."""
    return {sweep_key(sweep.rows[0]): sweep.name for sweep in sweeps(rows)}


def highest(rows: Sequence[Mapping[str, Any]]) -> float:
    """Where an axis ends that shows the efficiencies of these rows, and their intervals if it can.

    All efficiencies are below it.
    """
    values = [1.0, *(row["efficiency"] for row in rows)]
    ends = [row["efficiency_high"] or 0.0 for row in rows]
    return float(max(1.08 * max(values), min(1.05 * max(ends), _HIGHEST)))


def batch_words(row: Row) -> str:
    """The batch size of a line, in weak scaling that of one replica."""
    return f"batch {asked_batch(row)}" + " a replica" * bool(row["scaling"] == WEAK)


def _parts(row: Row) -> tuple[str, ...]:
    """What names a line; empty where it is the usual thing."""
    return (
        row["model"],
        row["optimizer"],
        batch_words(row),
        row["device"],
        "" if row["threads"] is None else counted(row["threads"], "thread"),
        KNOWN[row["backend"]].title,
        row["precision"],
        "a process each" if row["processes"] > 1 else "",
    )


def _those(parts: Sequence[str], differ: Sequence[bool], wanted: bool) -> list[str]:
    """The parts that tell lines apart, or those that do not."""
    return [part for part, differs in zip(parts, differ, strict=True) if part and differs is wanted]
