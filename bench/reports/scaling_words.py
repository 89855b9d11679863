"""How several replicas scale, in words: said only where the intervals say it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.reports.scaling_data import Sweep, batch_words, sweeps
from bench.reports.scores import in_digits
from bench.schema.case import AXES, WEAK, Case
from bench.schema.columns import Row
from bench.schema.score import Scale
from bench.schema.warnings import Kind, on_one_cpu

# A gain below this is called next to nothing; its bound is told.
_WORTH_A_WORD = 1.1
# From this ratio on, one decimal place is enough.
_LARGE = 1.95


@dataclass(frozen=True, slots=True)
class Scales:
    """What a line of cases says.

    Attributes:
        title: how much faster it trains, and with how many replicas.
        more: what explains it, and where it stops, as sentences; on a CPU first that it means
            nothing.
        gains: whether several replicas are faster than one.
        on_one_cpu: whether they share the cores of a CPU.
    """

    title: str
    more: str
    gains: bool
    on_one_cpu: bool

    @property
    def line(self) -> str:
        """All of it on one line."""
        return f"{self.title}. {self.more}".strip()


@dataclass(frozen=True, slots=True)
class _Speed:
    """The speed-up of some replicas, with the ends of its interval; of one it is 1."""

    replicas: int = 1
    times: float = 1.0
    low: float = 1.0
    high: float = 1.0


def how_it_scales(rows: Iterable[Row]) -> list[Scales]:
    """What the rows of a run say of each line of replicas; a line that says nothing is left out."""
    every = {row["case"]: row for row in rows}
    return [said for sweep in sweeps(every.values()) if (said := _said(sweep, every))]


def _said(sweep: Sweep, every: Mapping[str, Row]) -> Scales | None:
    known = {speed.replicas: row for row in sweep.rows if (speed := _speed(row))}
    best, stop = _Speed(), ""
    for row in known.values():
        speed = _speed(row)
        if speed is None:
            continue
        low, high = _ratio(speed, best)
        if low > 1:
            best, stop = speed, ""
        elif not stop and high < _WORTH_A_WORD:
            stop = _stop(best, speed, high, _as_fast(sweep))
    if best.replicas == 1 and not stop:
        return None
    first = sweep.rows[0]
    name = _name(first) + (f" ({sweep.apart})" if sweep.apart else "")
    if best.replicas > 1:
        row = known[best.replicas]
        than = "of one" if sweep.scaling == WEAK else "as one"
        title = (
            f"{name}: {best.replicas} replicas train {_interval(best)} {_as_fast(sweep)} {than}: "
            f"efficiency {row['efficiency']:.2f}"
        )
        more = [_all_reduce(row), stop]
        if sweep.scaling == WEAK:
            more.insert(0, _score(row, every.get(_alone(row))))
    else:
        title, more = f"{name}: {stop[0].lower()}{stop[1:-1]}", [_all_reduce(first)]
    if on_one_cpu(first):
        told = Kind.ONE_CPU.value
        more.insert(0, f"{told[0].upper()}{told[1:]}.")
    return Scales(title, " ".join(filter(None, more)), best.replicas > 1, on_one_cpu(first))


def _as_fast(sweep: Sweep) -> str:
    """What a ratio is of: in weak scaling another training, with as many times the batch."""
    return "times the samples/s" if sweep.scaling == WEAK else "times as fast"


def _alone(row: Row) -> str:
    """The case of one replica that a row is compared with."""
    return Case(**{axis: row[axis] for axis in AXES}).alone(row["scaling"]).id


def _score(row: Row, one: Row | None) -> str:
    """How the score differs from that of one replica, as a sentence; empty where not known."""
    if one is None or None in (row["val_score"], one["val_score"]):
        return ""
    scale = Scale.of_row(one)
    change = scale.difference(row["val_score"] - one["val_score"])
    values = (in_digits(scale.name, side["val_score"], 4) for side in (row, one))
    told = " against ".join(values)
    unit = scale.sign or " points"
    return f"Validation {scale.name} {told} of one: {change:+.2f}{unit}."


def _name(row: Row) -> str:
    """What is trained, and how, without the number of replicas."""
    model = "/".join(filter(None, (row["model"], row["optimizer"])))
    return f"{model} {row['loop']} at {batch_words(row)}"


def _speed(row: Row) -> _Speed | None:
    """The speed-up of a row; None without an interval."""
    if row["efficiency_low"] is None or row["efficiency_high"] is None:
        return None
    number = row["replicas"]
    ends = row["efficiency_low"] * number, row["efficiency_high"] * number
    return _Speed(number, row["speedup"], *ends)


def _ratio(more: _Speed, fewer: _Speed) -> tuple[float, float]:
    """The interval of a speed-up over another.

    Both are over the same launches of one replica, so that their errors go the same way: as if
    they were independent, the interval is rather too wide.
    """
    halves = (math.log(speed.high / speed.low) / 2 for speed in (more, fewer))
    half = math.hypot(*halves)
    middle = math.log(more.times / fewer.times)
    return math.exp(middle - half), math.exp(middle + half)


def _stop(best: _Speed, more: _Speed, most: float, as_fast: str) -> str:
    """That more replicas gain next to nothing, as a sentence."""
    step = f"From {best.replicas} to {more.replicas} replicas"
    if most < 1:
        return f"{step} it gets slower: {more.times / best.times:.2f} {as_fast}."
    return f"{step} next to nothing is gained: at most {most:.2f} {as_fast}."


def _interval(speed: _Speed) -> str:
    digits = 1 if speed.times >= _LARGE else 2
    return f"{speed.times:.{digits}f} ({speed.low:.{digits}f} to {speed.high:.{digits}f})"


def _all_reduce(row: Row) -> str:
    """What the all-reduce alone takes, as a sentence; empty where it was not measured."""
    share = row["all_reduce_share"]
    if share is None:
        return ""
    rate = row["all_reduce_bytes_per_s"]
    at = "" if rate is None else f", at {rate / 1e9:.2g} GB/s"
    return f"The all-reduce alone takes {share:.2f} of a step{at}."


def scaling_title(scaling: str) -> str:
    """What stays the same in a kind of scaling, in words."""
    if scaling == WEAK:
        return "Weak scaling: the batch of each replica stays the same"
    return "Strong scaling: the batch of all replicas together stays the same"
