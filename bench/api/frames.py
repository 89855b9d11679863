"""Tables as DataFrames with a type for each column; a cell may be empty in any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_type_hints

import pandas as pd

from bench.schema.columns import RESULT_COLUMNS, ROUND_COLUMNS
from bench.schema.launch import Round
from bench.store.filetypes import RESULT_TYPES
from bench.verdicts.compare import COLUMNS

_KINDS = {bool: "boolean", int: "Int64", float: "Float64"}
_TEXTS = (
    "case",
    "run",
    "baseline",
    "interval_over",
    "status",
    "baseline_status",
    "score",
    "better",
)


def _kind(annotation: Any) -> str:
    """The nullable type of pandas for an annotation such as `Count | None`."""
    for inner in (annotation, *get_args(annotation)):
        # Of an `Annotated` the first argument is its type.
        base = get_args(inner)[0] if hasattr(inner, "__metadata__") else inner
        if base in _KINDS:
            return _KINDS[base]
    return "string"


RESULTS: Mapping[str, str] = {name: _kind(RESULT_TYPES[name]) for name in RESULT_COLUMNS}
_OF_ROUND = get_type_hints(Round, include_extras=True)
ROUNDS: Mapping[str, str] = {
    name: _kind(_OF_ROUND[name]) if name in _OF_ROUND else "string" if name == "case" else "Int64"
    for name in ROUND_COLUMNS
}
COMPARISON: Mapping[str, str] = {
    name: "string" if name in _TEXTS else "Float64" for name in COLUMNS
}


def frame(rows: Iterable[Mapping[str, Any]], kinds: Mapping[str, str]) -> pd.DataFrame:
    """The rows as a DataFrame with the columns and types `kinds`; an empty cell is `pandas.NA`."""
    rows = list(rows)

    def cells(name: str) -> list[Any]:
        """The cells of a column; text that is empty is an empty cell, as in results.csv."""
        values = [row[name] for row in rows]
        return [str(v) if v else None for v in values] if kinds[name] == "string" else values

    columns = {name: pd.Series(cells(name), dtype=kind) for name, kind in kinds.items()}
    return pd.DataFrame(columns)
