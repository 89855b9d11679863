"""Values as the cells of a CSV file: the shortest digits that restore the float, SI units."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.schema.columns import RESULT_COLUMNS


def result_line(row: Mapping[str, Any]) -> str:
    """A row as a line of results.csv, with its line feed."""
    return csv_text([[as_cell(row[name]) for name in RESULT_COLUMNS]])


def counted(number: int, what: str, more: str = "") -> str:
    """A number with its noun: `1 case`, `2 cases`.

    Args:
        number: how many.
        what: the noun in the singular.
        more: the plural, where it is not `what` with an s.
    """
    return f"{number:,} {what if number == 1 else more or what + 's'}"


def few_of(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many there are beside them: `a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def finite(value: Any) -> Any:
    """The value; None in place of a float that is no finite number, for JSON knows none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def finite_fields(record: Any) -> dict[str, Any] | None:
    """The fields of a dataclass, each as `finite`; None of None."""
    return record and {name: finite(value) for name, value in asdict(record).items()}


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as CSV, each line ended by a line feed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_cell(value: Any) -> str:
    """A value as text of a CSV cell: empty for None, floats with the digits that restore them."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
