"""Unpacks the files of a commit into a folder, and does not change the repository.

The files are read as Git stores them. `git archive` and a checkout would leave out or change files
as .gitattributes says (export-ignore, export-subst, filters, line ends).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from bench.schema.cells import few_of
from bench.schema.history import Revision
from fmnist_models.errors import UserError

# Variables that Git sets for hooks and scripts; with them, it ignores the folder that is named.
_OF_A_REPOSITORY = frozenset(
    (
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
    )
)
_LINK, _EXECUTABLE, _SUBMODULE = "120000", "100755", "160000"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of a commit: its mode, the object name of its content, and its path."""

    mode: str
    content: str
    path: PurePosixPath


def commit_of(folder: str, revision: str) -> str:
    """The commit that a revision names at present in the repository of `folder`.

    Raises:
        UserError: the folder is in no repository, the repository has no such revision, or Git is
            not installed.
    """
    wanted = f"{revision}^{{commit}}"
    return text_of(git(folder, "rev-parse", "--verify", "--end-of-options", wanted))


def told_of(folder: str, revision: str) -> Revision:
    """What the repository of `folder` tells of a revision.

    Raises:
        UserError: as of `commit_of`.
    """
    commit = commit_of(folder, revision)
    seconds, *parents = text_of(git(folder, "show", "-s", "--format=%ct %P", commit)).split()
    time = datetime.fromtimestamp(int(seconds), UTC).isoformat()
    return Revision(commit, time, tuple(parents))


def top_of(folder: str) -> Path:
    """The top folder of the repository of `folder`."""
    return Path(text_of(git(folder, "rev-parse", "--show-toplevel")))


def unpacked(folder: str, commit: str, below: Path) -> tuple[Path, tuple[str, ...]]:
    """Unpack `folder` of a commit into a folder below `below`, unless it is already there.

    A kill during this leaves no folder that looks complete.

    Returns:
        the folder, and warnings of contents that Git stores elsewhere (submodules, Git LFS).

    Raises:
        UserError: the commit, or the folder in it, is missing, or a path cannot be written.
    """
    inside = text_of(git(folder, "rev-parse", "--show-prefix"))
    # Git is called in the top folder, because the commit may not have `folder`.
    top = str(top_of(folder))
    tree = text_of(git(top, "rev-parse", "--verify", "--end-of-options", f"{commit}:{inside}"))
    target = below / f"{commit[:12]}-{tree[:12]}"
    entries = list(_entries(top, tree))
    if not target.exists():
        partial = below / f"{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            _write(top, entries, partial)
            partial.rename(target)
        except OSError as error:
            reason = f"{error.filename or partial}: {error.strerror or error}"
            raise UserError(f"{commit[:12]} of {folder} cannot be unpacked: {reason}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target, tuple(_lacking(entries, target))


def _entries(top: str, tree: str) -> Iterator[_Entry]:
    for line in git(top, "ls-tree", "-r", "-z", "--full-tree", tree).split(b"\0")[:-1]:
        facts, _, name = line.partition(b"\t")
        mode, _, content = facts.decode().split()
        path = PurePosixPath(os.fsdecode(name))
        # Such a path would write outside the folder.
        if path.is_absolute() or {"..", ".git"} & {part.lower() for part in path.parts}:
            raise UserError(f"{tree[:12]} of {top} holds the path {str(path)!r}: not unpacked")
        yield _Entry(mode, content, path)


def _write(top: str, entries: list[_Entry], target: Path) -> None:
    """Write every file; links last, so that no file is written through a link."""
    files = [entry for entry in entries if entry.mode != _SUBMODULE]
    files.sort(key=lambda entry: entry.mode == _LINK)
    with _contents(top) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for entry in files:
            process.stdin.write(f"{entry.content}\n".encode())
            process.stdin.flush()
            header = process.stdout.readline().split()
            if len(header) != 3:
                raise UserError(
                    f"{top}: Git has no content for {entry.path}; if the clone is partial or "
                    "shallow, fetch what it lacks"
                )
            content = process.stdout.read(int(header[2]) + 1)[:-1]
            _put(target / entry.path, entry.mode, content)


def _put(file: Path, mode: str, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if mode == _LINK:
        try:
            file.symlink_to(os.fsdecode(content))
        except (OSError, NotImplementedError):
            # Where the system has no links, Git does the same.
            file.write_bytes(content)
        return
    file.write_bytes(content)
    if mode == _EXECUTABLE:
        file.chmod(0o755)


def _lacking(entries: list[_Entry], target: Path) -> Iterator[str]:
    """A warning with a remedy for submodules, and one for files in Git LFS."""
    submodules = [str(entry.path) for entry in entries if entry.mode == _SUBMODULE]
    if submodules:
        yield (
            f"without the files of the {_named('submodule', submodules)}: if the model needs them, "
            "check the revision out with its submodules and name that folder, checkout=FOLDER"
        )
    pointers = [str(entry.path) for entry in entries if _is_pointer(target / entry.path)]
    if pointers:
        yield (
            f"Git LFS keeps the content of the {_named('file', pointers)}: if the model needs it, "
            "check the revision out with git lfs pull and name that folder, checkout=FOLDER"
        )


def _is_pointer(file: Path) -> bool:
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(len(_LFS_POINTER)) == _LFS_POINTER


def _named(what: str, names: list[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {few_of(names)}"


def _contents(top: str) -> subprocess.Popen[bytes]:
    """A process that reads object names, one per line, and prints their contents."""
    return subprocess.Popen(
        [_program(top), "-C", top, "cat-file", "--batch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environ(),
    )


def git(folder: str, *words: str) -> bytes:
    """The standard output of a Git command; raises UserError where it fails."""
    done = subprocess.run(
        [_program(folder), "-C", folder, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env=_environ(),
    )
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"checkout={folder}: git {words[0]} {words[-1]}: {''.join(last)}")
    return done.stdout


def _program(folder: str) -> str:
    git = shutil.which("git")
    if git is None:
        raise UserError(f"checkout={folder}: git is not installed")
    return git


def _environ() -> dict[str, str]:
    kept = {name: v for name, v in os.environ.items() if name not in _OF_A_REPOSITORY}
    return {**kept, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


def text_of(output: bytes) -> str:
    """The output of a Git command as text, without the last line feed."""
    return os.fsdecode(output).removesuffix("\n")
