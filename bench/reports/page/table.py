"""The table of cases: which columns it has, and its cells as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.reports.page.columns import COLUMNS, Column, accuracy
from bench.reports.page.source import Source
from bench.reports.scores import names_of
from bench.reports.terminal.run import half_width
from bench.schema.case import AXES, SKLEARN_LOOP
from bench.schema.cells import as_cell
from bench.schema.columns import Row
from bench.schema.launch import Status
from bench.schema.score import ACCURACY

# With more rows, columns that are hidden at first are left out, so that the page is small.
MOST_WIDE_ROWS = 600
FILTERS = ("run", *AXES, "status")


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of a cell, and the exact value of results.csv where that differs."""

    text: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """The row of a case.

    Attributes:
        key: the number of its records in the charts.
        ok: the case ended ok.
        facets: its values for the filters, in the order of `FILTERS`.
    """

    key: int
    case: str
    ok: bool
    facets: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class CaseTable:
    """All rows, and the choices of each filter that has two or more values."""

    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    choices: dict[str, tuple[str, ...]]


# Columns that are hidden at first where all cases have the same value.
_ALIKE = ("device", "threads", "backend", "replicas", "processes", "scaling", "status")
# Columns that are left out where all cases have one.
_OF_SEVERAL = ("replicas", "processes")
# The columns of half an interval, and whose it is.
_INTERVALS = {"interval": "samples_per_s", "efficiency_interval": "efficiency"}
_RUN = Column("run", "run", "label, or folder", number=False)


def case_table(sources: Sequence[Source]) -> CaseTable:
    """The table of the cases of all runs, in order; columns with only empty cells are left out."""
    rows = [(source.name, row) for source in sources for row in source.rows]
    narrow = len(rows) > MOST_WIDE_ROWS
    columns = [
        column
        for column in _named([row for _, row in rows])
        if (column.at_first or not narrow)
        and any(_value(column, row) not in _nothing(column) for _, row in rows)
    ]
    columns = [
        replace(column, at_first=False)
        if column.name in _ALIKE
        and len(_kinds(column.name, (row[column.name] for _, row in rows))) == 1
        else column
        for column in columns
    ]
    if len(sources) > 1:
        columns.insert(0, _RUN)
    table = tuple(
        TableRow(
            key,
            row["case"],
            row["status"] == Status.OK,
            _facets(name, row),
            tuple(_cell(column, name, row) for column in columns),
        )
        for key, (name, row) in enumerate(rows)
    )
    return CaseTable(tuple(columns), table, choices_of(FILTERS, [row.facets for row in table]))


def _named(rows: Sequence[Row]) -> list[Column]:
    """The columns with the name of the score in their headings, where all cases have the same."""
    names = names_of(rows, ("val_score", "test_score"))
    if len(names) > 1:
        return list(COLUMNS)
    found = []
    for column in COLUMNS:
        if column.name == "score":
            continue
        if names and column.name.endswith("_score"):
            heading = column.heading.replace("score", names[0])
            show = accuracy if names == [ACCURACY] else column.show
            column = replace(column, heading=heading, show=show)
        found.append(column)
    return found


def _facets(run: str, row: Row) -> tuple[str, ...]:
    return (run, *(as_cell(row[name]) or "(none)" for name in FILTERS[1:]))


def choices_of(
    filters: Sequence[str], facets: Sequence[Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """The choices of each filter that has two or more, from the facets of all rows."""
    found = {
        name: tuple(dict.fromkeys(own[place] for own in facets))
        for place, name in enumerate(filters)
    }
    return {
        name: tuple(sorted(values, key=int)) if all(v.isdecimal() for v in values) else values
        for name, values in found.items()
        if len(_kinds(name, values)) > 1
    }


def _kinds(axis: str, values: Iterable[Any]) -> set[Any]:
    """The different values; of the backends without scikit-learn's, which its loop tells, and of
    the scaling without that of one replica, which has none."""
    untold = {"backend": {SKLEARN_LOOP}, "scaling": {""}}
    return set(values) - untold.get(axis, set())


def _cell(column: Column, run: str, row: Row) -> Cell:
    if column is _RUN:
        return Cell(run)
    value = _value(column, row)
    if value in (None, ""):
        return Cell("")
    text = column.show(value)
    exact = as_cell(value)
    return Cell(text, "" if exact == text else exact)


def _nothing(column: Column) -> tuple[Any, ...]:
    """The values of a column that tell nothing where all cases have them."""
    return (None, "", 1) if column.name in _OF_SEVERAL else (None, "")


def _value(column: Column, row: Row) -> Any:
    if column.name in _INTERVALS:
        return float(text) if (text := half_width(row, _INTERVALS[column.name])) else None
    return row[column.name]
