"""The lists of github-action-benchmark: {name, unit, value, range, extra}, one direction a file.

Its tools `customSmallerIsBetter` and `customBiggerIsBetter` read one each. `value` is a number,
`range` and `extra` are text that is shown as it is:
https://github.com/benchmark-action/github-action-benchmark.
"""

from __future__ import annotations

import json
from typing import Any

from bench.reports.exports.figures import (
    UNITS,
    Export,
    Exported,
    Quantity,
    exported,
    text_of_interval,
    version_of,
)
from bench.schema.cells import counted
from bench.schema.launch import Better
from bench.schema.runs import MeasuredRun
from bench.schema.score import ACCURACY
from bench.store.files import Kind
from fmnist_models.errors import UserError

# Each list has figures that the other has none of.
SMALLER, BIGGER = (
    Kind("an export of this suite in this format", b"[\n", f': {what}",\n'.encode())
    for what in (Quantity.SAMPLE, Quantity.THROUGHPUT)
)
_OTHER = {Better.MIN: "benchmark-action-bigger", Better.MAX: "benchmark-action-smaller"}
# A step is a sample times the batch, and would only make each alarm twice.
_LEFT_OUT = {Quantity.STEP}


def smaller(run: MeasuredRun) -> Export:
    """The figures that are good when small: times, memory, and scores such as a loss.

    Raises:
        UserError: no case ended ok, or none has such a figure.
    """
    return _listed(run, Better.MIN)


def bigger(run: MeasuredRun) -> Export:
    """The figures that are good when big: samples/s, and scores such as an accuracy.

    Raises:
        UserError: no case ended ok.
    """
    return _listed(run, Better.MAX)


def _listed(run: MeasuredRun, better: Better) -> Export:
    cases, left_out = exported(run)
    found = [
        _entry(run, case, what)
        for case in cases
        for what, figure in case.figures.items()
        if figure.better is better and what not in _LEFT_OUT
    ]
    if not found:
        raise UserError(f"{run.path}: no figure of that direction: --format {_OTHER[better]}")
    return Export(json.dumps(found, indent=2, ensure_ascii=False) + "\n", left_out)


def _entry(run: MeasuredRun, case: Exported, what: Quantity) -> dict[str, Any]:
    row, figure = case.row, case.figures[what]
    name, unit = str(what), UNITS[what]
    if what is Quantity.SCORE:
        name, unit = row["score"], "share" if row["score"] == ACCURACY else "score"
    elif what is Quantity.TO_TARGET:
        name = f"time to {row['score']} {row['score_target']:g}"
    told = [f"{counted(row['launches'], 'launch', 'launches')}, {counted(row['rounds'], 'round')}"]
    told += [row["device_name"]] if row["device_name"] else []
    told += [f"measured by {version_of(run)}"]
    told += [f"warning: {row['warnings']}"] if row["warnings"] else []
    interval = text_of_interval(figure)
    return {
        "name": f"{row['case']}: {name}",
        "unit": unit,
        "value": figure.value,
        **({"range": interval} if interval else {}),
        "extra": "\n".join(told),
    }
