"""Locks: only one run measures on a machine, and only one run writes to a folder, at a time."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import lock_descriptor

from fmnist_models.errors import UserError

LOCK_NAME = "fmnist-bench.lock"
# Names a folder for the lock, where the usual one is not shared or must not be.
LOCK_VARIABLE = "FMNIST_LOCK"


@contextlib.contextmanager
def the_machine(waits: Callable[[str], None], wait: bool) -> Iterator[None]:
    """Hold the machine's lock, because two runs at once would slow each other.

    Args:
        waits: called with the reason, where another run has the lock and this one waits.
        wait: wait for the other run's end; otherwise another run is an error.

    Raises:
        UserError: another run has the lock, or the file cannot be locked.
    """
    file = lock_file()
    with contextlib.ExitStack() as held:
        try:
            taken = held.enter_context(_locked(file, wait=False))
            if not taken:
                if not wait:
                    raise UserError(
                        "another run is measuring on this machine: wait for it with --wait, "
                        "or stop it; two at once would slow each other"
                    )
                waits("another run is measuring on this machine")
                held.enter_context(_locked(file, wait=True))
        except FileNotFoundError as error:
            raise UserError(
                f"{LOCK_VARIABLE}={file.parent}: there is no such folder: make it, or name another"
            ) from error
        except OSError as error:
            raise UserError(
                f"{file} cannot be locked ({error.strerror or error}), so another run may be "
                f"measuring here: have its owner remove it, or name another folder in "
                f"{LOCK_VARIABLE}"
            ) from error
        yield


@contextlib.contextmanager
def _locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock on a file that all users share; yields False where another process has it.

    Not by a `FileLock`: in a folder such as /tmp it does not lock a file that another user made,
    so only the first user of a machine could measure. This lock needs only the right to read.
    """
    handle = _shared(file)
    try:
        # Seldom looked at, for whoever holds it measures.
        yield lock_descriptor(handle, blocking=wait, poll_interval=1.0)
    finally:
        os.close(handle)


def _shared(file: Path) -> int:
    """A handle of the file, open for reading; creates it for all users where it is missing."""
    # O_NONBLOCK: opening a pipe of that name would wait forever.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    for _ in range(2):
        try:
            return os.open(file, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                handle = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o666)
                if hasattr(os, "fchmod"):
                    os.fchmod(handle, 0o666)
                return handle
    return os.open(file, flags)


def lock_file() -> Path:
    """Path of the machine's lock: the same for all users, who may have different TMPDIRs."""
    named = os.environ.get(LOCK_VARIABLE)
    if named:
        return Path(named) / LOCK_NAME
    shared = Path("/tmp")  # noqa: S108 - for being shared
    usable = sys.platform != "win32" and os.access(shared, os.W_OK)
    return (shared if usable else Path(tempfile.gettempdir())) / LOCK_NAME


def lock_identity() -> str:
    """The same text for all processes, of any node of a cluster, that share the machine's lock.

    Raises:
        OSError: the lock's file cannot be opened.
    """
    handle = _shared(lock_file())
    try:
        found = os.fstat(handle)
    finally:
        os.close(handle)
    try:
        system = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        system = platform.node()
    return f"{system} {found.st_dev} {found.st_ino}"


@contextlib.contextmanager
def the_folder(path: Path) -> Iterator[None]:
    """Create the folder where it is missing, and hold its lock against other runs.

    The folder itself is locked, so no lock file is left in it. Where the system cannot do that
    (Windows, some network file systems), only the machine's lock protects it.

    Raises:
        UserError: another run writes there, or the folder cannot be created.
    """
    from bench.schema.errors import ELSEWHERE, explained

    with explained(path, ELSEWHERE):
        path.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    with explained(path, ELSEWHERE):
        handle = os.open(path, os.O_RDONLY)
    try:
        if not taken_alone(handle):
            raise UserError(f"another run writes to {path}: name another --output")
        yield
    finally:
        os.close(handle)


def taken_alone(handle: int) -> bool:
    """Lock an open file or folder; False where another process has it.

    The lock ends when the handle is closed here and in every process that inherited it. What the
    system cannot lock is nobody's.
    """
    with contextlib.suppress(OSError):
        return bool(lock_descriptor(handle, blocking=False))
    return True
