"""The base class of errors that a user can cause."""

from __future__ import annotations


class UserError(Exception):
    """An error that a user can cause and can correct.

    The message is one line that names the value and the remedy. It is caught in one place, printed
    without a traceback, and ends the program with exit code 2.
    """


class Unsupported(UserError):
    """A loop cannot train this work, and another loop can; the case is skipped."""
