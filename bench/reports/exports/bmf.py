"""Bencher's metric format: {case: {measure: {value, lower_value, upper_value}}}.

By https://bencher.dev/docs/reference/bencher-metric-format: a measure is named by its slug or name
(64 characters at most), and Bencher makes those that it does not know. `throughput` and `latency`
are there from the start, with the units operations/s and ns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from bench.reports.exports.figures import Export, Figure, Quantity, exported
from bench.schema.runs import MeasuredRun
from bench.store.files import Kind

KIND = Kind("an export of this suite in this format", b'{\n  "', b'\n    "throughput": {\n')
_LONGEST = 64
# The name of a measure, and what of it is one of the figure's unit.
_MEASURES: Mapping[Quantity, tuple[str, float]] = {
    Quantity.THROUGHPUT: ("throughput", 1),
    Quantity.STEP: ("latency", 1e9),
    Quantity.TO_TARGET: ("time-to-target", 1),
    Quantity.HOST_MEMORY: ("peak-host-memory", 1),
    Quantity.DEVICE_MEMORY: ("peak-device-memory", 1),
}


def bmf(run: MeasuredRun) -> Export:
    """The run in Bencher's metric format; `latency` is the time of a step in nanoseconds.

    Raises:
        UserError: no case ended ok.
    """
    cases, left_out = exported(run)
    found = {
        case.row["case"]: {
            name: _metric(figure, factor)
            for what, figure in case.figures.items()
            for name, factor in _named(what, case.row["score"])
        }
        for case in cases
    }
    return Export(json.dumps(found, indent=2, ensure_ascii=False) + "\n", left_out)


def _named(what: Quantity, score: str) -> list[tuple[str, float]]:
    if what is Quantity.SCORE:
        taken = {name for name, _ in _MEASURES.values()}
        return [(f"{'score ' if score in taken else ''}{score}"[:_LONGEST], 1)]
    return [_MEASURES[what]] if what in _MEASURES else []


def _metric(figure: Figure, factor: float) -> dict[str, float]:
    ends = {"value": figure.value, "lower_value": figure.low, "upper_value": figure.high}
    return {name: end * factor for name, end in ends.items() if end is not None}
