"""One machine, one run: whatever measures holds this lock. One folder, one run: likewise."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.errors import UserError

LOCK_NAME = "fmnist-bench.lock"
# A folder for the lock, where the usual one is not shared, or not to be shared.
LOCK_VARIABLE = "FMNIST_LOCK"


@contextlib.contextmanager
def the_machine(waits: Callable[[str], None], wait: bool) -> Iterator[None]:
    """Two runs at once would measure each other: one machine, one run.

    Args:
        waits: told why, where another run has the machine and this one waits.
        wait: for the other run's end; otherwise it is an error.

    Raises:
        UserError: another run has the machine, or it cannot be told whether one has.
    """
    import filelock

    file = lock_file()
    # All users share the file.
    lock = filelock.FileLock(file, mode=0o666)
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
    except OSError as error:
        raise UserError(
            f"{file} cannot be locked ({error.strerror or error}), so another run may be measuring "
            f"here: have its owner remove it, or name another folder in {LOCK_VARIABLE}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def lock_file() -> Path:
    """The machine's lock: the same for each user, whatever their folders for temporary files."""
    named = os.environ.get(LOCK_VARIABLE)
    if named:
        return Path(named) / LOCK_NAME
    shared = Path("/tmp")  # noqa: S108 - for being shared
    usable = sys.platform != "win32" and os.access(shared, os.W_OK)
    return (shared if usable else Path(tempfile.gettempdir())) / LOCK_NAME


@contextlib.contextmanager
def the_folder(path: Path) -> Iterator[None]:
    """No two runs may write to one folder, which is made where it is not there.

    The folder itself is locked, so that nothing is left in it. Where the system cannot do that
    (Windows, some network file systems), the machine's lock has to do.

    Raises:
        UserError: another run writes there, or the folder cannot be made.
    """
    from bench.store import ELSEWHERE, explained

    with explained(path, ELSEWHERE):
        path.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with explained(path, ELSEWHERE):
        handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run writes to {path}: name another --output") from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)
