"""Functions that verbs share: the console, the command line, and the exit code."""

from __future__ import annotations

import contextlib
import gc
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from bench.machine.redact import without_passwords
from bench.schema.errors import ExitCode
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def console_of() -> Console:
    """A console on standard output; rich is imported only here."""
    from rich.console import Console

    return Console()


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Let no cycles be collected meanwhile; also a decorator.

    Of large runs the collector looks at millions of objects again and again, of which none can go
    before the verb ends: a tenth of the time of `compare`.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def command_line() -> str:
    """The command line that repeats this command, without passwords."""
    # A run records it, and a history's password is nobody's business.
    return shlex.join(["fmnist-bench", *map(without_passwords, sys.argv[1:])])


def ended(code: int, failed: Sequence[UserError]) -> int:
    """The exit code of a verb of which some output files may have failed.

    Args:
        code: the exit code without these errors.
        failed: the errors; they are printed where the verb was interrupted.

    Raises:
        UserError: the first of `failed`, unless the verb was interrupted.
    """
    if failed and code != ExitCode.INTERRUPTED:
        raise failed[0]
    for error in failed:
        click.echo(f"fmnist-bench: error: {error}", err=True)
    return code
