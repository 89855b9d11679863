"""Files that are written whole or not at all, and only over what the suite itself wrote.

A name that the user chose may hold anything: what is there is looked at before it is replaced.
Not by a library: `atomicwrites` is no longer kept, and `boltons` has one name for the half-written
file, which two writers would share and a killed one leaves.
"""

from __future__ import annotations

import glob
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmnist_models.errors import UserError

# Every kind of file has its mark in its first bytes.
_HEAD = 64 * 1024
_PARTIAL = ".partial"
# Pictures of early revisions have only matplotlib's mark; one of these files is beside them.
_OF_THE_SUITE = ("plan.json", "profiles.jsonl", "comparison.csv", "check.json")
_MATPLOTLIB = b"Matplotlib version"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that the suite writes.

    Attributes:
        name: with its article, as a message says it.
        begin: its first bytes.
        mark: stands in the first bytes of each such file as well.
    """

    name: str
    begin: bytes
    mark: bytes = b""

    @classmethod
    def table(cls, columns: Sequence[str]) -> Kind:
        """A CSV file with these columns, or with the first three of them and others."""
        return cls("a table of this suite", ",".join(columns[:3]).encode())

    def is_of(self, file: Path) -> bool:
        """Whether a regular file is of this kind; True for an empty file, which holds no data."""
        with file.open("rb") as lines:
            head = lines.read(_HEAD)
        if not head or not head.startswith(self.begin):
            return not head
        if self is PICTURE and _MATPLOTLIB in head and self.mark not in head:
            return any((file.parent / name).exists() for name in _OF_THE_SUITE)
        return self.mark in head


PAGE = Kind("a page of this suite", b"<!doctype html>", b"<title>fmnist-bench: ")
PICTURE = Kind("a picture of this suite", b"\x89PNG\r\n", b"Source\0fmnist-bench")
CHECK_JSON = Kind("a check of this suite", b"{", b'"accuracy_margin"')
CHECK_JUNIT = Kind("a check of this suite", b"<?xml", b'name="fmnist-bench check"')
CHECK_MARKDOWN = Kind("a check of this suite", b"### fmnist-bench check")
ENVIRONMENT = Kind("an environment.json of this suite", b"{", b'"dataset_digest"')


def target_of(path: Path, kind: Kind, option: str = "--output") -> Path:
    """The file that writing `path` replaces: itself, or what a symbolic link leads to.

    Args:
        path: what the user named.
        kind: what alone may be replaced.
        option: the option that names it, as it is typed.

    Raises:
        UserError: something is there that the suite did not write as that kind: another file, a
            folder, a device, a pipe.
    """
    target = Path(os.path.realpath(path))
    remedy = f"name another {option}"
    try:
        mode = target.lstat().st_mode
        if stat.S_ISREG(mode):
            if not kind.is_of(target):
                raise UserError(
                    f"{path} is there already and is not {kind.name}: {remedy}, or move it away"
                )
            return target
    except (FileNotFoundError, NotADirectoryError):
        return target
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; {remedy}") from error
    what = "a folder" if stat.S_ISDIR(mode) else "a link to itself"
    if not stat.S_ISDIR(mode) and not stat.S_ISLNK(mode):
        what = "a device or a pipe, which a file would replace"
    raise UserError(f"cannot write {path}: it is {what}; {remedy}")


def refuse_unwritable(folder: Path, option: str, *, create: bool = True) -> None:
    """Refuse an output folder that cannot be written, before anything is measured.

    Args:
        folder: the folder; it is not created here.
        option: the option that names it, as it is typed.
        create: whether it may be created later.

    Raises:
        UserError: it cannot be written or created.
    """
    try:
        above = folder.absolute().parents if create else ()
        there = next((place for place in (folder, *above) if place.exists()), None)
    except OSError as error:
        raise UserError(f"{option} {folder}: {error.strerror}; name another {option}") from error
    why = "it is no folder"
    if there is None:
        why = "there is no such folder"
    elif there.is_dir():
        if os.access(there, os.W_OK | os.X_OK):
            return
        why = "no permission to write there"
    raise UserError(f"cannot write to {folder}: {why}; name another {option}")


def write_bytes(file: Path, content: bytes) -> None:
    """Replace a file in one move, so that a crash never leaves half of it.

    What a killed process left of an earlier try goes away.
    """
    clear_leftovers(file.parent, file.name)
    partial = file.with_name(f".{file.name}.{os.getpid()}{_PARTIAL}")
    try:
        with partial.open("wb") as out:
            out.write(content)
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for what only a process needs; it goes away with the context."""
    return tempfile.TemporaryDirectory(prefix="fmnist-bench-", ignore_cleanup_errors=True)


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the half-written files `name` of `folder` whose writers have ended."""
    pattern = name if name == "*" else glob.escape(name)
    for partial in folder.glob(f".{pattern}.*{_PARTIAL}"):
        writer = partial.name.removesuffix(_PARTIAL).rpartition(".")[2]
        if writer.isdigit() and not _is_alive(int(writer)):
            partial.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    import psutil

    return pid == os.getpid() or psutil.pid_exists(pid)
