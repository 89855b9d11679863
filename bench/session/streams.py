"""The three standard streams, open in every process that this suite starts from a terminal."""

from __future__ import annotations

import os
import sys


def open_missing() -> None:
    """Make sure that the descriptors 0, 1 and 2 are open, and that Python has streams on them.

    A shell can start a program without them (`<&- >&- 2>&-`), as some schedulers do. The next
    file or pipe would then get one of these numbers, and a worker's log would be laid over it. What
    is missing becomes the null device: what is printed there is lost, as it was meant to be.
    Must come before any file is opened.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: those below it are open by now.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
