"""Exit codes, and the exceptions that end a command or a launch early."""

from __future__ import annotations

from enum import IntEnum

from fmnist_models.errors import UserError

__all__ = ["ExitCode", "Invalid", "NotComparable", "Unavailable", "UserError"]


class ExitCode(IntEnum):
    """Exit codes of `fmnist-bench`."""

    PASSED = 0
    REGRESSION = 1
    WRONG_USE_OR_FAILED_CASE = 2
    INCONCLUSIVE = 3
    INTERRUPTED = 130


class NotComparable(UserError):
    """Two runs did other work, so no ratio of theirs means anything; exit code 3."""


class Unavailable(Exception):
    """What a case asks for is not on this machine; the message is the row's reason."""


class Invalid(Exception):
    """A launch did other work than its case says; the message is the row's reason."""
