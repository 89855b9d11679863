"""Writes tables of evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bench.store.files import Kind
from bench.store.tables import write_csv
from fmnist_models.errors import UserError


def write_tables(folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write each table to FOLDER/NAME.csv, and tell its name.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            columns = tuple(rows[0])
            write_csv(folder / f"{name}.csv", columns, rows, Kind.table(columns))
            click.echo(folder / f"{name}.csv")
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; name another --output"
        ) from error
