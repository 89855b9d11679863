"""Values as the cells of a CSV file: shortest digits that give the same float again, SI units."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.schema.columns import RESULT_COLUMNS


def result_line(row: Mapping[str, Any]) -> str:
    """A row of results.csv as it stands there."""
    return csv_text([[as_cell(row[name]) for name in RESULT_COLUMNS]])


def counted(number: int, what: str, more: str = "") -> str:
    """So many of something: `1 case`, `2 cases`; `more` where the plural is no mere s."""
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
    """A value as CSV holds it: shortest digits that give the same float again, SI units."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
