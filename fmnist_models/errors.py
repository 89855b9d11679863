"""The one base class of mistakes that a user can cause."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that a user can cause and can mend.

    The message is one line that names the value and what would fix it. It is caught in
    one place, printed without a traceback, and ends the program with exit code 2.
    """
