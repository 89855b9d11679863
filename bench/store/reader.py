"""Reads text, JSON and tables; an unreadable file raises an error of one line with a remedy.

A table that a spreadsheet program saved again is accepted where its meaning is clear. It may have
a byte order mark, CRLF, TRUE and FALSE, quotes around every cell, semicolons or tabs as separators,
additional columns, another order of columns, and empty cells or rows at the end. Decimal commas,
thousands separators and other encodings are refused.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import json
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from bench.schema.bounds import Misfit, checked, joined, shortened
from bench.schema.earlier import EARLIER_NAMES, as_written, in_present_names
from bench.store.filetypes import TableSchema
from fmnist_models.errors import UserError

_T = TypeVar("_T")
COPY = "take it from a copy"
_MOST_BYTES = 2**30
_SEPARATORS = ",;\t"
_HALF_A_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def kind_of(path: Path) -> Literal["file", "folder", "other"] | None:
    """The kind of what is at `path`; None where there is nothing.

    Raises:
        UserError: the path cannot be read: the name is too long, or a link leads to itself.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{_name(path)} cannot be read: {_why(error)}") from error
    except ValueError as error:
        raise UserError(f"{_name(path)} cannot be a file's name: {error}") from error
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def read_text(file: Path, remedy: str = COPY) -> str | None:
    """The text of a file in UTF-8; None where there is none.

    Raises:
        UserError: it is a folder or a device, is larger than 1 GiB, cannot be read, or is not
            UTF-8 text.
    """
    kind = kind_of(file)
    if kind is None:
        return None
    if kind != "file":
        what = "a folder" if kind == "folder" else "a pipe or a device"
        raise UserError(f"{file} is {what}, where a file should be: {remedy}")
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise UserError(f"{file} has {size} bytes, more than any run writes: {remedy}")
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {_why(error)}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{file} is UTF-16: save it as UTF-8, or {remedy}")
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file} line {line}: byte 0x{content[error.start]:02x} is no UTF-8: "
            f"save it as UTF-8, or {remedy}"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file} line {line} holds a NUL byte: {remedy}")
    return text


def read_json(file: Path, kind: type[_T], *, newest: int | None = None) -> tuple[_T, Any] | None:
    """The contents of a JSON file as a `kind` and as plain values; None where there is no file.

    Args:
        file: its path.
        kind: a type that `bench.schema.bounds.checked` accepts.
        newest: the newest known version of the file's format; None for a file without one.

    Raises:
        UserError: it is not JSON, is of a later version, or holds a wrong value; the message
            names the value.
    """
    text = read_text(file)
    if text is None:
        return None
    values = _parsed(text, f"{file}", COPY)
    version = values.get("version") if isinstance(values, dict) else None
    if newest is not None and isinstance(version, int) and version > newest:
        raise UserError(
            f"{file} is of version {shortened(version)}, newer than {newest}, the newest that is "
            "known here: update fmnist-bench"
        )
    return _typed(values, kind, f"{file}", COPY), values


def read_json_lines(file: Path, kind: type[_T], remedy: str = COPY) -> list[_T]:
    """The lines of a file of one JSON value per line, each as a `kind`; [] where there is no file.

    Raises:
        UserError: a line is not JSON or holds a wrong value; the message names line and value.
    """
    # Not splitlines, which also splits at characters such as U+2028 inside a text.
    lines = (read_text(file, remedy) or "").split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    return [
        _typed(_parsed(line, where, remedy), kind, where, remedy)
        for number, line in enumerate(lines, 1)
        for where in (f"{file} line {number}",)
    ]


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a table as text; an empty one is None, or the column's value for it.

    Attributes:
        rows: the rows that are not empty, each by column.
        lines: the number of each row's last line in the file.
        columns: the columns of the file that the schema has, by their present names.
        written: the names in the file of columns that it calls otherwise.
        remedy: the end of an error message, which says what to do.
    """

    file: Path
    rows: Sequence[Mapping[str, str | None]]
    lines: Sequence[int]
    columns: frozenset[str]
    remedy: str
    written: Mapping[str, str] = field(default_factory=dict)

    def typed(self, values: Sequence[Mapping[str, Any]], kind: type[_T]) -> list[_T]:
        """`values`, one for each row and made of its cells, each converted to `kind`.

        Raises:
            UserError: a cell has a wrong value; the message names file, line and column.
        """
        try:
            return checked(values, list[kind], cells=True)  # type: ignore[valid-type]
        except Misfit as misfit:
            line = self.lines[misfit.path[0]] if misfit.path else "?"  # type: ignore[index]
            raise self.refused(line, misfit.path[-1:], misfit.shown, misfit.wanted) from None
        except UserError as error:
            raise UserError(f"{self.file}: {error}; {self.remedy}") from error

    def refuse_no_share(self, number: int, columns: Sequence[str], row: Mapping[str, Any]) -> None:
        """Refuse a value of a row that is not between 0 and 1.

        Args:
            number: the row's place in `rows`.
            columns: those that are looked at; an empty cell is allowed.
            row: the values of the row, by column.

        Raises:
            UserError: there is one; the message names file, line and column.
        """
        for column in columns:
            if row[column] is not None and not 0 <= row[column] <= 1:
                shown, low = shortened(self.rows[number][column]), not row[column] > 1
                wanted = f"must be a number {'>= 0' if low else '<= 1'}"
                raise self.refused(self.lines[number], [column], shown, wanted)

    def refused(
        self, line: object, column: Sequence[str | int], shown: str, wanted: str
    ) -> UserError:
        """The error for a cell, with file, line, column and remedy."""
        name = self.written.get(str(column[0]), column[0]) if column else ""
        where = f", column {name}" if isinstance(name, str) and name else ""
        shown = "an empty cell" if shown == "null" else shown
        return UserError(f"{self.file} line {line}{where}: {shown} {wanted}: {self.remedy}")


def read_table(
    file: Path, schema: TableSchema, remedy: str = COPY, *, grows: bool = False
) -> tuple[list[Any], Cells]:
    """The rows of a table as dictionaries of typed values, and its cells.

    A table without a file has no rows. Columns that the schema does not know are ignored.

    Args:
        file: its path.
        schema: its columns.
        remedy: the end of the error message, which says what to do.
        grows: the table is written row by row. A last row without a line end counts as cut short,
            and an empty file is allowed.

    Raises:
        UserError: the file cannot be read, a column is missing, a row is cut short, or a cell has
            a wrong value.
    """
    cells = read_cells(file, schema, remedy, grows=grows)
    return cells.typed(cells.rows, schema.row), cells


def read_cells(
    file: Path, schema: TableSchema, remedy: str = COPY, *, grows: bool = False
) -> Cells:
    """The cells of a table as text, with the arguments of `read_table`.

    Raises:
        UserError: the file cannot be read, a column is missing, or a row is cut short.
    """
    text = read_text(file, remedy)
    if text is None or (grows and not text):
        return Cells(file, (), (), frozenset(), remedy)
    if grows and text[-1] not in "\r\n":
        line = text.count("\n") + 1
        raise UserError(f"{file} line {line} is cut short: {remedy}")
    rows = _split(text, file, remedy)
    _, header = next(rows, (1, []))
    while header and not header[-1]:
        header.pop()
    header, written = _present(header, schema)
    _refuse_header(header, schema, file, remedy, written)
    names = [name for name in schema.columns if name in header]
    places = [header.index(name) for name in names]
    # Few operations for each row, because tables have tens of thousands of rows.
    special = {name: blank for name, blank in schema.blank.items() if blank is not None}
    absent = dict.fromkeys(schema.later)
    found, lines = [], []
    for line, row in rows:
        if len(row) != len(header) and (len(row) < len(header) or any(row[len(header) :])):
            raise UserError(f"{file} line {line} is cut short or too long: {remedy}")
        values: dict[str, str | None] = dict(
            zip(names, [row[place] or None for place in places], strict=True)
        )
        if absent:
            values = {**absent, **values}
        for name, blank in special.items():
            values[name] = values.get(name) or blank
        found.append(values)
        lines.append(line)
    return Cells(file, found, lines, frozenset(names), remedy, written)


def _present(header: Sequence[str], schema: TableSchema) -> tuple[list[str], dict[str, str]]:
    """The header in present names, and the names in the file of columns that were renamed."""
    written = {
        new: old
        for old, new in EARLIER_NAMES.items()
        if old in header and new in schema.columns and new not in header
    }
    present = {old: new for new, old in written.items()}
    return [present.get(name, name) for name in header], written


def _refuse_header(
    header: Sequence[str],
    schema: TableSchema,
    file: Path,
    remedy: str,
    written: Mapping[str, str],
) -> None:
    for name in schema.columns:
        if header.count(name) > 1:
            raise UserError(f"{file} has two columns {written.get(name, name)!r}: {remedy}")
        if name not in header and name not in schema.later:
            raise UserError(
                f"{file} has no column {name!r}: it is not a file of this suite, or "
                f"was cut short; {remedy}"
            )


def _split(text: str, file: Path, remedy: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row that is not empty."""
    head = text[: text.find("\n")] if "\n" in text else text
    separator = max(_SEPARATORS, key=head.count)
    # Not DictReader, which takes twice as long over the rounds of ten runs.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{file} line {reader.line_num} cannot be read: {error}; {remedy}"
            ) from None
        if any(row):
            yield reader.line_num, row


def _parsed(text: str, where: str, remedy: str) -> Any:
    try:
        values = json.loads(text)
        if _HALF_A_CHARACTER.search(text):
            # A lone surrogate is no character. Only those of `os.fsdecode` are allowed, which
            # stand for bytes of a file name that are not UTF-8.
            json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if "\n" in text.strip() else ""
        raise UserError(
            f"{where} is no JSON: {place}column {error.colno}: {error.msg}; {remedy}"
        ) from None
    except UnicodeEncodeError:
        raise UserError(f"{where} holds half of a character: {remedy}") from None
    except ValueError:
        raise UserError(f"{where} holds a number of thousands of digits: {remedy}") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deeply: {remedy}") from None
    return values


def _typed(values: Any, kind: type[_T], where: str, remedy: str) -> _T:
    try:
        return checked(in_present_names(values), kind)
    except Misfit as misfit:
        path = joined(as_written(misfit.path, values))
        said = f"{where}, {path}" if path else where
        raise UserError(f"{said}: {misfit.shown} {misfit.wanted}: {remedy}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}; {remedy}") from error


def _why(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a link that leads back to itself"
    return error.strerror or str(error)


def _name(path: Path) -> str:
    """A path for a message on one line; shortened, as its length or bytes may be the error."""
    text = str(path)
    return text if text.isprintable() and len(text) <= 120 else shortened(text)
