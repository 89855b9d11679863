"""Exit codes, and the exceptions that end a command or a launch early."""

from __future__ import annotations

from enum import IntEnum

from fmnist_models.errors import UserError

__all__ = ["ExitCode", "Invalid", "NotComparable", "Unavailable", "UserError"]


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
