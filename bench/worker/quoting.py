"""How the reason of a failure quotes an error."""

from __future__ import annotations


def ends_of(error: BaseException) -> str:
    """The first and the last line of an error's message, in one line.

    TensorFlow begins with "Graph execution error:", and many end with what happened.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(dict.fromkeys((*lines[:1], *lines[-1:])))
