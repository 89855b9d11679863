"""Damages one file at random: cells, columns, JSON values, bytes, lines, or the file as a whole."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Wrong values for a cell, a JSON value and a whole JSON file.
CELLS = (
    "",
    "abc",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "7",
    "1e999",
    "1,5",
    "1.234,5",
    "48,000",
    "0x10",
    " 1",
    "1_000",
    "TRUE",
    "true",
    "\N{ARABIC-INDIC DIGIT THREE}",
    "9" * 5000,
    "1.5",
    "-0",
    "None",
    "x" * 200_000,
    '"',
    "1;2",
    "\x1b[31m",
    "=1+1",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "abc",
    "x" * 200_000,
    [],
    [1],
    {},
    {"a": 1},
    [[[]]],
    "\ud800",
)
WHOLES = (
    "null",
    "5",
    "[1]",
    '"a"',
    "{}",
    "[" * 20_000,
    '{"a":' * 20_000,
    "9" * 5000,
    "NaN",
    '{"version": 99}',
    '{"cases": [{}]}',
    "{",
    "",
    "\n\n",
)


def damaged(file: Path, chance: random.Random) -> str:
    """Damage a file in a random way; returns a description of the damage."""
    own = _OWN.get(file.suffix, _bytes)
    way = chance.choice((own, own, own, _bytes, _lines, _replaced))
    return way(file, chance)


_Rows = list[list[str]]
_COLUMNS: Mapping[str, Callable[[_Rows, int], _Rows]] = {
    "column emptied": lambda rows, k: [rows[0], *([*r[:k], "", *r[k + 1 :]] for r in rows[1:])],
    "column lost": lambda rows, k: [r[:k] + r[k + 1 :] for r in rows],
    "column doubled": lambda rows, k: [[*r, r[k]] for r in rows],
    "columns turned": lambda rows, _: [r[::-1] for r in rows],
    "empty column and row": lambda rows, _: [*([*r, ""] for r in rows), [""] * (len(rows[0]) + 1)],
    "capitals": lambda rows, _: [rows[0], *([cell.upper() for cell in r] for r in rows[1:])],
    "decimal commas": lambda rows, _: [
        rows[0],
        *([cell.replace(".", ",") for cell in r] for r in rows[1:]),
    ],
}


def _cells(file: Path, chance: random.Random) -> str:
    """Damage cells, columns or separators of a table."""
    rows = list(csv.reader(io.StringIO(file.read_text("utf-8"), newline="")))
    row, column = chance.randrange(1, len(rows)), chance.randrange(len(rows[0]))
    separator, end = ",", "\n"
    how = chance.choice((*["cell"] * 4, "separator", "end", *_COLUMNS))
    if how == "cell":
        value = chance.choice(CELLS)
        how = f"{rows[0][column]} {value[:12]!a}"
        rows[row][column] = value
    elif how == "separator":
        separator = chance.choice(";\t|")
    elif how == "end":
        end = chance.choice(("\r\n", "\r"))
    else:
        rows = _COLUMNS[how](rows, column)
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    file.write_bytes(text.getvalue().encode())
    return how


def _json(file: Path, chance: random.Random) -> str:
    """Damage a value of a JSON file or of a JSON line, or replace the whole."""
    lines = file.read_text("utf-8").splitlines() if file.suffix == ".jsonl" else []
    place = chance.randrange(len(lines)) if lines else 0
    text = lines[place] if lines else file.read_text("utf-8")
    if chance.random() < 0.2:
        how = text = chance.choice(WHOLES)
    else:
        tree = json.loads(text)
        how = _spoil(tree, chance)
        text = json.dumps(tree, indent=None if lines else 2)
    if lines:
        lines[place] = text
        text = "\n".join(lines) + "\n"
    file.write_text(text, "utf-8")
    return how[:40]


def _spoil(tree: Any, chance: random.Random) -> str:
    """Replace, remove or add a value somewhere in a tree of JSON values."""
    node, path = tree, ""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = chance.choice(keys)
        path += f".{key}"
        if not (isinstance(node[key], dict | list) and node[key]) or chance.random() < 0.3:
            break
        node = node[key]
    what = chance.random()
    if what < 0.15:
        del node[key]
        return f"{path} removed"
    if what < 0.2 and isinstance(node, dict):
        node[f"later_{key}"] = chance.choice(VALUES)
        return f"{path} beside a later field"
    node[key] = value = chance.choice(VALUES)
    return f"{path} {ascii(value)[:12]}"


def _bytes(file: Path, chance: random.Random) -> str:
    """Damage the bytes or the encoding of any file."""
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    how = chance.choice(("cut", "flipped", "NUL", "latin1", "BOM", "UTF-16", "twice", "noise"))
    if how == "cut":
        del content[place:]
    elif how == "flipped":
        content[place] ^= 1 << chance.randrange(8)
    elif how in ("NUL", "latin1", "noise"):
        odd = {"NUL": b"\0", "latin1": b"\xb5", "noise": chance.randbytes(20)}[how]
        content[place:place] = odd
    elif how == "BOM":
        content[:0] = codecs.BOM_UTF8
    elif how == "UTF-16":
        content[:] = content.decode("latin-1").encode("utf-16")
    else:
        content *= 2
    file.write_bytes(content)
    return how


def _lines(file: Path, chance: random.Random) -> str:
    """Remove, duplicate, move or empty a line of any file."""
    lines = file.read_bytes().splitlines(keepends=True)
    place = chance.randrange(len(lines))
    how = chance.choice(("line lost", "line doubled", "line moved", "line emptied", "last lines"))
    line = lines.pop(place)
    if how == "line doubled":
        lines[place:place] = [line, line]
    elif how == "line moved":
        lines.insert(chance.randrange(len(lines) + 1), line)
    elif how == "line emptied":
        lines.insert(place, b"\n")
    elif how == "last lines":
        lines[max(1, place) :] = []
    file.write_bytes(b"".join(lines))
    return how


def _replaced(file: Path, chance: random.Random) -> str:
    """Remove the file, or put something else in its place."""
    file.unlink()
    how = chance.choice(("gone", "folder", "link to itself", "dangling link", "pipe", "empty"))
    if how == "folder":
        file.mkdir()
    elif how == "link to itself":
        file.symlink_to(file)
    elif how == "dangling link":
        file.symlink_to("nowhere")
    elif how == "pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(file)
    elif how == "empty":
        file.touch()
    return how


_OWN: Mapping[str, Callable[[Path, random.Random], str]] = {
    ".csv": _cells,
    ".json": _json,
    ".jsonl": _json,
}
