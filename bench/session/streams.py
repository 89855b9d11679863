"""Opens missing standard streams of a process."""

from __future__ import annotations

import os
import sys


def open_missing() -> None:
    """Make sure that the descriptors 0, 1 and 2 are open, and that Python has streams on them.

    A shell (`<&- >&- 2>&-`) and some schedulers can start a program without them. The next file or
    pipe would then get one of these numbers, and the redirection of a worker's output would
    replace it. A missing stream becomes the null device. Must be called before any file is opened.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # open() takes the lowest free number, which is `number`: all below it are open now.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
