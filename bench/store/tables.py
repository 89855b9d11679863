"""Tables and JSON files, replaced whole or not at all.

By the standard library's csv and json: to import pandas takes longer than to write any table here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.schema.cells import as_cell, csv_text
from bench.store.files import (
    Kind,
    target_of,
    write_bytes,
)
from bench.store.reader import (
    kind_of,
)


def write_csv(
    file: Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    kind: Kind | None = None,
) -> None:
    """Replace a CSV file in one move, as `write_text`; each row has the keys `columns`."""
    cells = ([as_cell(row[name]) for name in columns] for row in rows)
    write_text(file, csv_text([columns, *cells]), kind)


def write_json(file: Path, value: Any, kind: Kind | None = None) -> None:
    """Replace a JSON file in one move, as `write_text`."""
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n", kind)


def write_text(file: Path, text: str, kind: Kind | None = None) -> None:
    """Replace a file in one move, so that a crash never leaves half of it.

    Args:
        file: the file.
        text: goes there as UTF-8.
        kind: where the user may have chosen the file: what alone may be replaced.

    Raises:
        UserError: something else than `kind` is there.
    """
    write_bytes(target_of(file, kind) if kind else file, encoded(text))


def encoded(text: str) -> bytes:
    """`text` as UTF-8; lone surrogates, from file names that are not UTF-8, as JSON escapes."""
    return text.encode("utf-8", "backslashreplace")


def cut_half_line(file: Path) -> None:
    """Take away what a killed process left of its last line."""
    if kind_of(file) != "file":
        # The reader of the file reports anything else; reading a pipe would wait forever.
        return
    content = file.read_bytes()
    # A program that saved the file again may end lines by a carriage return alone.
    whole = content[: max(map(content.rfind, (b"\n", b"\r"))) + 1]
    if whole != content:
        with file.open("r+b") as out:
            out.truncate(len(whole))


def in_own_form(file: Path, columns: Sequence[str]) -> bool:
    """Whether rows can be added to a table as this suite writes them: a file that a spreadsheet
    program saved again may have other separators, line ends or columns."""
    if kind_of(file) != "file":
        return True
    content = file.read_bytes()
    header = encoded(csv_text([columns]))
    return not content or (content.startswith(header) and b"\r" not in content)
