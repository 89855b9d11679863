"""Measures in Python, as `fmnist-bench run` does."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.api.functions import Parcel
from bench.api.runs import Run, load
from bench.cli.declared import AXES, OPTIONS, Option
from bench.cli.options import is_given, refuse_empty
from bench.cli.run import FIND_BATCH, opened
from bench.session.events import Progress
from bench.session.preflight import new_folder_name
from bench.session.run import execute
from fmnist_models.errors import UserError
from fmnist_models.own import FUNCTIONS_VARIABLE

# Of a terminal alone.
_NOT_HERE = ("no-report",)
KNOWN: Mapping[str, Option] = {
    option.key: option for option in (*OPTIONS, FIND_BATCH) if option.name not in _NOT_HERE
}
_FUNCTIONS = ("models", "optimizers")


def run(models: Any = None, *, progress: bool = True, **options: Any) -> Run:
    """Measure models, and return the run once its last launch has ended.

    Args:
        models: a name, `module:function`, or a function that builds one; or a list of them. Without
            it, those of the matrix are measured.
        progress: show the progress: a bar in a terminal, lines in a notebook.
        options: those of `fmnist-bench run`, with `_` for `-`; lists in place of commas. Without
            `output`, the files are removed with the run.

    Raises:
        UserError: an option is unknown or wrong, or another run measures on this machine; or the
            finished run cannot be read, and the message says where its files are.
        KeyboardInterrupt: the run was stopped; what was measured stays where `output` says.
    """
    parcel = Parcel()
    values = values_of({"models": models, **options}, parcel)
    temporary = Path(tempfile.mkdtemp(prefix="fmnist-bench-"))
    command = _command(values)
    if "resume" not in values:
        name = new_folder_name(values.get("matrix", "documented"), values.get("label")).name
        values.setdefault("output", str(temporary / name))
    try:
        with sent(parcel, temporary / "functions.json"), in_python_words():
            plan, opening = opened(values, command, quiet=not progress)
            outcome = execute(plan, opening, _progress(progress), wait=bool(values.get("wait")))
        if outcome.interrupted:
            raise KeyboardInterrupt
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    try:
        found = load(opening.path)
    except UserError as error:
        raise UserError(f"{error}; the files of the run are in {opening.path}") from error
    weakref.finalize(found, shutil.rmtree, temporary, ignore_errors=True)
    return found


def values_of(given: Mapping[str, Any], parcel: Parcel) -> dict[str, Any]:
    """The options as a verb parses them, by `Option.key`; functions are named by `parcel`.

    Raises:
        UserError: an option is unknown, or its value is of another type.
    """
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in KNOWN:
            raise UserError(f"{key}: no option of a run; choose from {', '.join(KNOWN)}")
        if value is not None:
            values[key] = _value(KNOWN[key], value, parcel)
    return values


def _value(option: Option, value: Any, parcel: Parcel) -> Any:
    refuse_empty(option.key, value)
    if option.key in AXES:
        several = value if isinstance(value, list | tuple | set | range) else [value]
        if option.key in _FUNCTIONS:
            try:
                several = [parcel.name(one) for one in several]
            except ValueError as error:
                raise UserError(f"{option.key}: {error}") from error
        return ",".join(map(str, several))
    if isinstance(value, os.PathLike) and option.kind is str:
        return os.fspath(value)
    fits = isinstance(value, int | float if option.kind is float else option.kind)
    if not fits or (isinstance(value, bool) and option.kind is not bool):
        kinds = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}
        raise UserError(f"{option.key}={value!r}: must be {kinds[option.kind]}")
    return value


@contextlib.contextmanager
def sent(parcel: Parcel, file: Path) -> Iterator[None]:
    """Within the context, workers that start find the functions of `parcel`, written to `file`."""
    parcel.write(file)
    os.environ[FUNCTIONS_VARIABLE] = str(file)
    try:
        yield
    finally:
        del os.environ[FUNCTIONS_VARIABLE]


@contextlib.contextmanager
def in_python_words(other: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Name options in the context's UserError as they are written in Python.

    Args:
        other: what further options are called, by their names.
    """
    names = {option.name: option.key for option in (*OPTIONS, FIND_BATCH)} | dict(other)
    try:
        yield
    except UserError as error:
        told = str(error)
        # A command of the suite, which a remedy may name, stays as it is typed.
        if "fmnist-bench " not in told:
            told = re.sub(r"--([a-z-]+)", lambda found: names.get(found[1], found[0]), told)
        raise type(error)(told) from error


def _command(values: Mapping[str, Any]) -> str:
    """The command line of the same run."""
    words = ["fmnist-bench", "run"]
    for key, value in values.items():
        if is_given(value):
            words += [f"--{KNOWN[key].name}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def _progress(shown: bool) -> Progress:
    if not shown:
        return Progress()
    from rich.console import Console

    from bench.reports.terminal.progress import progress_for

    # A notebook says that it is a terminal, but a bar there leaves a line for each of its states.
    lines = Console().is_jupyter
    return progress_for(Console(force_jupyter=False, force_terminal=False if lines else None))
