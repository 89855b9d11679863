"""Exit codes, and the exceptions that end a command or a launch early."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from fmnist_models.errors import UserError

# Remedies where a folder cannot be written: a new folder, and one that already holds results.
ELSEWHERE = "name another --output"
RESUME = "what was measured so far is kept there: make room, then --resume"


class ExitCode(IntEnum):
    """Exit codes of `fmnist-bench`; one above 128 is a shell's code for signal (code - 128)."""

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
    """Two runs did different work, so the ratio of their times means nothing; exit code 3."""


class Unavailable(Exception):
    """The machine does not have what a case asks for; the message is the row's reason."""


class Invalid(Exception):
    """A launch did other work than its case names; the message is the row's reason."""


@contextlib.contextmanager
def explained(path: Path, remedy: str = RESUME) -> Iterator[None]:
    """Turn a failed write to `path` into one line for the user; files already written stay.

    Raises:
        UserError: the disk is full, or the folder is read-only, gone or otherwise not writable.
    """
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
