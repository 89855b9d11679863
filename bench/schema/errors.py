"""Exit codes, and the exceptions that end a command or a launch early."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from fmnist_models.errors import UserError

# What helps where a folder cannot be written: a new one, and one that holds something already.
ELSEWHERE = "name another --output"
RESUME = "what was measured so far is kept there: make room, then --resume"


class ExitCode(IntEnum):
    """Exit codes of `fmnist-bench`; those above 128 are a shell's for the signal of that number
    less 128."""

    PASSED = 0
    REGRESSION = 1
    WRONG_USE_OR_FAILED_CASE = 2
    INCONCLUSIVE = 3
    DEFECT = 4
    HUNG_UP = 129
    INTERRUPTED = 130
    CLOSED_PIPE = 141
    TERMINATED = 143


class NotComparable(UserError):
    """Two runs did other work, so no ratio of theirs means anything; exit code 3."""


class Unavailable(Exception):
    """What a case asks for is not on this machine; the message is the row's reason."""


class Invalid(Exception):
    """A launch did other work than its case says; the message is the row's reason."""


@contextlib.contextmanager
def explained(path: Path, remedy: str = RESUME) -> Iterator[None]:
    """A full disk, a read-only folder or one that is gone is one line; what is on disk stays."""
    try:
        yield
    except FileNotFoundError as error:
        if remedy == ELSEWHERE or path.exists():
            raise UserError(f"cannot write to {path}: {error.strerror}; {remedy}") from error
        raise UserError(
            f"{path} is gone: it was removed or renamed while it was written to; put it back and "
            "--resume, or start anew"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}; {remedy}") from error
