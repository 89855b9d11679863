"""The table of cases: its columns with their meanings, and its cells as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
class Column:
    """One column of results.csv on the page.

    Attributes:
        name: its name in results.csv.
        heading: its heading on the page.
        meaning: its explanation on the page.
        show: makes the text of a value that is not None.
        at_first: it is shown before the reader chooses columns.
        number: it is aligned right, and sorted by value.
        long: its cells hold whole sentences.
    """

    name: str
    heading: str
    meaning: str
    show: Callable[[Any], str] = str
    at_first: bool = True
    number: bool = True
    long: bool = False


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


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _three(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else _whole(value)


def _one_place(value: float) -> str:
    return f"{value:.1f}"


def _two_digits(value: float) -> str:
    return f"{value:.2g}"


def _accuracy(value: float) -> str:
    return f"{value:.4f}"


def _score(value: float) -> str:
    return f"{value:.5g}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def _yes_no(value: object) -> str:
    return "yes" if value else "no"


COLUMNS: tuple[Column, ...] = (
    Column("model", "model", "what is trained", number=False),
    Column("optimizer", "optimizer", "empty for scikit-learn", number=False),
    Column(
        "loop",
        "loop",
        "fit: Model.fit as documented; multistep: Model.fit with XLA and 100 "
        "steps a call; compiled: the whole epoch one XLA call",
        number=False,
    ),
    Column("device", "device", "where it trained", number=False),
    Column("batch_size", "batch", "samples a step"),
    Column("precision", "precision", "Keras dtype policy", number=False),
    Column("threads", "threads", "inside an operation; empty: the framework's default"),
    Column("backend", "backend", "the framework behind Keras", number=False),
    Column("status", "status", "how the case ended", number=False),
    Column(
        "samples_per_s",
        "samples/s",
        "samples trained in the timed rounds over their "
        "seconds: of each launch the median round, over launches the mean of logarithms",
        _whole,
    ),
    Column(
        "interval",
        "± %",
        "half of the 95% Student t interval over launches; empty with one launch",
        _one_place,
    ),
    Column("step_ms", "step, ms", "one optimizer update at that throughput", _three),
    Column("epoch_s", "epoch, s", "one epoch at that throughput", _three, at_first=False),
    Column(
        "val_score",
        "val. score",
        "on the validation data after the documented epochs, mean over launches",
        _score,
    ),
    Column(
        "test_score",
        "test score",
        "on the test data after the documented epochs, mean over launches",
        _score,
        at_first=False,
    ),
    Column(
        "time_to_score_s",
        "to target, s",
        "training seconds until it first reached the target; empty: not in every launch",
        _three,
    ),
    Column("score", "score", "the metric that judges the case", number=False),
    Column(
        "waiting_share",
        "waits",
        "share of a step spent waiting for the next batch of a stream",
        _percent,
    ),
    Column(
        "input_free_samples_per_s",
        "if fed, samples/s",
        "throughput of steps whose batch is in the device's memory already",
        _whole,
        at_first=False,
    ),
    Column(
        "roofline_fraction",
        "of roofline",
        "least time of a step at the machine's measured peaks, over the measured step",
        _two_digits,
    ),
    Column(
        "bound",
        "bound",
        "what limits it: compute, memory, or overhead where it is below 0.3 of the roofline",
        number=False,
    ),
    Column("gflops", "GFLOP/s", "model FLOPs over the measured time", _three, at_first=False),
    Column(
        "products_fraction",
        "of products",
        "time of the case's matrix products alone, over the measured time",
        _two_digits,
        at_first=False,
    ),
    Column(
        "framework_overhead",
        "framework",
        "share of a fit step that compiled does without; below 0: its program is slower",
        _two_digits,
    ),
    Column(
        "epoch_j",
        "epoch, J",
        "energy of one epoch; empty where no counter can be read",
        _three,
        at_first=False,
    ),
    Column("samples_per_j", "samples/J", "samples trained per joule, over the same spans", _three),
    Column(
        "energy_covers",
        "energy of",
        "the parts of the machine whose energy is counted",
        at_first=False,
        number=False,
    ),
    Column(
        "warmup_s",
        "warm-up, s",
        "tracing, compilation and first steps before round 1",
        _three,
        at_first=False,
    ),
    Column(
        "between_epochs_s",
        "idle, s",
        "idle time an epoch, outside the rounds",
        _three,
        at_first=False,
    ),
    Column(
        "peak_host_memory_bytes",
        "memory, MB",
        "how far the process's peak rose in the launch",
        _megabytes,
        at_first=False,
    ),
    Column(
        "peak_device_memory_bytes",
        "device, MB",
        "the device allocator's peak",
        _megabytes,
        at_first=False,
    ),
    Column("parameters", "parameters", "weights and biases", _whole, at_first=False),
    Column("jit_compile", "compiled", "the step, or not", _yes_no, at_first=False, number=False),
    Column("launches", "launches", "fresh processes that ended ok", at_first=False),
    Column("rounds", "rounds", "timed epochs of those launches", at_first=False),
    Column("reason", "reason", "why the case did not end ok", number=False, long=True),
    Column("warnings", "warnings", "what a reader must know", number=False, long=True),
)
# Columns that are hidden at first where all cases have the same value.
_ALIKE = ("device", "threads", "backend", "status")
_RUN = Column("run", "run", "label, or folder", number=False)


def case_table(sources: Sequence[Source]) -> CaseTable:
    """The table of the cases of all runs, in order; columns with only empty cells are left out."""
    rows = [(source.name, row) for source in sources for row in source.rows]
    narrow = len(rows) > MOST_WIDE_ROWS
    columns = [
        column
        for column in _named([row for _, row in rows])
        if (column.at_first or not narrow)
        and any(_value(column, row) not in (None, "") for _, row in rows)
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
    return CaseTable(tuple(columns), table, _choices(table))


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
            show = _accuracy if names == [ACCURACY] else column.show
            column = replace(column, heading=heading, show=show)
        found.append(column)
    return found


def _facets(run: str, row: Row) -> tuple[str, ...]:
    return (run, *(as_cell(row[name]) or "(none)" for name in FILTERS[1:]))


def _choices(rows: Sequence[TableRow]) -> dict[str, tuple[str, ...]]:
    found = {
        name: tuple(dict.fromkeys(row.facets[place] for row in rows))
        for place, name in enumerate(FILTERS)
    }
    return {
        name: tuple(sorted(values, key=int)) if all(v.isdecimal() for v in values) else values
        for name, values in found.items()
        if len(_kinds(name, values)) > 1
    }


def _kinds(axis: str, values: Iterable[Any]) -> set[Any]:
    """The different values; of the backends without scikit-learn's, which its loop tells."""
    return set(values) - ({SKLEARN_LOOP} if axis == "backend" else set())


def _cell(column: Column, run: str, row: Row) -> Cell:
    if column is _RUN:
        return Cell(run)
    value = _value(column, row)
    if value in (None, ""):
        return Cell("")
    text = column.show(value)
    exact = as_cell(value)
    return Cell(text, "" if exact == text else exact)


def _value(column: Column, row: Row) -> Any:
    if column.name == "interval":
        return float(text) if (text := half_width(row)) else None
    return row[column.name]
