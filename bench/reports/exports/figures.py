"""The figures of a run that other tools take, and what of it is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.schema.columns import Row
from bench.schema.launch import Better, Status
from bench.schema.runs import MeasuredRun
from fmnist_models.errors import UserError


class Quantity(StrEnum):
    """What a figure is of; its value is in the unit of `UNITS`."""

    THROUGHPUT = "throughput"
    SAMPLE = "time per sample"
    STEP = "time per step"
    EPOCH = "time per epoch"
    SCORE = "score"
    TO_TARGET = "time to the target"
    HOST_MEMORY = "peak host memory"
    DEVICE_MEMORY = "peak device memory"


UNITS: Mapping[Quantity, str] = {
    Quantity.THROUGHPUT: "samples/s",
    Quantity.SAMPLE: "s",
    Quantity.STEP: "s",
    Quantity.EPOCH: "s",
    Quantity.SCORE: "",
    Quantity.TO_TARGET: "s",
    Quantity.HOST_MEMORY: "bytes",
    Quantity.DEVICE_MEMORY: "bytes",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One finite number of a case.

    Attributes:
        low, high: ends of its 95% interval; None where the run computed none.
        better: its good direction.
    """

    value: float
    low: float | None = None
    high: float | None = None
    better: Better = Better.MIN


@dataclass(frozen=True, slots=True)
class Exported:
    """A case that ended ok, with its figures."""

    row: Row
    figures: Mapping[Quantity, Figure]


@dataclass(frozen=True, slots=True)
class Export:
    """The text of a file, and what a person must be told about it, a line each."""

    text: str
    told: tuple[str, ...] = ()


def exported(run: MeasuredRun) -> tuple[list[Exported], tuple[str, ...]]:
    """The cases that ended ok, and a line for each case or figure that is left out.

    Raises:
        UserError: no case ended ok.
    """
    cases, left_out = [], []
    for case, row in run.rows.items():
        if row["status"] != Status.OK:
            left_out.append(f"{case}: left out: {row['status']}: {row['reason']}")
            continue
        known = _figures(row)
        numbers = {what: figure for what, figure in known.items() if math.isfinite(figure.value)}
        left_out += [
            f"{case}: left out: its {row['score'] if what is Quantity.SCORE else what} is "
            f"{known[what].value}, which is no number"
            for what in known
            if what not in numbers
        ]
        cases.append(Exported(row, numbers))
    if not cases:
        raise UserError(
            f"{run.path}: none of its cases ended ok: finish it with fmnist-bench run --resume "
            f"{run.path}, or measure anew"
        )
    return cases, tuple(left_out)


def text_of_interval(figure: Figure) -> str:
    """The ends of an interval as text; empty where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{figure.low:.6g} to {figure.high:.6g} (95% interval)"


def version_of(run: MeasuredRun) -> str:
    """The suite that measured, with its version and revision as far as they are known."""
    version = (run.environment.get("versions") or {}).get("fmnist-bench")
    git = run.environment.get("git") or {}
    told = [f"fmnist-bench {version}" if version else "fmnist-bench"]
    if git.get("revision"):
        told.append(f"revision {git['revision'][:12]}{' with changes' if git.get('dirty') else ''}")
    return ", ".join(told)


def _figures(row: Row) -> dict[Quantity, Figure]:
    """The figures of a row that it knows, in the order of `Quantity`."""
    rate, low, high = (row[f"samples_per_s{end}"] for end in ("", "_low", "_high"))

    def seconds(value: float) -> Figure:
        """A time that is a constant over the throughput, with the interval that follows."""
        if not (low and high):
            return Figure(value)
        return _with_ends(value, value * rate / high, value * rate / low, Better.MIN)

    def plain(value: float) -> Figure:
        """A figure that the run computes no interval of."""
        return Figure(value)

    found = {
        Quantity.THROUGHPUT: _with_ends(rate, low, high, Better.MAX),
        Quantity.SAMPLE: seconds(1 / rate),
    }
    columns: Sequence[tuple[Quantity, str, float, Callable[[float], Figure]]] = (
        (Quantity.STEP, "step_ms", 1e-3, seconds),
        (Quantity.EPOCH, "epoch_s", 1, seconds),
        (Quantity.SCORE, "val_score", 1, lambda v: Figure(v, better=Better(row["better"]))),
        (Quantity.TO_TARGET, "time_to_score_s", 1, plain),
        (Quantity.HOST_MEMORY, "peak_host_memory_bytes", 1, plain),
        (Quantity.DEVICE_MEMORY, "peak_device_memory_bytes", 1, plain),
    )
    for what, column, unit, figure in columns:
        # A score without a name or a direction judges nothing.
        judged = what is not Quantity.SCORE or (row["score"] and row["better"])
        if row[column] is not None and judged:
            found[what] = figure(row[column] * unit)
    return found


def _with_ends(value: float, low: float | None, high: float | None, better: Better) -> Figure:
    """A figure with its interval, or without one whose end is no finite number."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Figure(value, better=better)
    return Figure(value, low, high, better)
