"""Chooses the data of a roofline from the rows of a run; draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis import roofline
from bench.schema import ceilings
from bench.schema.cells import counted
from bench.schema.columns import Row
from bench.schema.launch import Status


@dataclass(frozen=True, slots=True)
class RoofPanel:
    """The roofline of one device, precision, number of threads and backend.

    Attributes:
        title: text with these; the backend where the rows have several.
        limits: the best rates that the machine reached, with any backend.
        rows: the cases with a roofline fraction.
    """

    title: str
    limits: roofline.Limits
    rows: tuple[Row, ...]


def roof_panels(results: Sequence[Row], ceilings: Sequence[ceilings.Ceilings]) -> list[RoofPanel]:
    """A panel for each setting with ceilings and a case, in the order of the rows.

    Those of one device, precision and number of threads follow one another.
    """
    grouped: dict[tuple[str, str, int | None], dict[str, list[Row]]] = {}
    for row in results:
        if row["status"] == Status.OK and row["roofline_fraction"] is not None:
            setting = (row["device"], row["precision"], row["threads"])
            grouped.setdefault(setting, {}).setdefault(row["backend"], []).append(row)
    several = len({backend for rows in grouped.values() for backend in rows}) > 1
    panels = []
    for (device, precision, threads), by_backend in grouped.items():
        limits = roofline.limits(ceilings, device, precision, threads)
        if limits is None:
            continue
        title = f"{device}, {precision}" + _threads(threads)
        for backend, rows in by_backend.items():
            name = f"{title}, {backend}" if several else title
            panels.append(RoofPanel(name, limits, tuple(rows)))
    return panels


def cache_and_memory(limits: roofline.Limits) -> tuple[float, float]:
    """Bytes/s of the fastest working set, which fits in a cache, and of the largest one."""
    rates = [rate for _, rate in limits.bandwidth_bytes_per_s]
    return max(rates), rates[-1]


def intensity(row: Row) -> float:
    """FLOP per byte of unavoidable traffic, for a row with a roofline fraction."""
    return float(row["flops_per_sample"] * row["batch_size"] / row["bytes_per_step"])


def _threads(number: int | None) -> str:
    return "" if number is None else f", {counted(number, 'thread')}"
