"""One machine, one run: whatever measures holds this lock."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.errors import UserError

LOCK_NAME = "fmnist-bench.lock"


@contextlib.contextmanager
def the_machine(waits: Callable[[str], None], wait: bool) -> Iterator[None]:
    """Two runs at once would measure each other: one machine, one run.

    Args:
        waits: told why, where another run has the machine and this one waits.
        wait: for the other run's end; otherwise it is an error.

    Raises:
        UserError: another run has the machine.
    """
    import filelock

    lock = filelock.FileLock(Path(tempfile.gettempdir()) / LOCK_NAME, mode=0o666)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if not wait:
                raise UserError(
                    "another run is measuring on this machine: wait for it with --wait, "
                    "or stop it; two at once would slow each other"
                ) from None
            waits("another run is measuring on this machine")
            lock.acquire()
    except PermissionError:
        # Another user's lock file, which this one may not open, tells nothing of a run.
        yield
        return
    try:
        yield
    finally:
        lock.release()
